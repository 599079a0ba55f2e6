"""The state at one index as an unchanging view, taken quickly and read by another thread.

Taking it copies one reference for each page of records, so a million jobs cost less than a
millisecond. Records go on changing, therefore each is shown to the capture before its first
change (`Store.keep`), and the capture keeps the fields as they were.

The rule that makes reading safe without a lock: the machine keeps a record's fields first and
changes it afterwards; a reader reads the record first and then looks whether it was kept. If
it has read anything new, then it finds the old fields.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from exkiq.machine import limits
from exkiq.machine.lanes import TOTALS as QUEUE_TOTALS
from exkiq.machine.record import freeze
from exkiq.machine.store import TOTALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from exkiq.machine.lanes import QueueState
    from exkiq.machine.outcomes import Answer
    from exkiq.machine.record import Record
    from exkiq.machine.session_jobs import SessionJob
    from exkiq.machine.sessions import Session
    from exkiq.machine.store import Store
    from exkiq.machine.tally import Taken
    from exkiq.machine.tombstones import Row


class QueueRow(NamedTuple):
    name: str
    paused: bool
    totals: tuple[int, ...]
    waited: Taken
    ran: Taken
    ended_recently: Mapping[int, int]


class SessionRow(NamedTuple):
    id: int
    node: str
    run_id: str
    address: str
    claimed_total: int
    stopping: list[str]


class MemberRow(NamedTuple):
    name: str
    address: str
    incarnation: str
    role: str


class Head(NamedTuple):
    """All of the state that does not grow with the number of jobs or queues.

    Shapes: `listed_from` is the order of the first succeeded job that is still listed; those
            before it are there for their results alone.
    """

    last_index: int
    term: int
    now_ms: int
    cluster_id: str
    digest: bytes
    sequence: int
    front_sequence: int
    last_session: int
    schema: int
    listed_from: int
    totals: list[int]
    sessions: list[SessionRow]
    members: list[MemberRow]
    remembered: list[tuple[bytes, Answer]]


class Capture:
    """What a snapshot is made of.

    Shapes: `queues` and `tombstones` are their rows, `session_jobs` each with its id; `batches`
            gives the rows of the records.
    """

    __slots__ = (
        "__weakref__",
        "_kept",
        "_pages",
        "head",
        "index",
        "queues",
        "record_count",
        "session_jobs",
        "tombstones",
    )

    def __init__(self, store: Store) -> None:
        self.index = store.index
        self.head = _head(store)
        self.tombstones: list[Row] = list(store.tombstones.rows)
        self.queues = list(map(_queue_row, store.queues.values()))
        self.session_jobs: list[tuple[str, SessionJob]] = list(store.session_jobs.items())
        self.record_count = len(store.jobs)
        self._pages = store.jobs.pages.take()
        self._kept: dict[Record, tuple[object, ...]] = {}

    def keep(self, record: Record) -> None:
        """Remember the fields of a record that is about to change for the first time."""
        if record not in self._kept:
            self._kept[record] = freeze(record)

    def batches(self, count: int) -> Iterator[list[tuple[object, ...]]]:
        """All records as `freeze` gave them at the time of the capture, so many at once."""
        kept = self._kept
        rows: list[tuple[object, ...]] = []
        for page in self._pages:
            records = [record for record in page if record is not None]
            read = [freeze(record) for record in records]  # before the look at `kept`
            rows += map(kept.get, records, read) if kept else read
            if len(rows) >= count:
                yield rows[:count]
                del rows[:count]
        while rows:
            yield rows[:count]
            del rows[:count]


_queue_totals: Callable[[QueueState], tuple[int, ...]] = attrgetter(*QUEUE_TOTALS)


def _queue_row(queue: QueueState) -> QueueRow:
    return QueueRow(
        queue.name,
        queue.paused,
        _queue_totals(queue),
        queue.waited.take(),
        queue.ran.take(),
        queue.ended_recently.take(),
    )


def _session_row(session: Session) -> SessionRow:
    return SessionRow(
        session.id,
        session.node,
        session.run_id,
        session.address,
        session.claimed_total,
        list(session.stopping),
    )


def _head(store: Store) -> Head:
    return Head(
        store.index,
        store.term,
        store.now_ms,
        store.cluster_id,
        store.digest,
        store.sequence,
        store.front_sequence,
        store.last_session,
        store.schema,
        store.succeeded[0].order if store.succeeded else limits.INT_MAX,
        [getattr(store.totals, name) for name in TOTALS],
        list(map(_session_row, store.sessions.values())),
        [
            MemberRow(member.name, member.address, member.incarnation, member.role)
            for member in store.members.values()
        ],
        list(store.remembered.items()),
    )
