"""Queues that have jobs and that no node serves: one warning for each."""

from __future__ import annotations

from collections.abc import Container

from exkiq.clock import Clock
from exkiq.machine import Machine
from exkiq.telemetry import log

LOOK_S = 1.0

GRACE_S = 3.0
"""A new leader has not heard yet who serves what."""


class Unserved:
    """Looks now and then for work that nobody can take."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.next_look = clock.monotonic() + GRACE_S
        self._warned: set[str] = set()

    @property
    def is_due(self) -> bool:
        """Is it time to look again?"""
        return self._clock.monotonic() >= self.next_look

    def look(self, machine: Machine, served: Container[str]) -> None:
        """Warn of each queue that has jobs and is not in `served`; of one again only after it
        was served in between."""
        self.next_look = self._clock.monotonic() + LOOK_S
        self._warned = {queue for queue in self._warned if queue not in served}
        for queue in machine.queues:
            if queue not in served and queue not in self._warned and machine.waiting_count(queue):
                self._warned.add(queue)
                log.warning("queue %r has jobs, and no node serves it: they wait", queue)
