"""Whether a child has begun what it was given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from exkiq.clock import Clock
from exkiq.pool.assignment import Assignment

# A child that reads a START later than this part of the time leaves its jobs alone: so what is
# begun is always confirmed before the time is over.
BEGIN_PART = 0.5

# What was said in time may still wait to be read, where this node's own loop was held up.
READ_SECONDS = 0.02


class Confirming:
    """The batches of one child that are not confirmed yet, and one timer over all of them.

    Units: seconds, from the order to its confirmation. `late` is called with the jobs of each
    batch that was not confirmed in time.
    """

    def __init__(
        self, seconds: float, clock: Clock, late: Callable[[Sequence[Assignment]], None]
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._late = late
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._waiting: dict[int, tuple[float, Sequence[Assignment]]] = {}
        self._given_up: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None

    def sent(self, jobs: Sequence[Assignment]) -> tuple[int, int]:
        """The number of this batch, and when it has to be begun in monotonic milliseconds."""
        now = self._clock.monotonic()
        self._number += 1
        self._waiting[self._number] = (now + self._seconds, jobs)
        if self._timer is None:
            self._wait(self._seconds)
        return self._number, int((now + self._seconds * BEGIN_PART) * 1000)

    def started(self, number: int) -> bool:
        """The child has begun that batch; False if it was given to others by now."""
        self._waiting.pop(number, None)
        return number not in self._given_up

    def stop(self) -> None:
        """The child is gone."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds + READ_SECONDS, self._look)

    def _look(self) -> None:
        """Give up what is over its time; batches come and go in the order of their times."""
        self._timer = None
        now = self._clock.monotonic()
        for number, (deadline, jobs) in list(self._waiting.items()):
            if deadline > now:
                self._wait(deadline - now)
                return
            del self._waiting[number]
            self._given_up.add(number)
            self._late(jobs)
