"""The time that a leader stamps on entries: wall time that neither stands still nor goes back.

The machine's time is the highest stamp so far. After a wall clock that jumped forward was set
right, plain wall time would stay below it, and every delay would wait until it has caught up.
So the log's time goes on at the pace of the monotonic clock from the highest stamp.
"""

from __future__ import annotations

from collections.abc import Callable

from exkiq.clock import Clock


class LogClock:
    """A `Clock` on another one; `floor` gives the machine's time in milliseconds."""

    def __init__(self, clock: Clock, floor: Callable[[], int]) -> None:
        self._clock, self._floor = clock, floor
        self._base_ms = 0
        self._base_at = clock.monotonic()

    def now_ms(self) -> int:
        """Milliseconds since 1970, as far as the log is concerned."""
        now = self._clock.monotonic()
        ahead = self._base_ms + int((now - self._base_at) * 1000)
        latest = max(self._clock.now_ms(), self._floor())
        if latest <= ahead:
            return ahead
        self._base_ms, self._base_at = latest, now
        return latest

    def monotonic(self) -> float:
        return self._clock.monotonic()
