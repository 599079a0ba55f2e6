"""All jobs by their id, and in the order in which they came.

One dict of a million would be made anew when it grows, at once and in every node: for some
tenths of a second nothing else would be done, and a leader would be lost. Many small ones are
made anew one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar, overload

from exkiq.machine.pages import Pages

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from exkiq.machine.record import Record

T = TypeVar("T")

_SHARDS = 256  # a power of two


class Jobs(Mapping[str, "Record"]):
    """A read-only map to everyone but the store, which adds and removes."""

    __slots__ = ("_count", "_shards", "pages")

    def __init__(self) -> None:
        self._shards: list[dict[str, Record]] = [{} for _ in range(_SHARDS)]
        self._count = 0
        self.pages = Pages()

    def __len__(self) -> int:
        return self._count

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._shards[hash(job_id) % _SHARDS]

    def __getitem__(self, job_id: str) -> Record:
        return self._shards[hash(job_id) % _SHARDS][job_id]

    @overload
    def get(self, job_id: str, /) -> Record | None: ...
    @overload
    def get(self, job_id: str, /, default: Record | T) -> Record | T: ...
    def get(self, job_id: str, /, default: Record | T | None = None) -> Record | T | None:
        return self._shards[hash(job_id) % _SHARDS].get(job_id, default)

    def __iter__(self) -> Iterator[str]:
        return (record.id for record in self.pages.in_order())

    def add(self, records: Collection[Record]) -> None:
        """Put new records behind all others."""
        shards = self._shards
        for record in records:
            job_id = record.id
            shards[hash(job_id) % _SHARDS][job_id] = record
        self._count += len(records)
        self.pages.extend(records)

    def remove(self, record: Record) -> None:
        """Forget a record."""
        job_id = record.id
        del self._shards[hash(job_id) % _SHARDS][job_id]
        self._count -= 1
        self.pages.remove(record)

    def let_go(self, pause: Callable[[], None]) -> None:
        """Forget all of them bit by bit."""
        self.pages.let_go(pause)
        while self._shards:
            self._shards.pop()
            pause()

    def misplaced(self) -> Iterator[str]:
        """Names every id that is no record's, and every record that is not found, for checks."""
        found = 0
        for shard in self._shards:
            for job_id, record in shard.items():
                found += 1
                if record.id != job_id or record.page.places[record.place] is not record:
                    yield f"{record!r} stands in jobs as {job_id}, or not in its place"
        if not found == self._count == len(self.pages.in_order()):
            yield f"{self._count} jobs, {found} by id, {len(self.pages.in_order())} in order"
