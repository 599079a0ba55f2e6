"""The jobs that `exkiq bench` runs."""

from __future__ import annotations

from exkiq.clock import SystemClock
from exkiq.worker import Worker

QUEUE = "bench"


class Noop(Worker, queue=QUEUE, result_ttl=0):
    """Does nothing: what is left is what the queue itself costs."""

    def perform(self) -> None:
        return


class Stamp(Worker, queue=QUEUE):
    """Tells when it started, on the clock that all processes of this machine share."""

    def perform(self) -> float:
        return SystemClock().monotonic()
