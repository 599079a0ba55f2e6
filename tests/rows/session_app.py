"""Session jobs for the tests of the rows, in the app of all their nodes."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import exkiq
from exkiq import SessionJob, Worker
from exkiq.cli.run_job_app import Kept
from tests.cluster.jobs import ledger, note

__all__ = ["Account", "Block", "Climb", "Diary", "Kept", "Linger", "Quick"]


class Quick(SessionJob, queue="sessions"):
    """Nothing of its own."""


class Account(SessionJob, queue="sessions"):
    """A sum; a handler is told by its event what to do besides."""

    def on_start(self) -> int:
        if self.session_id == "refused":
            raise RuntimeError("no account for you")
        return 0

    def on_update(self, event: Any) -> Any:
        match event:
            case ["fail", text]:
                raise RuntimeError(text)
            case ["give", "a set"]:
                return {1, 2}
            case ["give", size]:
                return "x" * size
            case ["save", value]:
                self.checkpoint(value)
        return self.session_state + event

    def on_finish(self) -> int:
        if self.session_state < 0:
            raise RuntimeError("still in debt")
        return self.session_state


def is_open(gate: str) -> bool:
    return Path(gate).exists()


async def opened(gate: str) -> None:
    """Return when a file is there, or after ten seconds."""
    for _ in range(1_000):
        if is_open(gate):
            return
        await asyncio.sleep(0.01)


class Diary(SessionJob, queue="sessions", retries=1, backoff=0.05):
    """Async handlers that write down when they begin and end."""

    async def on_start(self) -> list[Any]:
        return []

    async def on_update(self, event: Any) -> list[Any]:
        number, gate = event
        note("diary", self.session_id, "begins", number, self.job.attempt)
        if gate == "once" and self.job.attempt == 1:
            raise RuntimeError("not yet")
        if gate not in (None, "once"):
            await opened(gate)
        note("diary", self.session_id, "ends", number, self.job.attempt)
        self.session_state.append(number)
        state: list[Any] = self.session_state
        return state


class Climb(Worker, queue="climbs"):
    """Counts steps until a file is there, and saves each."""

    async def perform(self, gate: str) -> int:
        job, step = self.job, self.job.checkpoint or 0
        note("climb", job.id, "starts", step, job.attempt, job.lost, os.getppid(), time.time())
        try:
            while not is_open(gate):
                step += 1
                self.checkpoint(step)
                note("climb", job.id, "saves", step)
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            note("climb", job.id, "stops", step, time.time())
            raise
        return step


class Linger(Worker, queue="lingers"):
    """Takes its time without using any."""

    async def perform(self, seconds: float) -> None:
        note("linger", self.job.id)
        await asyncio.sleep(seconds)


class Block(Worker, queue="lingers"):
    """Holds up the loop that others are on, too."""

    async def perform(self) -> None:
        note("block", self.job.id)
        time.sleep(1.5)  # noqa: ASYNC251


class Begun(NamedTuple):
    """One start of a climbing job."""

    step: int
    attempt: int
    lost: int
    node: int  # the process of its node
    at: float


def starts_of(job: exkiq.Job) -> list[Begun]:
    rows = [row[3:] for row in ledger() if row[:3] == ["climb", job.id, "starts"]]
    return [Begun(*map(int, row[:4]), float(row[4])) for row in rows]


def saves_of(job: exkiq.Job) -> list[int]:
    return [int(row[3]) for row in ledger() if row[:3] == ["climb", job.id, "saves"]]


def stop_of(job: exkiq.Job) -> tuple[int, float]:
    (row,) = [row for row in ledger() if row[:3] == ["climb", job.id, "stops"]]
    return int(row[3]), float(row[4])
