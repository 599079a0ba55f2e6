"""Times at which something is due: a heap whose dropped items are passed over."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exkiq.machine.record import Record

_HEAP_SPARE = 64


class Timers:
    """Timers of one kind, at most one for each record, taken in order of (time, number).

    A record knows the number of its timer (`Record.timer`). An item of the heap whose number is
    not its record's any more was dropped; when half of the items are, the heap is made anew.
    """

    __slots__ = ("_count", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Record]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def start(self, at_ms: int, number: int, record: Record) -> None:
        """Set the timer of a record that has none; `number` is over 0 and never used twice."""
        record.timer = number
        heappush(self._heap, (at_ms, number, record))
        self._count += 1

    def stop(self, record: Record) -> None:
        """Drop the timer of a record that has one here."""
        record.timer = 0
        self._count -= 1
        if len(self._heap) > 2 * self._count + _HEAP_SPARE:
            self._heap = [item for item in self._heap if item[2].timer == item[1]]
            heapify(self._heap)

    def next_ms(self) -> int | None:
        """The earliest time; None without timers."""
        heap = self._heap
        while heap and heap[0][2].timer != heap[0][1]:
            heappop(heap)
        return heap[0][0] if heap else None

    def peek(self, now_ms: int) -> Record | None:
        """The record whose timer is the first one due at `now_ms`."""
        first_ms = self.next_ms()
        return self._heap[0][2] if first_ms is not None and first_ms <= now_ms else None

    def times(self) -> dict[int, int]:
        """The time of each timer by its number, for checks."""
        return {item[1]: item[0] for item in self._heap if item[2].timer == item[1]}
