"""Whose turn it is among the queues that have jobs: smooth weighted round robin.

Each queue has a place on one line; the one furthest back has its turn and then steps ahead by
LAP / weight. A queue of weight 3 so has three turns while one of weight 1 has one, spread
evenly. A queue that was away starts where the others are now: it catches up on nothing and,
since its own steps are remembered, gains nothing by being away for a moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush

LAP = 720_720  # divisible by every weight up to 16: their shares are exact
WEIGHT_MAX = 1_000


class Fairness:
    """The line of the queues. Kept over all plans of one leadership."""

    def __init__(self) -> None:
        self._place: dict[str, int] = {}
        self._line: list[tuple[int, str]] = []
        self._weights: Mapping[str, int] = {}
        self._here = 0

    def begin(self, weights: Mapping[str, int]) -> None:
        """A new round among these queues."""
        self._weights = weights
        here, place = self._here, self._place
        self._place = {queue: at for queue, at in place.items() if at > here or queue in weights}
        self._line = [(max(place.get(queue, here), here), queue) for queue in weights]
        heapify(self._line)

    def take(self) -> str | None:
        """The queue whose turn it is. It is out of the round unless `served` is told."""
        if not self._line:
            return None
        self._here, queue = heappop(self._line)
        self._place[queue] = self._here
        return queue

    def served(self, queue: str) -> None:
        """It had a job handed out: it pays and is in the round again."""
        weight = min(max(self._weights[queue], 1), WEIGHT_MAX)
        place = self._place[queue] + LAP // weight
        self._place[queue] = place
        heappush(self._line, (place, queue))
