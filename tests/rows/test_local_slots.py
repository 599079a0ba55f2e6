"""Rows about where jobs of local queues run, and what becomes of them when they fail."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import exkiq
from exkiq import Local, task
from exkiq.declared import declared
from exkiq.dispatchers import LRU, MRU, Dispatcher, Offer
from exkiq.errors import (
    JobFailed,
)
from exkiq.failure_modes import FailureMode
from exkiq.local.registry import registry
from tests.rows.held import Gate
from tests.rows.local_jobs import Note, double

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _no_queue_is_left() -> Iterator[None]:
    yield
    registry.forget()


def test_HD_09_jobs_of_a_local_queue_run_in_threads_and_on_a_loop_of_this_process() -> None:
    """A local job would need a child process, or block the caller's thread or loop."""

    @task(queue=Local("where"))
    def plain() -> list[Any]:
        return [os.getpid(), threading.get_ident()]

    @task(queue=Local("where"))
    async def on_loop() -> list[Any]:
        await asyncio.sleep(0)
        return [os.getpid(), threading.get_ident()]

    [(pid, thread), (apid, athread)] = plain.call(), on_loop.call()
    assert pid == apid == os.getpid()
    assert len({thread, athread, threading.get_ident()}) == 3


def test_HD_09_a_timeout_fails_the_job_and_its_slot_goes_on() -> None:
    """A thread that hangs would hold its slot for ever."""
    gate, wait = Gate.on(Local("slow", concurrency=1))
    job = wait.set(timeout=0.05, retries=0).perform_async()
    with pytest.raises(JobFailed, match="JobTimeout"):
        job.result()
    assert double.set(queue=Local("slow")).call(1) == 2
    gate.is_open.set()


# ---- HL-14: LRU and MRU ------------------------------------------------------------------------


def slots_used(queue: Local, jobs: int) -> list[object]:
    """How many jobs the slot of each job had had by then."""
    return [len(Note.set(queue=queue).call(number)) for number in range(jobs)]


def test_HL_14_a_local_queue_takes_the_slot_that_was_free_longest() -> None:
    """A slot would be used while others have rested longer."""
    assert slots_used(Local("lru", concurrency=3), 6) == [1, 1, 1, 2, 2, 2]
    assert isinstance(registry.terms_of("anything").make_dispatcher(), LRU)


def test_HL_14_mru_takes_the_slot_that_was_freed_last() -> None:
    """A dispatcher that was asked for would not be used."""
    assert slots_used(Local("mru", concurrency=3, dispatcher=MRU), 3) == [1, 2, 3]


class Crashing(Dispatcher):
    """Works three times."""

    def __init__(self) -> None:
        self.free: list[str] = []
        self.used = 0

    def available(self) -> bool:
        return bool(self.free)

    def check_in(self, slot: str) -> None:
        self.free.append(slot)

    def check_out(self, job: Offer) -> str | None:
        self.used += 1
        if self.used > 3:
            raise ZeroDivisionError
        return self.free.pop()

    def remove(self, slot: str) -> None: ...

    def known(self, slot: str) -> bool:
        return True


def test_HL_14_a_dispatcher_that_raises_does_not_stop_the_queue() -> None:
    """A slip in a dispatcher would end the queue."""
    queue = Local("crash", concurrency=2, dispatcher="tests.rows.test_local_slots:Crashing")
    assert len(slots_used(queue, 6)) == 6


# ---- HD-T7: modes ------------------------------------------------------------------------------


class Decided(FailureMode):
    def __init__(self, decision: list[Any]) -> None:
        self.decision = decision

    def decide(self, job: Any, error: BaseException, failures: int, chance: float) -> list[Any]:
        return self.decision if failures == 1 else ["failed"]


@pytest.mark.parametrize(
    ("decision", "runs", "state"),
    [
        (["retry", 1], 2, "failed"),
        (["requeue"], 2, "failed"),
        (["failed"], 1, "failed"),
        (["abandon"], 1, "failed"),
        (["move", "modes-b"], 2, "failed"),
    ],
)
def test_HD_T7_every_mode_works_in_a_local_queue(
    decision: list[Any], runs: int, state: str
) -> None:
    """A failure mode would work in the cluster only."""
    ran: list[str] = []

    @task(queue=Local("modes"), backoff=Decided(decision))
    def fail() -> None:
        job = exkiq.current_job()
        assert job is not None
        ran.append(job.queue)
        if decision[0] == "move" and len(ran) == 2:
            return
        raise ValueError

    job = fail.perform_async()
    if decision[0] == "move":
        assert job.result() is None
        assert ran == ["modes", "modes-b"]
        assert exkiq.queue(Local("modes-b")).stats().succeeded_total == 1
        return
    with pytest.raises(JobFailed):
        job.result()
    assert [len(ran), job.status().state] == [runs, state]


def test_HD_T7_a_mode_of_the_clusters_queue_is_not_that_of_the_local_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is declared of a queue would hold for another one that is called the same."""
    monkeypatch.setattr(declared, "queues", declared.queues)  # as it was, afterwards
    exkiq.queue("same", failure_mode=Decided(["abandon"]))

    @task(queue=Local("same"), retries=1, backoff=0.0)
    def second_time() -> int:
        job = exkiq.current_job()
        assert job is not None
        if job.attempt == 1:
            raise ValueError
        return job.attempt

    assert second_time.call() == 2
