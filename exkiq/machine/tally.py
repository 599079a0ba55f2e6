"""How long jobs waited and ran, and how many ended lately, in a few hundred ints a queue.

Nothing here is a float until somebody reads it, so all replicas hold the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WINDOW_MS = 5_000
"""Ends are counted by windows of this length: fine enough for a rate over a minute."""

WINDOWS_MAX = 61
"""Windows that are kept: five minutes, and the one under way."""

_OCTAVE = 8
_EXACT_BITS = 4
_MANY = 100  # from here on it pays to count equal ones first
_KNOWN_MS = 4_096


class Tally:
    """Times in milliseconds, counted in buckets: eight to each doubling, exact below 16.

    Shapes: `buckets` has how many times fell into each bucket that had one. Any quantile is at
            most a sixteenth off.
    """

    __slots__ = ("buckets", "count", "max", "total")

    def __init__(self) -> None:
        self.buckets: defaultdict[int, int] = defaultdict(int)
        self.count = 0
        self.total = 0
        self.max = 0

    def observe(self, times: Sequence[int]) -> None:
        """Count times, 0 or more each."""
        if len(times) == 1:
            self._observe_one(times[0])
            return
        buckets, known = self.buckets, _KNOWN
        if len(times) < _MANY:
            for ms in times:
                buckets[known[ms] if ms < _KNOWN_MS else _bucket(ms)] += 1
        else:
            for ms, count in Counter(times).items():
                buckets[known[ms] if ms < _KNOWN_MS else _bucket(ms)] += count
        self.count += len(times)
        self.total += sum(times)
        self.max = max(self.max, max(times, default=0))

    def _observe_one(self, ms: int) -> None:
        self.buckets[_KNOWN[ms] if ms < _KNOWN_MS else _bucket(ms)] += 1
        self.count += 1
        self.total += ms
        if ms > self.max:
            self.max = ms

    def mean(self) -> int:
        """The mean in milliseconds; 0 of nothing."""
        return round(self.total / self.count) if self.count else 0

    def quantile(self, part: float) -> int:
        """The time in milliseconds under which this part of them lies; 0 of nothing.

        Shapes: `part` is between 0 and 1; gives the middle of a bucket, never over `max`.
        """
        left = part * self.count
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0:
                return min(_middle(bucket), self.max)
        return self.max

    def row(self) -> list[int]:
        """All of it as ints: total, max, then each bucket and its count."""
        pairs = (number for pair in sorted(self.buckets.items()) for number in pair)
        return [self.total, self.max, *pairs]

    @classmethod
    def of_row(cls, row: Sequence[int]) -> Tally:
        """The tally that gave this row. Errors: ValueError when no tally did."""
        tally = cls()
        tally.total, tally.max, *pairs = row
        tally.buckets.update(zip(pairs[::2], pairs[1::2], strict=True))
        tally.count = sum(tally.buckets.values())
        return tally


class EndedRecently:
    """How many jobs ended, by windows of `WINDOW_MS`; old windows are dropped."""

    __slots__ = ("windows",)

    def __init__(self, windows: Iterable[tuple[int, int]] = ()) -> None:
        self.windows: dict[int, int] = dict(windows)

    def add(self, now_ms: int, count: int) -> None:
        """So many ended at a time that is not before that of an earlier call."""
        number = now_ms // WINDOW_MS
        windows = self.windows
        if number in windows:
            windows[number] += count
            return
        for old in [old for old in windows if old <= number - WINDOWS_MAX]:
            del windows[old]
        windows[number] = count

    def per_second(self, now_ms: int, minutes: int) -> float:
        """Jobs a second over so many minutes, 5 at most, and the window under way."""
        number = now_ms // WINDOW_MS
        span_ms = minutes * 60_000
        oldest = number - span_ms // WINDOW_MS
        ended = sum(count for window, count in self.windows.items() if oldest <= window <= number)
        return ended * 1_000 / (span_ms + now_ms % WINDOW_MS)


def _bucket(ms: int) -> int:
    shift = ms.bit_length() - _EXACT_BITS
    return ms if shift <= 0 else shift * _OCTAVE + (ms >> shift)


def _middle(bucket: int) -> int:
    shift = max(0, bucket // _OCTAVE - 1)
    lowest = (bucket - shift * _OCTAVE) << shift
    return lowest + (1 << shift) // 2


_KNOWN = tuple(map(_bucket, range(_KNOWN_MS)))  # most jobs are short
