"""Workers for the rows about what must not be lost, and jobs that fail in every way there is."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

from exkiq import Worker, current_job
from exkiq.failure_modes import FailureMode
from tests.rows.jobs import Echo, Hold, Note, Plain, note

__all__ = ["Echo", "Hold", "Note", "Plain"]

BAD_TIMEOUT = 0.2


class Fenced(Worker, queue="fenced", retries=1, backoff=0.0):
    """Notes by what a second run can be told apart, as both ways give it."""

    def perform(self) -> list[Any]:
        job = current_job()
        assert job is not None
        note("fenced", self.job.id, self.job.attempt, self.job.fence)
        if self.job.attempt == 1:
            raise ValueError("once more")
        return [job.id, job.attempt, job.fence]


class LateDeath(Worker, queue="fenced"):
    """Succeeds; its process dies a moment later."""

    def perform(self, seconds: float) -> int:
        threading.Timer(seconds, os._exit, (9,)).start()
        return os.getpid()


class Bad(Worker, queue="chaos", retries=0):
    def perform(self, kind: str) -> object:
        match kind:
            case "exception":
                raise ValueError("bad")
            case "exit":
                raise SystemExit(3)
            case "interrupt":
                raise KeyboardInterrupt
            case "cancelled":
                raise asyncio.CancelledError
            case "unencodable":
                return object()
            case "death":
                os._exit(9)
            case "segfault":
                os.kill(os.getpid(), 11)  # a segfault
        return None


class BadAsync(Worker, queue="chaos", retries=0):
    async def perform(self, kind: str) -> object:
        match kind:
            case "async exception":
                raise ValueError("bad")
            case "async cancelled":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(1)
            case "async exit":
                raise SystemExit(3)
        return object()


class TooLong(Worker, queue="chaos", retries=0, timeout=BAD_TIMEOUT):
    def perform(self, kind: str) -> None:
        time.sleep(60)


class TooLongAsync(Worker, queue="chaos", retries=0, timeout=BAD_TIMEOUT):
    async def perform(self, kind: str) -> None:
        await asyncio.sleep(60)


class Undecided(FailureMode):
    def decide(self, job: Any, error: BaseException, failures: int, chance: float) -> Any:
        return ["no", "such", "decision"]


class BadDecision(Worker, queue="chaos", backoff=Undecided()):
    def perform(self, kind: str) -> None:
        raise ValueError("bad")


class RaisesBefore(Worker, queue="chaos", retries=0):
    def before(self, job: Any) -> None:
        raise ValueError("bad")

    def perform(self, kind: str) -> None:
        """It does not come to this."""


class RaisesAfter(Worker, queue="chaos", retries=0):
    def perform(self, kind: str) -> None:
        raise ValueError("bad")

    def after(self, job: Any, outcome: Any) -> None:
        raise ValueError("worse")


class Arity(Worker, queue="chaos", retries=0):
    def perform(self) -> None:
        """It is given an argument."""


class Good(Worker, queue="chaos"):
    def perform(self) -> int:
        return os.getppid()


LIGHT: list[tuple[Any, str]] = [
    (Bad, "exception"),
    (Bad, "exit"),
    (Bad, "interrupt"),
    (Bad, "cancelled"),
    (Bad, "unencodable"),
    (BadAsync, "async exception"),
    (BadAsync, "async cancelled"),
    (BadAsync, "async exit"),
    (TooLongAsync, "async timeout"),
    (BadDecision, "bad decision"),
    (RaisesBefore, "raises before"),
    (RaisesAfter, "raises after"),
    (Arity, "wrong arity"),
]

HEAVY: list[tuple[Any, str]] = [(Bad, "death"), (Bad, "segfault"), (TooLong, "timeout")]
"""Each of these costs a child process."""


def bad_jobs(count: int, heavy: int) -> list[tuple[Any, str]]:
    """So many jobs of every kind, mixed; `heavy` of them cost their child."""
    light = [LIGHT[number % len(LIGHT)] for number in range(count - heavy)]
    every = max(1, count // max(1, heavy))
    for number in range(heavy):
        light.insert(number * every, HEAVY[number % len(HEAVY)])
    return light
