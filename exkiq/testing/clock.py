"""The time of a test: it stands still until it is told to go on."""

from __future__ import annotations

import datetime

from exkiq.clock import SystemClock
from exkiq.options import check_duration

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MILLISECOND = datetime.timedelta(milliseconds=1)


class ManualClock:
    """A clock that goes on by hand.

    Shapes: `start` is an aware datetime, else the moment it is made.
    Errors: ValueError for a moment without a time zone.
    """

    def __init__(self, start: datetime.datetime | None = None) -> None:
        if start is not None and start.utcoffset() is None:
            raise ValueError(f"start must be an aware datetime, {start!r} has no time zone")
        self._start_ms = SystemClock().now_ms() if start is None else (start - EPOCH) // MILLISECOND
        self._elapsed_ms = 0

    def __repr__(self) -> str:
        return f"<ManualClock {self.now.isoformat()}>"

    @property
    def now(self) -> datetime.datetime:
        """The moment it shows, in UTC."""
        return EPOCH + self.now_ms() * MILLISECOND

    def advance(self, seconds: float | datetime.timedelta) -> None:
        """Go on by so many seconds, 0 or more, or by a timedelta. Errors: ValueError."""
        self._elapsed_ms += check_duration("advance", seconds)

    def now_ms(self) -> int:
        """Wall time in milliseconds since 1970."""
        return self._start_ms + self._elapsed_ms

    def monotonic(self) -> float:
        """Seconds since it was made."""
        return self._elapsed_ms / 1000
