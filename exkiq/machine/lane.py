"""Jobs in a row: taken from anywhere, put at its end or its front, walked from its front."""

from __future__ import annotations

from collections import OrderedDict
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from exkiq.machine.record import Record

_RECORDS = 256
_MADE_ANEW_AT = frozenset((64, 16, 4))


class Segment:
    """A piece of a lane; `room` is how many records it has had."""

    __slots__ = ("number", "records", "room")

    def __init__(self, number: int) -> None:
        self.number = number
        self.records: dict[str, Record] = {}
        self.room = 0


class Lane:
    """A row of segments, so that no table of a million is ever made anew at once.

    A record stands in one lane at most, and knows its segment.
    """

    __slots__ = ("_count", "_made", "_segments")

    def __init__(self) -> None:
        self._segments: OrderedDict[int, Segment] = OrderedDict()
        self._count = 0
        self._made = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(segment.records for segment in self._segments.values())

    def values(self) -> Iterator[Record]:
        """The records, from the front."""
        return chain.from_iterable(segment.records.values() for segment in self._segments.values())

    def first(self) -> Record:
        """The record in front. Errors: StopIteration when there is none."""
        return next(iter(self.values()))

    def append(self, record: Record) -> None:
        """Put a record at the end."""
        self.extend((record,))

    def extend(self, records: Iterable[Record]) -> None:
        """Put records at the end."""
        segments = self._segments
        segment = segments[next(reversed(segments))] if segments else None
        for record in records:
            if segment is None or segment.room >= _RECORDS:
                segment = self._new_segment()
            segment.records[record.id] = record
            segment.room += 1
            record.segment = segment
            self._count += 1

    def push(self, record: Record) -> None:
        """Put a record in front of all others."""
        segment = self._new_segment()
        self._segments.move_to_end(segment.number, last=False)
        segment.records[record.id] = record
        segment.room = _RECORDS  # it is full: behind it come others
        record.segment = segment
        self._count += 1

    def remove(self, record: Record) -> None:
        """Take a record out."""
        segment = record.segment
        records = segment.records
        del records[record.id]
        self._count -= 1
        if not records:
            del self._segments[segment.number]
        elif segment.room >= _RECORDS and len(records) in _MADE_ANEW_AT:
            segment.records = dict(records.items())  # else a few keep the room of all

    def let_go(self, pause: Callable[[], None]) -> None:
        """Take all records out of their segments, which know each other."""
        while self._segments:
            _, segment = self._segments.popitem()
            segment.records = {}
            pause()

    def _new_segment(self) -> Segment:
        segment = self._segments[self._made] = Segment(self._made)
        self._made += 1
        return segment
