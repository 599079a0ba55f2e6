"""Whose turn it is among the queues that have jobs: smooth weighted round robin.

Each queue has a place on one line; the one furthest back has its turn and then steps ahead by
LAP / weight. A queue of weight 3 so has three turns while one of weight 1 has one, spread
evenly. A queue that was away starts where the others are now: it catches up on nothing and,
since its own steps are remembered, gains nothing by being away for a moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heapreplace
from typing import TypeVar

T = TypeVar("T")

LAP = 720_720  # divisible by every weight up to 16: their shares are exact
WEIGHT_MAX = 1_000


class Fairness:
    """The line of the queues. Kept over all plans of one leadership."""

    def __init__(self) -> None:
        self._place: dict[str, int] = {}
        self._here = 0

    def turns(self, sources: Mapping[str, Iterator[T]], weights: Mapping[str, int]) -> Iterator[T]:
        """One item after the other, each from the queue whose turn it is.

        A source that ends is out of the round. An item that is taken is paid for, so take no
        more than are used.
        """
        steps = {queue: LAP // min(max(weights[queue], 1), WEIGHT_MAX) for queue in sources}
        line = self._line_up(steps)
        while line:
            here, queue = line[0]
            item = next(sources[queue], None)
            if item is None:
                heappop(line)
                continue
            # Before the yield: after the last item nobody comes back.
            self._here, self._place[queue] = here, here + steps[queue]
            heapreplace(line, (here + steps[queue], queue))
            yield item

    def _line_up(self, queues: Mapping[str, int]) -> list[tuple[int, str]]:
        here, place = self._here, self._place
        self._place = {queue: at for queue, at in place.items() if at > here or queue in queues}
        line = [(max(place.get(queue, here), here), queue) for queue in queues]
        heapify(line)
        return line
