"""The operations as bytes: their codes, one builder for each, and the entry that carries them.

An operation is a msgpack array that starts with its code and its pid (12 bytes, made by the
one who asks). It is encoded once and travels as opaque bytes until it is applied.

An entry is a zero byte and the msgpack array [version, now_ms, term, operation, ...]. Each
operation stands in it as one binary string, so that a malformed one can harm only itself.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag, StrEnum
from typing import TYPE_CHECKING, NamedTuple

import msgpack

from exkiq.errors import RemoteWireError
from exkiq.machine import limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exkiq.machine.record import Spec

ENTRY_VERSION = 1
ENTRY_KIND = b"\x00"
PID_BYTES = 12


class Op(IntEnum):
    """The code of each operation, and what it answers."""

    ENQUEUE = 1
    """[created, [positions of ids that were taken]]"""
    CLAIM = 2
    """number of jobs claimed; those no longer waiting are passed over"""
    COMPLETE = 3
    """number accepted; the others are stale and counted"""
    FAIL = 4
    """number accepted; the others are stale and counted"""
    HAND_BACK = 5
    """number of jobs given back"""
    DUE = 6
    """number of things promoted or expired"""
    SESSION_BEGIN = 7
    """the session's number"""
    SESSION_OVER = 8
    """number of jobs given back"""
    CANCEL = 9
    """the words ok, stopping, in_progress or not_found"""
    PAUSE = 10
    """whether it changed"""
    RESUME = 11
    """whether it changed"""
    RETRY = 12
    """number of jobs"""
    DELETE = 13
    """number of jobs"""
    CLEAR = 14
    """number of jobs; `limits.CLEAR_JOBS_MAX` means that more may be left"""
    DECLARE = 16
    """number of queues that came into being"""
    CHECKPOINT = 17
    """whether it was accepted"""
    FOUND = 18
    """whether it changed"""
    ADDRESS = 19
    """whether it changed"""
    MOVE = 20
    """the words ok, started or not_found"""
    PARK = 21
    """number of jobs put aside; those that do not wait are passed over"""
    UNPARK = 22
    """number of jobs that wait again"""
    SESSION_START = 23
    """the id of the first step's job"""
    SESSION_POST = 24
    """the id of the step's job"""
    SCHEMA = 25
    """whether it changed"""


CLIENT_OPS = frozenset(
    {
        Op.ENQUEUE,
        Op.CANCEL,
        Op.PAUSE,
        Op.RESUME,
        Op.RETRY,
        Op.DELETE,
        Op.CLEAR,
        Op.DECLARE,
        Op.MOVE,
        Op.SESSION_START,
        Op.SESSION_POST,
    }
)
"""What a client may ask for; the rest is for nodes."""

LEADER_OPS = frozenset({Op.CLAIM, Op.DUE, Op.SESSION_OVER, Op.PARK, Op.UNPARK, Op.SCHEMA})
"""What only the leader of the present term may say."""


class Flag(IntFlag):
    """Options of an enqueue."""

    UNIQUE = 1
    """Refuse the whole operation with JobAlreadyExists when one of its ids is taken."""


class Post(StrEnum):
    """What a session job is asked for once it is there."""

    UPDATE = "update"
    """a step that makes its next state"""
    FINISH = "finish"
    """its last step"""


class Verdict(StrEnum):
    """What the failure mode decided about a failed attempt."""

    RETRY = "retry"
    """["retry", delay_ms]"""
    FAILED = "failed"
    """["failed"]: into the failed set"""
    ABANDON = "abandon"
    """["abandon"]: failed, but not kept in the set"""
    REQUEUE = "requeue"
    """["requeue"]: to the tail of its queue at once"""
    MOVE = "move"
    """["move", queue]: to the tail of another queue, with a fresh budget"""


class Entry(NamedTuple):
    """A decoded entry; its operations are still bytes."""

    now_ms: int
    term: int
    ops: list[bytes]


def _pack(*items: object) -> bytes:
    packed: bytes = msgpack.packb(items)
    return packed


def enqueue(  # noqa: PLR0913, RUF100 (one parameter for each field)
    pid: bytes,
    spec: Spec,
    ids: Sequence[str],
    payloads: Sequence[bytes],
    *,
    delay_ms: int = 0,
    run_at_ms: int = 0,
    is_unique: bool = False,
) -> bytes:
    """New jobs of one kind; a `run_at_ms` over 0 wins over `delay_ms`."""
    flags = Flag.UNIQUE if is_unique else 0
    return _pack(Op.ENQUEUE, pid, spec, ids, payloads, delay_ms, run_at_ms, flags)


def claim(pid: bytes, grants: Sequence[tuple[str, int, Sequence[str]]]) -> bytes:
    """Hand out jobs; each grant is (node, session, ids)."""
    return _pack(Op.CLAIM, pid, grants)


def complete(
    pid: bytes,
    session: int,
    ids: Sequence[str],
    fences: Sequence[int],
    values: Sequence[bytes | tuple[str, str] | None] | None = None,
    run_ms: Sequence[int] | None = None,
) -> bytes:
    """Jobs that succeeded, as columns.

    Shapes: a value is the encoded result, None, or (error kind, text) when the value cannot be
            kept. None for a whole column is None or 0 for each job.
    """
    return _pack(Op.COMPLETE, pid, session, ids, fences, values, run_ms)


def fail(pid: bytes, session: int, failures: Sequence[Sequence[object]]) -> bytes:
    """Attempts that failed.

    Shapes: each is [id, fence, decision, [type, message, traceback], run_ms]; a decision is a
            list that starts with a `Verdict`.
    """
    return _pack(Op.FAIL, pid, session, failures)


def hand_back(
    pid: bytes,
    session: int,
    ids: Sequence[str],
    fences: Sequence[int],
    checkpoints: Sequence[bytes | None] | None = None,
    *,
    is_lost: bool = False,
) -> bytes:
    """Jobs that did not end: drained or never started, or lost with their child."""
    return _pack(Op.HAND_BACK, pid, session, ids, fences, checkpoints, is_lost)


def due(pid: bytes) -> bytes:
    """Time has passed: promote what is due, expire what is old."""
    return _pack(Op.DUE, pid)


def session_begin(pid: bytes, node: str, run_id: str, address: str) -> bytes:
    """A node's run is ready for jobs; an earlier run of that node is over first."""
    return _pack(Op.SESSION_BEGIN, pid, node, run_id, address)


def session_over(pid: bytes, node: str, session: int, *, is_orderly: bool) -> bytes:
    """A node's run is over; its jobs go back, counted as lost unless orderly."""
    return _pack(Op.SESSION_OVER, pid, node, session, is_orderly)


def cancel(pid: bytes, job_id: str, *, running: bool = False) -> bytes:
    """Cancel a job that has not started; one that runs is told to stop when `running`."""
    return _pack(Op.CANCEL, pid, job_id, running)


def pause(pid: bytes, queue: str) -> bytes:
    """No job of the queue starts any more."""
    return _pack(Op.PAUSE, pid, queue)


def resume(pid: bytes, queue: str) -> bytes:
    """Jobs of the queue start again."""
    return _pack(Op.RESUME, pid, queue)


def retry(pid: bytes, ids: Sequence[str] | None = None, queue: str | None = None) -> bytes:
    """Failed jobs run again with a fresh budget; without ids all of the queue, or all."""
    return _pack(Op.RETRY, pid, ids, queue)


def delete(pid: bytes, ids: Sequence[str] | None = None, queue: str | None = None) -> bytes:
    """Failed jobs are forgotten; without ids all of the queue, or all."""
    return _pack(Op.DELETE, pid, ids, queue)


def clear(pid: bytes, queue: str) -> bytes:
    """All jobs of the queue that have not started are cancelled."""
    return _pack(Op.CLEAR, pid, queue)


def declare(pid: bytes, queues: Sequence[str], paused: Sequence[str] = ()) -> bytes:
    """Queues come into being; those in `paused` as paused ones, which changes none that is."""
    if not paused:
        return _pack(Op.DECLARE, pid, queues)
    return _pack(Op.DECLARE, pid, queues, paused)


def checkpoint(pid: bytes, session: int, job_id: str, fence: int, value: bytes) -> bytes:
    """Keep `value` for the next start of a running job."""
    return _pack(Op.CHECKPOINT, pid, session, job_id, fence, value)


def found(pid: bytes, cluster_id: str, members: Sequence[tuple[str, str, str]] = ()) -> bytes:
    """The cluster has this id from now on; its first entry.

    Shapes: the members it begins with are (name, address, incarnation).
    """
    return _pack(Op.FOUND, pid, cluster_id, members)


def address(pid: bytes, node: str, address: str) -> bytes:
    """A member is reached at another address."""
    return _pack(Op.ADDRESS, pid, node, address)


def move(pid: bytes, job_id: str, queue: str) -> bytes:
    """A job that has not started goes to another queue, under the same id."""
    return _pack(Op.MOVE, pid, job_id, queue)


def park(pid: bytes, task: str, ids: Sequence[str]) -> bytes:
    """Put waiting jobs of a task aside: no node that is there can run it."""
    return _pack(Op.PARK, pid, task, ids)


def unpark(pid: bytes, task: str, limit: int) -> bytes:
    """The first jobs of a task that were put aside wait again."""
    return _pack(Op.UNPARK, pid, task, limit)


def session_start(pid: bytes, spec: Spec, session_id: str, payload: bytes) -> bytes:
    """A session job comes into being; its first step is a job of `spec`, made by itself."""
    return _pack(Op.SESSION_START, pid, spec, session_id, payload)


def session_post(pid: bytes, session_id: str, verb: str, payload: bytes) -> bytes:
    """A further step of a session job; `verb` is a `Post`."""
    return _pack(Op.SESSION_POST, pid, session_id, verb, payload)


def schema(pid: bytes, level: int) -> bytes:
    """Every member can apply this schema: let its operations be used."""
    return _pack(Op.SCHEMA, pid, level)


def encode_entry(now_ms: int, term: int, ops: Sequence[bytes]) -> bytes:
    """Gather operations into the body of one log entry."""
    return ENTRY_KIND + _pack(ENTRY_VERSION, now_ms, term, *ops)


def decode_entry(body: bytes) -> Entry | None:
    """Open an entry; None when it is not one of this version."""
    if body[:1] != ENTRY_KIND:
        return None
    items = _unpack(memoryview(body)[1:])
    if type(items) is not list or len(items) < 3:
        return None
    version, now_ms, term, *ops = items
    is_ours = _is_whole(version, ENTRY_VERSION) and version == ENTRY_VERSION
    if not is_ours or not _is_whole(now_ms, limits.TIME_MS_MAX):
        return None
    if not _is_whole(term, limits.INT_MAX) or not set(map(type, ops)) <= {bytes}:
        return None
    return Entry(now_ms, term, ops)


def decode_op(op: bytes) -> list[object]:
    """Decode an operation to its items; code and pid are checked, the rest is not.

    Errors: RemoteWireError for anything that is not an operation.
    """
    if len(op) > limits.OP_BYTES_MAX:
        raise RemoteWireError(f"an operation of {len(op)} bytes is over {limits.OP_BYTES_MAX}")
    items = _unpack(op)
    if type(items) is not list or len(items) < 2:
        raise RemoteWireError("not an operation")
    if type(items[0]) is not int or type(items[1]) is not bytes or len(items[1]) != PID_BYTES:
        raise RemoteWireError("an operation starts with its code and pid")
    return items


def peek_code(op: bytes) -> int | None:
    """Read the code of an operation without decoding it; None when it has none."""
    is_op = len(op) > 1 and op[0] & 0xF0 == 0x90 and op[1] < 0x80
    return op[1] if is_op else None


def peek_pid(op: bytes) -> bytes | None:
    """Read the pid of an operation without decoding it; None when it has none."""
    is_op = len(op) >= 4 + PID_BYTES and op[2] == 0xC4 and op[3] == PID_BYTES
    return op[4 : 4 + PID_BYTES] if is_op and peek_code(op) is not None else None


def _is_whole(value: object, highest: int) -> bool:
    return type(value) is int and 0 <= value <= highest


def _unpack(data: bytes | memoryview) -> object:
    """Decode one msgpack value; None for bytes that are none."""
    try:
        items: object = msgpack.unpackb(data, strict_map_key=True)
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException):
        return None
    return items
