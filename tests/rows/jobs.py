"""Workers for the tests of the requirement rows."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import exkiq
from exkiq import Worker, current_job, task
from tests.cluster.jobs import ledger, note
from tests.rows.session_app import Account, Block, Climb, Diary, Kept, Linger, Quick

__all__ = ["Account", "Block", "Climb", "Diary", "Kept", "Linger", "Quick", "ledger", "note"]

HOLD_SECONDS_MAX = 20.0


class Echo(Worker, queue="echo"):
    def perform(self, *args: Any, **kwargs: Any) -> list[Any]:
        return [list(args), kwargs]


class AsyncEcho(Worker, queue="echo"):
    async def perform(self, *args: Any, **kwargs: Any) -> list[Any]:
        await asyncio.sleep(0)
        return [list(args), kwargs]


class Plain(Worker):
    """No options at all."""

    def perform(self, first: int, second: int = 0) -> int:
        return first + second


class Once(Worker, queue="once", retries=0):
    def perform(self) -> None:
        note("start", self.job.id)
        raise ValueError("never")


class Broken(Worker, queue="broken", retries=1, backoff=0.05):
    def perform(self, text: str = "broken") -> None:
        note("start", self.job.id, self.job.attempt)
        raise RuntimeError(text)


class SecondTime(Worker, queue="broken", retries=3):
    """Fails at its first attempt."""

    def perform(self) -> int:
        if self.job.attempt == 1:
            raise RuntimeError("not yet")
        return self.job.attempt


class Note(Worker, queue="notes"):
    def perform(self, seconds: float = 0.0) -> None:
        note("start", self.job.id, time.time())
        time.sleep(seconds)


class Hold(Worker, queue="holds"):
    """Runs until a file is there."""

    def perform(self, gate: str) -> int:
        note("start", self.job.id, self.job.attempt, os.getpid())
        end = time.monotonic() + HOLD_SECONDS_MAX
        while not Path(gate).exists() and time.monotonic() < end:
            time.sleep(0.01)
        return os.getpid()


def runs_of(job: exkiq.Job) -> list[int]:
    """The process of each start of a holding job."""
    return [int(row[3]) for row in ledger() if row[:2] == ["start", job.id]]


def is_held(job: exkiq.Job) -> bool:
    """Whether it runs by the log, and in its process too: that is a moment later."""
    return job.status().state == "running" and bool(runs_of(job))


class Killer(Worker, queue="holds", retries=5, max_lost=1):
    """Kills the node that runs it."""

    def perform(self) -> None:
        os.kill(os.getppid(), 9)
        time.sleep(5)


class Counting(Worker, queue="counting"):
    """Counts the jobs of its instance; `None` is a value too."""

    def init(self) -> dict[str, int]:
        return {"jobs": 0, "thread": threading.get_ident()}

    def perform(self, *args: Any) -> list[Any]:
        self.state["jobs"] += 1
        return [list(args), self.state["jobs"]]


class Stateless(Worker, queue="counting"):
    def perform(self, value: int) -> list[Any]:
        return [value, self.state]


class Relay(Worker, queue="relay"):
    """A job that enqueues a job."""

    def perform(self, number: int) -> str:
        return Echo.perform_async(number).id


class AsyncRelay(Worker, queue="relay"):
    async def perform(self, number: int) -> str:
        return (await Echo.aperform_async(number)).id


@exkiq.task(queue="functions", retries=0)
def whoami() -> list[Any]:
    job = current_job()
    assert job is not None
    return [job.id, job.attempt, job.fence]


class Heavy(Worker, queue="heavy"):
    def perform(self) -> None:
        time.sleep(0.005)


class Light(Worker, queue="light"):
    def perform(self) -> None:
        time.sleep(0.005)


class Methods(Worker, queue="functions"):
    @task
    def double(self, number: int) -> int:
        return 2 * number


class Telling(Worker, queue="holds"):
    """Says how far it is, then runs until a file is there."""

    def perform(self, gate: str) -> None:
        self.progress({"done": 1, "of": 2})
        Hold().perform(gate)


class Returning(Worker, queue="echo", retries=0):
    """Returns what cannot be kept."""

    def perform(self, kind: str) -> object:
        return "x" * 300_000 if kind == "large" else object()
