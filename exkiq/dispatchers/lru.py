"""The slot that has been free longest, or the one freed last.

free slots, first in, last in       LRU takes from the left, MRU from the right
MRU is LRU whose freed slots go to the front.
"""

from __future__ import annotations

from collections import deque

from exkiq.dispatchers.protocol import Dispatcher, Offer


class LRU(Dispatcher):
    """Hands out the slot that has been free longest."""

    def __init__(self) -> None:
        self._free: deque[str] = deque()
        self._known: set[str] = set()

    def available(self) -> bool:
        return bool(self._free)

    def check_in(self, slot: str) -> None:
        self._known.add(slot)
        self._free.append(slot)

    def check_out(self, job: Offer) -> str | None:
        for position, slot in enumerate(self._free):
            if slot in job.nodes:
                del self._free[position]
                return slot
        return None

    def remove(self, slot: str) -> None:
        self._known.discard(slot)
        self._free = deque(other for other in self._free if other != slot)

    def known(self, slot: str) -> bool:
        return slot in self._known


class MRU(LRU):
    """Hands out the slot that was freed last."""

    def check_in(self, slot: str) -> None:
        self._known.add(slot)
        self._free.appendleft(slot)
