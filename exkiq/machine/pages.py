"""All records in the order in which they came, in pages that a capture can hold on to.

Copying a million references at once would stall the node for some ten milliseconds. A capture
takes the lists of the pages instead, some thousand references; from then on a page is copied
before its first hole, and new records go to a new page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exkiq.machine.record import Record

Places: TypeAlias = "list[Record | None]"

_PLACES = 256
_SPARSE = 4


class Page:
    """A run of records; None where one was forgotten."""

    __slots__ = ("count", "number", "places", "taken_at")

    def __init__(self, number: int, taken_at: int) -> None:
        self.number = number
        self.places: Places = []
        self.count = 0
        self.taken_at = taken_at


class Pages:
    """Knows of each record where it stands (`Record.page`, `Record.place`)."""

    __slots__ = ("_last", "_next_number", "_pages", "_taken")

    def __init__(self) -> None:
        self._pages: dict[int, Page] = {}
        self._last: Page | None = None
        self._next_number = 0
        self._taken = 0  # how many times the lists were taken

    def extend(self, records: Iterable[Record]) -> None:
        """Add new records behind all others."""
        page = self._last
        for record in records:
            if page is None or len(page.places) >= _PLACES:
                page = self._new_page()
            record.page = page
            record.place = len(page.places)
            page.places.append(record)
            page.count += 1

    def _new_page(self) -> Page:
        page = self._last = Page(self._next_number, self._taken)
        self._pages[page.number] = page
        self._next_number += 1
        return page

    def remove(self, record: Record) -> None:
        """Forget a record."""
        page = record.page
        page.count -= 1
        if page.count == 0:
            del self._pages[page.number]
            page.places = []  # else the page and this record would keep each other
            if page is self._last:
                self._last = None
            return
        if page.taken_at != self._taken:
            page.places = page.places.copy()
            page.taken_at = self._taken
        page.places[record.place] = None
        if page is not self._last and page.count * _SPARSE <= len(page.places):
            _close_up(page)

    def take(self) -> list[Places]:
        """The pages as they are; nobody changes these lists any more."""
        self._taken += 1
        self._last = None
        return [page.places for page in self._pages.values()]

    def let_go(self, pause: Callable[[], None]) -> None:
        """Take all records out of their pages, which know each other."""
        while self._pages:
            _, page = self._pages.popitem()
            page.places = []
            pause()

    def in_order(self) -> list[Record]:
        """All records, for checks."""
        pages = self._pages.values()
        return [record for page in pages for record in page.places if record is not None]


def _close_up(page: Page) -> None:
    """Long-lived jobs among short ones would keep a whole page each."""
    records = [record for record in page.places if record is not None]
    page.places = [*records]
    for place, record in enumerate(records):
        record.place = place
