"""The whole state as bytes: canonical, so that equal states have equal bytes.

A snapshot is a header (magic, version, length of the body, SHA-256 of the body) and a body of
chunks, each with its length before it: the head, the records in the order in which they came,
and the tombstones. A chunk of records brings the specs that no earlier chunk had.

Places, counts and timers are not written: every place is sorted by a number that the record
carries, so `places.py` finds them again.
"""

from __future__ import annotations

import hashlib
import struct
from itertools import starmap
from typing import TYPE_CHECKING

import msgpack

from exkiq.errors import DataError
from exkiq.machine.capture import Capture, Head, QueueRow, SessionRow
from exkiq.machine.lanes import TOTALS as QUEUE_TOTALS
from exkiq.machine.lanes import QueueState
from exkiq.machine.outcomes import Refused
from exkiq.machine.places import put_in_place
from exkiq.machine.record import FIELDS, Spec, State, thaw
from exkiq.machine.sessions import Member, Session
from exkiq.machine.store import TOTALS
from exkiq.machine.tombstones import Row, Tombstones

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exkiq.machine.store import Store

MAGIC = b"exkiq\x00sn"
VERSION = 1
_HEADER = struct.Struct(">8sHQ32s")
_LENGTH = struct.Struct(">I")
_ROWS_A_CHUNK = 256

_STATE, _RESULT, _ERRORS, _SPEC = map(FIELDS.index, ("state", "result", "errors", "spec"))
_STATES = {state.value: state for state in State}
_SAME_NAMES = Head._fields[1 : Head._fields.index("listed_from")]
"""Fields of the head that are called the same in the store."""


def encode_snapshot(capture: Capture) -> bytes:
    """Make the bytes of a captured state; may run on another thread than the machine's."""
    chunks = [_pack(capture.head), _pack([capture.record_count, len(capture.tombstones)])]
    specs: dict[Spec, int] = {}
    chunks.extend(
        _encode_rows(capture, start, specs)
        for start in range(0, capture.record_count, _ROWS_A_CHUNK)
    )
    stones = capture.tombstones
    chunks.extend(
        _pack(stones[start : start + _ROWS_A_CHUNK])
        for start in range(0, len(stones), _ROWS_A_CHUNK)
    )
    body = b"".join(part for chunk in chunks for part in (_LENGTH.pack(len(chunk)), chunk))
    return _HEADER.pack(MAGIC, VERSION, len(body), hashlib.sha256(body).digest()) + body


def _encode_rows(capture: Capture, start: int, specs: dict[Spec, int]) -> bytes:
    new: list[Spec] = []
    rows: list[tuple[object, ...]] = []
    for *fields, spec in capture.rows(start, start + _ROWS_A_CHUNK):
        if not isinstance(spec, Spec):
            raise TypeError("the last field of a record is its spec")
        number = specs.get(spec)
        if number is None:
            number = specs[spec] = len(specs)
            new.append(spec)
        rows.append((*fields, number))
    return _pack([new, rows])


def _pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, default=_pack_refused)
    return packed


def _pack_refused(value: object) -> list[str]:
    if isinstance(value, Refused):
        return [value.kind, value.text]
    raise TypeError(f"a snapshot cannot hold {type(value).__name__}")


def decode_snapshot(data: bytes, store: Store) -> None:
    """Fill an empty store from a snapshot.

    Errors: DataError when it is damaged, of another version, or no snapshot.
    """
    chunks = _chunks(_checked_body(data))
    try:
        listed_from = _fill_head(store, next(chunks))
        record_count, row_count = msgpack.unpackb(next(chunks))
        specs: list[Spec] = []
        while len(store.jobs) < record_count:
            _fill_records(store, next(chunks), specs)
        store.tombstones = Tombstones(row for chunk in chunks for row in _stones(chunk))
        if len(store.jobs) != record_count or len(store.tombstones.rows) != row_count:
            raise DataError("a snapshot with another number of records or tombstones")
        put_in_place(store, listed_from)
    except (ValueError, TypeError, LookupError, StopIteration, AttributeError) as fault:
        raise DataError(f"a snapshot cannot be read: {fault!r}") from fault
    except msgpack.exceptions.UnpackException as fault:
        raise DataError(f"a snapshot cannot be decoded: {fault!r}") from fault


def _checked_body(data: bytes) -> memoryview:
    if len(data) < _HEADER.size:
        raise DataError(f"a snapshot of {len(data)} bytes has no header")
    magic, version, length, digest = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise DataError("not a snapshot of exkiq")
    if version != VERSION:
        raise DataError(f"a snapshot of version {version}, this is version {VERSION}")
    body = memoryview(data)[_HEADER.size :]
    if len(body) != length:
        raise DataError(f"a snapshot with {len(body)} bytes of {length}")
    if hashlib.sha256(body).digest() != digest:
        raise DataError("a damaged snapshot: its hash differs")
    return body


def _chunks(body: memoryview) -> Iterator[memoryview]:
    position = 0
    while position + _LENGTH.size <= len(body):
        (length,) = _LENGTH.unpack_from(body, position)
        position += _LENGTH.size
        yield body[position : position + length]
        position += length


def _fill_head(store: Store, chunk: memoryview) -> int:
    head = Head(*msgpack.unpackb(chunk))
    store.index = head.last_index
    for name in _SAME_NAMES:
        setattr(store, name, getattr(head, name))
    for name, total in zip(TOTALS, head.totals, strict=True):
        setattr(store.totals, name, total)
    for queue_row in starmap(QueueRow, head.queues):
        queue = store.queues[queue_row.name] = QueueState(queue_row.name)
        queue.paused = queue_row.paused
        for name, total in zip(QUEUE_TOTALS, queue_row.totals, strict=True):
            setattr(queue, name, total)
    for row in starmap(SessionRow, head.sessions):
        session = Session(row.id, row.node, row.run_id, row.address)
        session.claimed_total = row.claimed_total
        store.sessions[row.node] = store.sessions_by_id[row.id] = session
    store.members = {row[0]: Member(*row) for row in head.members}
    store.remembered.update(head.remembered)
    return head.listed_from


def _fill_records(store: Store, chunk: memoryview, specs: list[Spec]) -> None:
    """Make records of decoded rows, in which states, tuples and specs are plain values."""
    new, rows = msgpack.unpackb(chunk)
    specs.extend(starmap(Spec, new))
    for row in rows:
        row[_STATE] = _STATES[row[_STATE]]
        row[_SPEC] = specs[row[_SPEC]]
        row[_ERRORS] = tuple(map(tuple, row[_ERRORS]))
        if type(row[_RESULT]) is list:
            row[_RESULT] = Refused(*row[_RESULT])
        record = thaw(row)
        store.jobs[record.id] = record


def _stones(chunk: memoryview) -> Iterator[Row]:
    for ended_ms, state, ids in msgpack.unpackb(chunk):
        yield Row(ended_ms, _STATES[state], tuple(ids))
