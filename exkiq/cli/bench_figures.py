"""What `exkiq bench` measures, each figure by one small program run against the cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import exkiq
from exkiq.cli.bench_jobs import QUEUE, Noop, Stamp
from exkiq.clock import Clock
from exkiq.errors import OutcomeUnknown

IN_FLIGHT = 500
BULK_JOBS = 1_000
IDLE_STARTS = 300
LOOK_AGAIN_SECONDS = 0.02  # looking costs the nodes time, waiting costs the figure precision
END_SECONDS_MAX = 300.0  # for jobs that a cluster of one slow core would still end


@dataclass(frozen=True, slots=True)
class Figure:
    """One result: how many in how long, or how long each took."""

    count: int
    seconds: float
    each_ms: Sequence[float] = field(default=(), repr=False)

    @property
    def rate(self) -> float:
        """How many a second."""
        return self.count / self.seconds if self.seconds else 0.0

    def percentile_ms(self, percent: int) -> float | None:
        """How long the given share of them took at most."""
        if not self.each_ms:
            return None
        ordered = sorted(self.each_ms)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


class Bench:
    """Takes the figures; `STEPS` has their order, which matters.

    Enqueuing is measured into a paused queue, so that storing is not mixed with running; the
    runs are measured from a full queue that is resumed; then both at once.
    """

    def __init__(self, client: Any, clock: Clock, *, seconds: float, jobs: int) -> None:
        self._client = client
        self._clock = clock
        self._seconds = seconds
        self._jobs = jobs
        self._queue = exkiq.queue(QUEUE)

    def one_by_one(self) -> Figure:
        """One caller that waits for each job to be durable."""
        self._queue.pause()
        each_ms, begun = [], self._clock.monotonic()
        while (now := self._clock.monotonic()) < begun + self._seconds:
            Noop.perform_async()
            each_ms.append((self._clock.monotonic() - now) * 1000)
        return self._figure(len(each_ms), begun, each_ms)

    def in_flight(self) -> Figure:
        """Many callers at once in one process."""
        begun = self._clock.monotonic()
        each_ms = asyncio.run(self._keep_in_flight(begun + self._seconds))
        return self._figure(len(each_ms), begun, each_ms)

    async def _keep_in_flight(self, end: float) -> list[float]:
        each_ms: list[float] = []

        async def one_after_another() -> None:
            while (now := self._clock.monotonic()) < end:
                await Noop.aperform_async()
                each_ms.append((self._clock.monotonic() - now) * 1000)

        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(one_after_another())
        return each_ms

    def bulk(self) -> Figure:
        """One caller with a thousand jobs each time."""
        count, begun = 0, self._clock.monotonic()
        while self._clock.monotonic() < begun + self._seconds and count < self._jobs:
            count += self._enqueue(BULK_JOBS)
        return self._figure(count, begun)

    def executed(self) -> Figure:
        """Jobs that all wait already."""
        while self._queue.clear():
            continue
        self._enqueue(self._jobs)
        aim = self._succeeded() + self._jobs
        begun = self._clock.monotonic()
        self._queue.resume()
        self._await_succeeded(aim)
        return self._figure(self._jobs, begun)

    def through(self) -> Figure:
        """Jobs that are run while they come in."""
        aim, begun = self._succeeded() + self._jobs, self._clock.monotonic()
        self._enqueue(self._jobs)
        self._await_succeeded(aim)
        return self._figure(self._jobs, begun)

    def idle(self) -> Figure:
        """From the call to the first line of the job, one job at a time."""
        each_ms, begun = [], self._clock.monotonic()
        for _ in range(IDLE_STARTS):
            now = self._clock.monotonic()
            started = Stamp.call(timeout=10.0)
            each_ms.append((started - now) * 1000)
        return self._figure(len(each_ms), begun, each_ms)

    def _figure(self, count: int, begun: float, each_ms: Sequence[float] = ()) -> Figure:
        return Figure(count, self._clock.monotonic() - begun, each_ms)

    def _enqueue(self, count: int) -> int:
        for first in range(0, count, BULK_JOBS):
            Noop.perform_bulk([()] * min(BULK_JOBS, count - first))
        return count

    def _succeeded(self) -> int:
        return int(self._client.request("stats", timeout=5.0)["succeeded"])

    def _await_succeeded(self, aim: int) -> None:
        end = self._clock.monotonic() + END_SECONDS_MAX
        while self._succeeded() < aim:
            if self._clock.monotonic() > end:
                raise OutcomeUnknown(f"the jobs had not ended after {END_SECONDS_MAX:g} s")
            time.sleep(LOOK_AGAIN_SECONDS)


STEPS: dict[str, Callable[[Bench], Figure]] = {
    "enqueue, one by one": Bench.one_by_one,
    f"enqueue, {IN_FLIGHT} in flight": Bench.in_flight,
    f"enqueue, {BULK_JOBS:,} a call": Bench.bulk,
    "run, from a full queue": Bench.executed,
    "enqueue and run at once": Bench.through,
    "from enqueue to start": Bench.idle,
}
