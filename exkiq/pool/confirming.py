"""Whether a child has begun what it was given."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from exkiq.clock import Clock
from exkiq.pool.assignment import Assignment
from exkiq.pool.mark import Mark

# A child leaves a START alone that it takes up later than this part of the time. It sets the mark
# first and looks at the clock then: so where the mark is not set when the time is over, nothing
# will be begun any more.
BEGIN_PART = 0.5


class Confirming:
    """The batches of one child that it may not have taken up yet, and one timer over all of them.

    What it has taken up it begins, or says at once that it does not. Units: seconds, from the
    order to its mark. `late` is called with the jobs of each batch that it did not take up in
    time. Without a mark to look at no batch is ever late.
    """

    def __init__(
        self, seconds: float, clock: Clock, late: Callable[[Sequence[Assignment]], None]
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._late = late
        self._loop = asyncio.get_running_loop()
        self._mark: Mark | None = None
        self._number = 0
        self._waiting: deque[tuple[int, float, Sequence[Assignment]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, mark: Mark) -> None:
        """What the child sets. Nothing was sent yet."""
        self._mark = mark

    def sent(self, jobs: Sequence[Assignment], now: float) -> tuple[int, int]:
        """The number of this batch, and when it has to be begun in monotonic milliseconds.

        Units: `now` in seconds of the monotonic clock.
        """
        self._number += 1
        if self._mark is not None:
            self._forget(self._mark.number)
            self._waiting.append((self._number, now + self._seconds, jobs))
            if self._timer is None:
                self._wait(self._seconds)
        return self._number, int((now + self._seconds * BEGIN_PART) * 1000)

    def stop(self) -> list[Assignment]:
        """The child is gone; returns what it never took up."""
        if self._mark is not None:
            self._forget(self._mark.number)
        rest = [job for _, _, jobs in self._waiting for job in jobs]
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        return rest

    def _wait(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._look)

    def _forget(self, number: int) -> None:
        """What the child has taken up; it does so in their order."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= number:
            waiting.popleft()

    def _look(self) -> None:
        """Give up what is over its time; batches come and go in the order of their times."""
        self._timer = None
        if self._mark is None:
            return
        now = self._clock.monotonic()
        self._forget(self._mark.number)
        while self._waiting:
            _, deadline, jobs = self._waiting[0]
            if deadline > now:
                self._wait(deadline - now)
                return
            self._waiting.popleft()
            self._late(jobs)
