"""Decoded items become operations, by one parser each.

A parser checks everything that can be known without the state. Errors: `Rejected`.
"""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from exkiq.errors import RemoteWireError
from exkiq.machine import checks, limits, reports
from exkiq.machine.checks import Rejected
from exkiq.machine.commands import Flag, Op, Post, decode_op
from exkiq.machine.outcomes import Refused
from exkiq.machine.record import Spec
from exkiq.machine.requests import (
    Address,
    Cancel,
    Enqueue,
    Found,
    Grant,
    Move,
    Park,
    Selection,
    SessionBegin,
    SessionOver,
    SessionPost,
    SessionStart,
    Unpark,
)
from exkiq.machine.sessions import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from exkiq.machine.checks import Items


def enqueue(items: Items) -> Enqueue:
    fields, ids, payloads, delay, run_at, flags = checks.fields(items, 6)
    ids = checks.job_ids(ids)
    if not 0 < len(ids) <= limits.BULK_JOBS_MAX:
        raise Rejected(f"{len(ids)} jobs at once, not 1 to {limits.BULK_JOBS_MAX}")
    payloads = checks.blobs(payloads, len(ids), "payloads")
    checks.check_payload(max(map(len, payloads)))
    delay_ms = checks.whole(delay, 0, limits.DELAY_MS_MAX, "the delay")
    run_at_ms = checks.whole(run_at, 0, limits.TIME_MS_MAX, "the time to run at")
    bits = checks.whole(flags, 0, Flag.UNIQUE, "flags")
    return Enqueue(_spec(fields), ids, payloads, delay_ms, run_at_ms, bits == Flag.UNIQUE)


def _spec(value: object) -> Spec:
    fields = checks.items(value, "a spec")
    if len(fields) != len(Spec._fields):
        raise Rejected(f"a spec has {len(Spec._fields)} fields, not {len(fields)}")
    try:
        return _checked_spec(*fields)
    except TypeError as fault:
        raise Rejected("a field of a spec is a list or map") from fault


# Kept because most operations bring one of few specs; typed, so that True never meets 1.
@lru_cache(maxsize=1024, typed=True)
def _checked_spec(*fields: Hashable) -> Spec:
    task, queue, priority, retries, result_ttl, max_lost, timeout, isolated = fields
    most = limits.PRIORITY_MAX
    return Spec(
        _task(task),
        checks.queue_name(queue),
        checks.whole(priority, -most, most, "the priority"),
        checks.whole(retries, 0, limits.RETRIES_MAX, "retries"),
        checks.whole(result_ttl, 0, limits.RESULT_TTL_MS_MAX, "the lifetime of the result"),
        checks.whole(max_lost, 0, limits.LOST_MAX, "max_lost"),
        checks.whole(timeout, 0, limits.TIMEOUT_MS_MAX, "the timeout"),
        checks.flag(isolated, "isolated"),
    )


def claim(items: Items) -> list[Grant]:
    (grants,) = checks.fields(items, 1)
    return [_grant(grant) for grant in checks.items(grants, "grants")]


def _grant(value: object) -> Grant:
    fields = checks.items(value, "a grant")
    if len(fields) != len(Grant._fields):
        raise Rejected("a grant is not node, session and ids")
    node, session, ids = fields
    return Grant(checks.name(node, "the node"), checks.number(session), checks.job_ids(ids))


def due(items: Items) -> None:
    checks.fields(items, 0)


def session_begin(items: Items) -> SessionBegin:
    node, run_id, address = checks.fields(items, 3)
    return SessionBegin(
        checks.name(node, "the node"),
        checks.name(run_id, "the run"),
        checks.name(address, "the address"),
    )


def session_over(items: Items) -> SessionOver:
    node, session, is_orderly = checks.fields(items, 3)
    return SessionOver(
        checks.name(node, "the node"), checks.number(session), checks.flag(is_orderly, "is_orderly")
    )


def cancel(items: Items) -> Cancel:
    job_id, running = checks.fields(items, 2)
    return Cancel(checks.job_id(job_id), checks.flag(running, "running"))


def move(items: Items) -> Move:
    job_id, name = checks.fields(items, 2)
    return Move(checks.job_id(job_id), checks.queue_name(name))


def park(items: Items) -> Park:
    task, ids = checks.fields(items, 2)
    ids = checks.job_ids(ids)
    if len(ids) > limits.PARKED_AT_ONCE_MAX:
        raise Rejected(f"{len(ids)} jobs to put aside are over {limits.PARKED_AT_ONCE_MAX}")
    return Park(_task(task), ids)


def unpark(items: Items) -> Unpark:
    task, limit = checks.fields(items, 2)
    return Unpark(_task(task), checks.whole(limit, 0, limits.PARKED_AT_ONCE_MAX, "the limit"))


def session_start(items: Items) -> SessionStart:
    values, session_id, payload = checks.fields(items, 3)
    spec = _spec(values)
    if len(spec.task) > limits.SESSION_TASK_CHARS_MAX:
        raise Rejected(f"a session job's task is over {limits.SESSION_TASK_CHARS_MAX} characters")
    session_id = _session_id(session_id)
    return SessionStart(spec, session_id, _step_id(session_id, items), checks.payload(payload))


def session_post(items: Items) -> SessionPost:
    session_id, verb, payload = checks.fields(items, 3)
    word = checks.any_text(verb, "what a session job is asked for")
    if word not in set(Post):
        raise Rejected("a session job is asked for an update or a finish")
    session_id = _session_id(session_id)
    step_id = _step_id(session_id, items)
    return SessionPost(session_id, step_id, Post(word), checks.payload(payload))


def schema(items: Items) -> int:
    (level,) = checks.fields(items, 1)
    return checks.whole(level, 1, limits.INT_MAX, "a schema")


def _session_id(value: object) -> str:
    return checks.text(value, limits.SESSION_ID_CHARS_MAX, "a session job's id")


def _step_id(session_id: str, items: Items) -> str:
    """The id of the step's job, the same for the same operation."""
    pid = items[1]
    if not isinstance(pid, bytes):
        raise TypeError("decode_op checks the pid")
    return f"{session_id}/{pid.hex()}"


def _task(value: object) -> str:
    return checks.text(value, limits.TASK_CHARS_MAX, "the task")


def queue(items: Items) -> str:
    (name,) = checks.fields(items, 1)
    return checks.queue_name(name)


def queues(items: Items) -> dict[str, bool]:
    """Name -> whether it begins paused."""
    names, paused = checks.fields(items, 2) if len(items) > 3 else (*checks.fields(items, 1), [])
    found = {checks.queue_name(name): False for name in checks.items(names, "queues")}
    for name in checks.items(paused, "paused"):
        found[checks.queue_name(name)] = True
    return found


def selection(items: Items) -> Selection:
    ids, name = checks.fields(items, 2)
    return Selection(
        None if ids is None else checks.job_ids(ids),
        None if name is None else checks.queue_name(name),
    )


def found(items: Items) -> Found:
    cluster_id, rows = checks.fields(items, 2)
    members = checks.items(rows, "members")
    if len(members) > limits.MEMBERS_MAX:
        raise Rejected(f"{len(members)} members are over {limits.MEMBERS_MAX}")
    return Found(checks.name(cluster_id, "the cluster's id"), [_member(row) for row in members])


def _member(value: object) -> Member:
    row = checks.texts(value, "a member's fields")
    if len(row) != 3:
        raise Rejected("a member is not name, address and incarnation")
    name, place, incarnation = row
    return Member(
        checks.name(name, "the member"),
        place[: limits.NAME_CHARS_MAX],
        incarnation[: limits.NAME_CHARS_MAX],
    )


def address(items: Items) -> Address:
    node, place = checks.fields(items, 2)
    return Address(checks.name(node, "the node"), checks.name(place, "the address"))


PARSERS: MappingProxyType[int, Callable[[Items], object]] = MappingProxyType(
    {
        Op.ENQUEUE: enqueue,
        Op.CLAIM: claim,
        Op.COMPLETE: reports.complete,
        Op.FAIL: reports.fail,
        Op.HAND_BACK: reports.hand_back,
        Op.DUE: due,
        Op.SESSION_BEGIN: session_begin,
        Op.SESSION_OVER: session_over,
        Op.CANCEL: cancel,
        Op.PAUSE: queue,
        Op.RESUME: queue,
        Op.RETRY: selection,
        Op.DELETE: selection,
        Op.CLEAR: queue,
        Op.DECLARE: queues,
        Op.CHECKPOINT: reports.checkpoint,
        Op.FOUND: found,
        Op.ADDRESS: address,
        Op.MOVE: move,
        Op.PARK: park,
        Op.UNPARK: unpark,
        Op.SESSION_START: session_start,
        Op.SESSION_POST: session_post,
        Op.SCHEMA: schema,
    }
)


def check_op(op: bytes) -> Refused | None:
    """Say why an operation cannot be carried out by any state; None when it may be.

    For the door: what is refused here need not travel.
    """
    try:
        items = decode_op(op)
        parse = PARSERS.get(items[0])  # type: ignore[call-overload]
        if parse is None:
            return Refused("UnsupportedOperation", f"no operation has the code {items[0]}")
        parse(items)
    except RemoteWireError as fault:
        return Refused("RemoteWireError", str(fault))
    except Rejected as fault:
        return fault.refused
    return None
