"""Jobs of local queues in the tests of those who use them: kept, or run at once, as all others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import exkiq
from exkiq import Local, Worker, errors, task
from exkiq.local.registry import registry
from exkiq.testing import Fake, inline
from tests.testing.shop import ran, whoami


@pytest.fixture(autouse=True)
def _no_queue_is_left() -> Iterator[None]:
    yield
    registry.forget()


class Shrink(Worker, queue=Local("thumbnails"), retries=1):
    def perform(self, name: str) -> str:
        ran.append(name)
        if self.job.attempt == 1:
            raise ValueError(name)
        return f"small {name}"


def test_jobs_of_local_queues_are_kept(kept: Fake) -> None:
    """A test that fakes its jobs would run them all the same, in threads and in real time."""
    before = threading.active_count()
    job = Shrink.perform_async("a.png")
    kept.assert_enqueued(Shrink, "a.png", queue=Local("thumbnails"), times=1)
    assert (ran, threading.active_count()) == ([], before)
    assert exkiq.queue(Local("thumbnails")).stats().queued == 1
    assert [ended.state for ended in kept.drain(Local("thumbnails"))] == ["succeeded"]
    assert (ran, job.result()) == (["a.png"] * 2, "small a.png")
    assert Local("thumbnails").job(job.id).status().attempt == 2
    assert Local("thumbnails").start() == Local("thumbnails")
    assert registry._households == {}


def test_what_nobody_can_import_is_kept_and_run_too(kept: Fake) -> None:
    """A lambda would run outside of tests only."""
    twice = task(queue=Local("any"))(lambda number: 2 * number)
    thrice = task(queue=Local("any"))(lambda number: 3 * number)
    jobs = [twice.perform_async(1), thrice.perform_async(1)]
    assert [found.id for found in kept.enqueued(thrice)] == [jobs[1].id]
    kept.assert_enqueued(twice, 1, times=1)
    assert [job.result() for job in jobs] == [2, 3]
    assert thrice.call(4) == 12


def test_what_is_refused_outside_is_refused_here(kept: Fake, tmp_path: Path) -> None:
    """A test would pass for a job that no queue takes."""
    durable = Local("strict", durable=tmp_path / "strict.db")
    for handle in (task(queue=durable)(lambda: 1), task(queue=Local("q", node="n2"))(lambda: 1)):
        with pytest.raises(errors.SerializationError, match="lambda"):
            handle.perform_async()
    with pytest.raises(errors.NoQueueError, match="slip"):
        exkiq.queue(Local("slip"))
    whoami.set(queue=durable).perform_async()
    assert kept.jobs[0].queue == "strict"
    assert list(tmp_path.iterdir()) == []


def test_jobs_for_a_node_are_kept(kept: Fake) -> None:
    """A test would need that node."""
    job = whoami.set(queue=Local("desk", node="n2")).perform_async()
    assert job.result() == [job.id, 1, "desk"]
    assert exkiq.queue(Local("desk", node="n2")).stats().succeeded_total == 1


def test_inline_runs_them_where_they_are_enqueued() -> None:
    """A test of a local job would have to wait for a thread."""
    with inline():
        here = task(queue=Local("any"))(lambda: threading.get_ident()).perform_async()
        assert here.result(timeout=0) == threading.get_ident()
    assert registry._households == {}
    there = task(queue=Local("any"))(lambda: threading.get_ident())
    assert there.call() != threading.get_ident()
