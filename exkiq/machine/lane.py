"""Jobs in a row: taken from anywhere, put at its end or its front, walked from its front."""

from __future__ import annotations

from collections import OrderedDict
from itertools import chain
from typing import TYPE_CHECKING

from exkiq.machine.record import by_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

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

    def insert(self, records: Sequence[Record]) -> None:
        """Put records among the others by their order, which has to rise in both."""
        before, mixed = self._split(records[0].order, records[-1].order)
        among = [record for segment in mixed for record in segment.records.values()]
        for segment in mixed:
            del self._segments[segment.number]
        self._count -= len(among)
        rows = sorted([*records, *among], key=by_order) if among else records
        for start in range(0, len(rows), _RECORDS):
            segment = self._new_segment()
            before.append(segment)
            for record in rows[start : start + _RECORDS]:
                segment.records[record.id] = record
                record.segment = segment
            segment.room = len(segment.records)
        self._count += len(rows)
        for segment in reversed(before):
            self._segments.move_to_end(segment.number, last=False)

    def _split(self, first: int, last: int) -> tuple[list[Segment], list[Segment]]:
        """The segments before the order `first`, and those behind them up to `last`."""
        before: list[Segment] = []
        mixed: list[Segment] = []
        for segment in self._segments.values():
            records = segment.records.values()
            if next(iter(records)).order > last:
                break
            (before if next(reversed(records)).order < first else mixed).append(segment)
        return before, mixed

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
