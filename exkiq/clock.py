"""The only place that reads a clock. Everything else is handed one.

Two clocks with two names: `now_ms` is wall time, for people and for the log; `monotonic` is
for timeouts and never goes back. They are never mixed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """What every room that waits or stamps is handed."""

    def now_ms(self) -> int:
        """Wall time in milliseconds since 1970."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to, for our tests; users have that of `exkiq.testing`."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._elapsed_ms = 0

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return self._elapsed_ms / 1000

    def advance(self, ms: int) -> None:
        """Both clocks go on by `ms` milliseconds."""
        self._now_ms += ms
        self._elapsed_ms += ms

    def step_wall(self, ms: int) -> None:
        """Only the wall clock jumps, as when an operator sets it."""
        self._now_ms += ms


def countdown(clock: Clock, timeout: float | None) -> Callable[[], float | None]:
    """What is left of `timeout` whenever it is called; None of one that is None."""
    if timeout is None:
        return lambda: None
    end = clock.monotonic() + timeout
    return lambda: max(0.0, end - clock.monotonic())
