"""The whole state as bytes: canonical, so that equal states have equal bytes.

A snapshot is a header (magic, version), chunks, each with its length before it, and an end: the
length 0 and the SHA-256 of all before. The chunks are the head, the counts, the queues, the
records in the order in which they came, the session jobs, one in each, and the tombstones.

A chunk of records is written field by field, since most fields of most jobs are the same: a
field is a list of its values, or of the one value that all have. It brings the specs that no
earlier chunk had.

Places, counts and timers are not written: every place is sorted by a number that the record
carries, so `places.py` finds them again.
"""

from __future__ import annotations

import hashlib
import struct
from itertools import starmap
from typing import TYPE_CHECKING, Any

import msgpack

from exkiq.errors import DataError
from exkiq.machine import session_jobs
from exkiq.machine.capture import Head, SessionRow
from exkiq.machine.lanes import TOTALS as QUEUE_TOTALS
from exkiq.machine.lanes import QueueState
from exkiq.machine.outcomes import Refused
from exkiq.machine.places import put_in_place
from exkiq.machine.record import FIELDS, Spec, State, thaw
from exkiq.machine.schema import check_schema
from exkiq.machine.sessions import Member, Session
from exkiq.machine.store import TOTALS
from exkiq.machine.tally import EndedRecently, Tally
from exkiq.machine.tombstones import Row, Tombstones

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from exkiq.machine.capture import Capture, QueueRow
    from exkiq.machine.record import Record
    from exkiq.machine.store import Store

MAGIC = b"exkiq\x00sn"
VERSION = 3
_HEADER = struct.Struct(">8sH")
_LENGTH = struct.Struct(">I")
_END = _LENGTH.pack(0)
_ROWS_A_CHUNK = 256
_QUEUES_A_CHUNK = 32  # a queue has a few hundred numbers

_STATE, _RESULT, _ERRORS, _TIMER, _SPEC = map(
    FIELDS.index, ("state", "result", "errors", "timer", "spec")
)
_STATES = {state.value: state for state in State}
_SAME_NAMES = Head._fields[1 : Head._fields.index("listed_from")]
"""Fields of the head that are called the same in the store."""


def encode_snapshot(capture: Capture) -> bytes:
    """Make the bytes of a captured state."""
    return b"".join(encode_pieces(capture))


def encode_pieces(capture: Capture) -> Iterator[bytes]:
    """Make them piece by piece, each some tenths of a millisecond of work.

    May run on another thread than the machine's, which needs a pause between the pieces.
    """
    digest = hashlib.sha256()
    for piece in _unsealed(capture):
        digest.update(piece)
        yield piece
    yield digest.digest()


def _unsealed(capture: Capture) -> Iterator[bytes]:
    yield _HEADER.pack(MAGIC, VERSION)
    yield _chunk(capture.head)
    counts = [len(capture.queues), len(capture.session_jobs), len(capture.tombstones)]
    yield _chunk([capture.record_count, *counts])
    for start in range(0, len(capture.queues), _QUEUES_A_CHUNK):
        yield _chunk(list(map(_plain, capture.queues[start : start + _QUEUES_A_CHUNK])))
    specs: dict[Spec, int] = {}
    for rows in capture.batches(_ROWS_A_CHUNK):
        yield _encode_rows(rows, specs)
    yield from (_chunk(session_jobs.row_of(*item)) for item in capture.session_jobs)
    stones = capture.tombstones
    for start in range(0, len(stones), _ROWS_A_CHUNK):
        yield _chunk(stones[start : start + _ROWS_A_CHUNK])
    yield _END


def _plain(queue: QueueRow) -> list[object]:
    name, paused, totals, waited, ran, ended_recently = queue
    return [name, paused, totals, waited.row(), ran.row(), list(ended_recently.items())]


def _encode_rows(rows: list[tuple[object, ...]], specs: dict[Spec, int]) -> bytes:
    columns: list[Sequence[object]] = list(zip(*rows, strict=True))
    new: list[Spec] = []
    numbers: list[int] = []
    for spec in columns[_SPEC]:
        if not isinstance(spec, Spec):
            raise TypeError("the last field of a record is its spec")
        number = specs.get(spec)
        if number is None:
            number = specs[spec] = len(specs)
            new.append(spec)
        numbers.append(number)
    columns[_SPEC] = numbers
    return _chunk([new, len(rows), [_shortened(column) for column in columns]])


def _shortened(column: Sequence[object]) -> Sequence[object]:
    return column[:1] if column.count(column[0]) == len(column) else column


def _chunk(value: object) -> bytes:
    chunk = _pack(value)
    return _LENGTH.pack(len(chunk)) + chunk


def _pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, default=_pack_refused)
    return packed


def _pack_refused(value: object) -> list[str]:
    if isinstance(value, Refused):
        return [value.kind, value.text]
    raise TypeError(f"a snapshot cannot hold {type(value).__name__}")


def decode_snapshot(data: bytes | memoryview, store: Store, pause: Callable[[], None]) -> None:
    """Fill an empty store from a snapshot; calls `pause` every millisecond of work or so.

    Errors: DataError when it is damaged, of another version, or no snapshot.
    """
    chunks = _chunks(_checked_body(data))
    try:
        listed_from = _fill_head(store, next(chunks))
        record_count, queue_count, session_count, row_count = msgpack.unpackb(next(chunks))
        while len(store.queues) < queue_count:
            _fill_queues(store, next(chunks))
            pause()
        specs: list[Spec] = []
        queued: dict[Spec, list[Record]] = {}
        others: list[Record] = []
        while len(store.jobs) < record_count:
            _fill_records(store, next(chunks), specs, queued, others)
            pause()
        session_rows = [msgpack.unpackb(next(chunks)) for _ in range(session_count)]
        store.tombstones = Tombstones(row for chunk in chunks for row in _stones(chunk))
        if len(store.jobs) != record_count or len(store.tombstones.rows) != row_count:
            raise DataError("a snapshot with another number of records or tombstones")
        put_in_place(store, queued, others, listed_from, pause)
        session_jobs.thaw_rows(store, session_rows)
    except (ValueError, TypeError, LookupError, StopIteration, AttributeError) as fault:
        raise DataError(f"a snapshot cannot be read: {fault!r}") from fault
    except msgpack.exceptions.UnpackException as fault:
        raise DataError(f"a snapshot cannot be decoded: {fault!r}") from fault


def _checked_body(data: bytes | memoryview) -> memoryview:
    if len(data) < _HEADER.size + len(_END) + hashlib.sha256().digest_size:
        raise DataError(f"a snapshot of {len(data)} bytes has no header or no end")
    magic, version = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise DataError("not a snapshot of exkiq")
    if version != VERSION:
        raise DataError(f"a snapshot of version {version}, this is version {VERSION}")
    view = memoryview(data)
    sealed, digest = view[: -hashlib.sha256().digest_size], view[-hashlib.sha256().digest_size :]
    if hashlib.sha256(sealed).digest() != digest:
        raise DataError("a damaged snapshot: its hash differs")
    return sealed[_HEADER.size :]


def _chunks(body: memoryview) -> Iterator[memoryview]:
    position = 0
    while position + _LENGTH.size <= len(body):
        (length,) = _LENGTH.unpack_from(body, position)
        position += _LENGTH.size
        if length == 0 or position + length > len(body):
            break
        yield body[position : position + length]
        position += length
    if body[position:] or body[-_LENGTH.size :] != _END:
        raise DataError("a snapshot that ends elsewhere than it should")


def _fill_head(store: Store, chunk: memoryview) -> int:
    head = Head(*msgpack.unpackb(chunk))
    store.index = head.last_index
    check_schema(head.schema)
    for name in _SAME_NAMES:
        setattr(store, name, getattr(head, name))
    for name, total in zip(TOTALS, head.totals, strict=True):
        setattr(store.totals, name, total)
    for row in starmap(SessionRow, head.sessions):
        session = Session(row.id, row.node, row.run_id, row.address)
        session.claimed_total = row.claimed_total
        session.stopping = dict.fromkeys(row.stopping)
        store.sessions[row.node] = store.sessions_by_id[row.id] = session
    store.members = {row[0]: Member(*row) for row in head.members}
    store.remembered.update(head.remembered)
    return head.listed_from


def _fill_queues(store: Store, chunk: memoryview) -> None:
    before, rows = len(store.queues), msgpack.unpackb(chunk)
    for queue_name, paused, totals, waited, ran, ended_recently in rows:
        queue = store.queues[queue_name] = QueueState(queue_name)
        queue.paused = paused
        for name, total in zip(QUEUE_TOTALS, totals, strict=True):
            setattr(queue, name, total)
        queue.waited = Tally.of_row(waited)
        queue.ran = Tally.of_row(ran)
        queue.ended_recently = EndedRecently(ended_recently)
    if len(store.queues) != before + len(rows) or not rows:
        raise DataError("a snapshot with a queue that is there twice, or none in a chunk")


def _fill_records(
    store: Store,
    chunk: memoryview,
    specs: list[Spec],
    queued: dict[Spec, list[Record]],
    others: list[Record],
) -> None:
    """Make the records of a chunk; those that are simply queued are sorted out by their spec."""
    new, count, columns = msgpack.unpackb(chunk)
    specs.extend(starmap(Spec, new))
    if not 0 < count <= _ROWS_A_CHUNK:
        raise DataError(f"a snapshot with {count!r} records in a chunk")
    _revive(columns, specs)
    is_queued = columns[_STATE] == [State.QUEUED] and columns[_TIMER] == [0]
    kind = columns[_SPEC][0] if is_queued and len(columns[_SPEC]) == 1 else None
    full = [column * count if len(column) == 1 else column for column in columns]
    # One C loop over plain values, because a restart does this a million times.
    records = list(map(thaw, zip(*full, strict=True)))
    if len(records) != count:
        raise DataError(f"a snapshot with {len(records)} records of {count} in a chunk")
    store.jobs.add(records)
    if kind is not None:
        queued.setdefault(kind, []).extend(records)
    else:
        others.extend(records)


def _revive(columns: list[list[Any]], specs: list[Spec]) -> None:
    """Turn plain values into states, specs, tuples and refusals."""
    columns[_STATE] = [_STATES[value] for value in columns[_STATE]]
    columns[_SPEC] = [specs[number] for number in columns[_SPEC]]
    columns[_ERRORS] = [tuple(map(tuple, errors)) for errors in columns[_ERRORS]]
    columns[_RESULT] = [
        Refused(*value) if type(value) is list else value for value in columns[_RESULT]
    ]


def _stones(chunk: memoryview) -> Iterator[Row]:
    for ended_ms, state, ids in msgpack.unpackb(chunk):
        yield Row(ended_ms, _STATES[state], tuple(ids))
