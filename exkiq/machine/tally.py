"""How long jobs waited and ran, and how many ended lately, in a few hundred ints a queue.

Nothing here is a float until somebody reads it, so all replicas hold the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from exkiq.machine import limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WINDOW_MS = 5_000
"""Ends are counted by windows of this length: fine enough for a rate over a minute."""

WINDOWS_MAX = 61
"""Windows that are kept: five minutes, and the one under way."""

_OCTAVE = 8
_EXACT_BITS = 4
_MANY = 100  # from here on it pays to count equal ones first
_KNOWN_MS = 4_096


class Taken(NamedTuple):
    """A tally at the time of a capture; nobody changes `buckets` any more."""

    total: int
    max: int
    buckets: Mapping[int, int]

    def row(self) -> list[int]:
        """All of it as ints: total, max, then each bucket and its count."""
        pairs = (number for pair in sorted(self.buckets.items()) for number in pair)
        return [self.total, self.max, *pairs]


class Tally:
    """Times in milliseconds, counted in buckets: eight to each doubling, exact below 16.

    Shapes: `buckets` has how many times fell into each bucket that had one. Any quantile is at
            most a sixteenth off. `total` stays at `limits.INT_MAX`, once it is that.
    """

    __slots__ = ("_is_taken", "buckets", "count", "max", "total")

    def __init__(self) -> None:
        self.buckets: defaultdict[int, int] = defaultdict(int)
        self.count = 0
        self.total = 0
        self.max = 0
        self._is_taken = False

    def observe(self, times: Sequence[int]) -> None:
        """Count one time or more, each 0 or over."""
        if self._is_taken:  # a capture holds on to them
            self.buckets = self.buckets.copy()
            self._is_taken = False
        buckets, known, count = self.buckets, _KNOWN, len(times)
        total = highest = ms = times[0]
        if count == 1 or times.count(ms) == count:  # those of one entry are often the same
            buckets[known[ms] if ms < _KNOWN_MS else _bucket(ms)] += count
            total *= count
        else:
            total, highest = sum(times), max(times)
            if count < _MANY:
                for ms in times:
                    buckets[known[ms] if ms < _KNOWN_MS else _bucket(ms)] += 1
            else:
                for ms, number in Counter(times).items():
                    buckets[known[ms] if ms < _KNOWN_MS else _bucket(ms)] += number
        self.count += count
        self.total += total
        if self.total > limits.INT_MAX:
            self.total = limits.INT_MAX
        if highest > self.max:
            self.max = highest

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

    def take(self) -> Taken:
        """All of it, at next to no cost: its buckets are copied before the next change."""
        self._is_taken = True
        return Taken(self.total, self.max, self.buckets)

    @classmethod
    def of_row(cls, row: Sequence[int]) -> Tally:
        """The tally whose row this is. Errors: ValueError when it is none's."""
        tally = cls()
        tally.total, tally.max, *pairs = row
        tally.buckets.update(zip(pairs[::2], pairs[1::2], strict=True))
        tally.count = sum(tally.buckets.values())
        return tally


class EndedRecently:
    """How many jobs ended, by windows of `WINDOW_MS`; old windows are dropped."""

    __slots__ = ("_is_taken", "windows")

    def __init__(self, windows: Iterable[tuple[int, int]] = ()) -> None:
        self.windows: dict[int, int] = dict(windows)
        self._is_taken = False

    def add(self, now_ms: int, count: int) -> None:
        """So many ended at a time that is not before that of an earlier call."""
        if self._is_taken:
            self.windows = self.windows.copy()
            self._is_taken = False
        number = now_ms // WINDOW_MS
        windows = self.windows
        if number in windows:
            windows[number] += count
            return
        for old in [old for old in windows if old <= number - WINDOWS_MAX]:
            del windows[old]
        windows[number] = count

    def take(self) -> Mapping[int, int]:
        """The windows; they are copied before the next change."""
        self._is_taken = True
        return self.windows

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
