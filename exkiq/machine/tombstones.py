"""Ids of jobs that ended lately: taken for a while, though their records may be gone."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from exkiq.machine import limits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exkiq.machine.record import State


class Tombstone(NamedTuple):
    """When and how a job ended."""

    ended_ms: int
    state: State


class Row(NamedTuple):
    """Jobs that ended at the same time in the same way."""

    ended_ms: int
    state: State
    ids: tuple[str, ...]


class Tombstones:
    """The tombstones, kept in rows so that a million of them cost one step for each entry."""

    __slots__ = ("_of_rows", "rows", "stones")

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.stones: dict[str, Tombstone] = {}
        self.rows: deque[Row] = deque()
        self._of_rows: deque[Tombstone] = deque()
        for row in rows:
            self.bury(row)

    def bury(self, row: Row) -> None:
        """Put up one tombstone for each id of the row; a later one replaces an earlier one."""
        stone = Tombstone(row.ended_ms, row.state)
        self.stones.update(dict.fromkeys(row.ids, stone))
        self.rows.append(row)
        self._of_rows.append(stone)

    def next_ms(self) -> int | None:
        """When it is time to expire, a second late so that many go at once; None when empty."""
        late_ms = limits.TOMBSTONE_MS + limits.SECOND_MS
        return self.rows[0].ended_ms + late_ms if self.rows else None

    def expire(self, now_ms: int, count_max: int) -> int:
        """Take down those whose time is over, rows of `count_max` ids or a little more."""
        count = 0
        oldest_ms = now_ms - limits.TOMBSTONE_MS
        while self.rows and self.rows[0].ended_ms <= oldest_ms and count < count_max:
            count += self._take_down()
        return count

    def trim(self) -> None:
        """Take down the oldest ones over the bound."""
        while len(self.stones) > limits.TOMBSTONES_MAX:
            self._take_down()

    def _take_down(self) -> int:
        row, own = self.rows.popleft(), self._of_rows.popleft()
        stones = self.stones
        for job_id in row.ids:
            # a later row of the same time keeps its stones, as a snapshot's reader would find them
            if stones.get(job_id) is own:
                del stones[job_id]
        return len(row.ids)
