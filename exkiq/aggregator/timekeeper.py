"""When the log must be told that time has passed.

The machine reads no clock: what is due is promoted, and what is old is dropped, by a DUE
operation whose entry carries the leader's time.
"""

from __future__ import annotations

from exkiq.clock import Clock
from exkiq.machine import Machine

SPACING_MS = 50
"""Between two DUE on their own: results expire one by one, an entry for each is no use."""

LOOK_MS = 500
"""The wall clock may jump while one sleeps: never sleep longer than this for a deadline."""


class Timekeeper:
    """Says when a DUE operation is wanted; at most one is on its way."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._in_flight: bytes | None = None
        self._not_before_ms = 0

    @property
    def is_in_flight(self) -> bool:
        """Is a DUE on its way?"""
        return self._in_flight is not None

    def is_due(self, machine: Machine) -> bool:
        """Would a DUE have something to do by now?"""
        deadline_ms = machine.next_deadline_ms()
        return (
            deadline_ms is not None
            and self._in_flight is None
            and deadline_ms <= self._now_ms(machine)
        )

    def is_wanted(self, machine: Machine) -> bool:
        """As `is_due`, and worth an entry of its own."""
        return self.is_due(machine) and self._clock.monotonic() * 1000 >= self._not_before_ms

    def proposed(self, pid: bytes) -> None:
        """That DUE is on its way."""
        self._in_flight = pid

    def applied(self, machine: Machine, pid: bytes) -> None:
        """An operation was applied. After a DUE of ours that left nothing behind: a pause."""
        if pid != self._in_flight:
            return
        self._in_flight = None
        deadline_ms = machine.next_deadline_ms()
        is_more_left = deadline_ms is not None and deadline_ms <= machine.now_ms
        pause_ms = 0 if is_more_left else SPACING_MS
        self._not_before_ms = round(self._clock.monotonic() * 1000) + pause_ms

    def next_wake(self, machine: Machine) -> float | None:
        """When to look again, in seconds of the monotonic clock."""
        deadline_ms = machine.next_deadline_ms()
        if deadline_ms is None or self._in_flight is not None:
            return None
        wait_ms = min(max(0, deadline_ms - self._now_ms(machine)), LOOK_MS)
        return max(self._clock.monotonic() + wait_ms / 1000, self._not_before_ms / 1000)

    def _now_ms(self, machine: Machine) -> int:
        return max(self._clock.now_ms(), machine.now_ms)
