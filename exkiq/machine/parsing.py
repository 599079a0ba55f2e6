"""Decoded items become operations, by one parser each.

A parser checks everything that can be known without the state. Errors: `Rejected`.
"""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from exkiq.errors import RemoteWireError
from exkiq.machine import checks, limits
from exkiq.machine.checks import Rejected
from exkiq.machine.commands import Flag, Op, Verdict, decode_op
from exkiq.machine.outcomes import Refused
from exkiq.machine.record import Spec
from exkiq.machine.requests import (
    Address,
    Checkpoint,
    Complete,
    Enqueue,
    Fail,
    Failure,
    Found,
    Grant,
    HandBack,
    Selection,
    SessionBegin,
    SessionOver,
)
from exkiq.machine.sessions import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

Items: TypeAlias = list[object]


def enqueue(items: Items) -> Enqueue:
    fields, ids, payloads, delay, run_at, flags = _fields(items, 6)
    ids = checks.job_ids(ids)
    if not 0 < len(ids) <= limits.BULK_JOBS_MAX:
        raise Rejected(f"{len(ids)} jobs at once, not 1 to {limits.BULK_JOBS_MAX}")
    payloads = checks.blobs(payloads, len(ids), "payloads")
    longest = max(map(len, payloads))
    if longest > limits.ARGUMENTS_BYTES_MAX:
        text = f"arguments of {longest} bytes are over {limits.ARGUMENTS_BYTES_MAX}"
        raise Rejected(text, "JobTooLarge")
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
    task, queue, priority, retries, result_ttl, max_lost, timeout = fields
    most = limits.PRIORITY_MAX
    return Spec(
        checks.text(task, limits.TASK_CHARS_MAX, "the task"),
        checks.queue_name(queue),
        checks.whole(priority, -most, most, "the priority"),
        checks.whole(retries, 0, limits.RETRIES_MAX, "retries"),
        checks.whole(result_ttl, 0, limits.RESULT_TTL_MS_MAX, "the lifetime of the result"),
        checks.whole(max_lost, 0, limits.LOST_MAX, "max_lost"),
        checks.whole(timeout, 0, limits.TIMEOUT_MS_MAX, "the timeout"),
    )


def claim(items: Items) -> list[Grant]:
    (grants,) = _fields(items, 1)
    return [_grant(grant) for grant in checks.items(grants, "grants")]


def _grant(value: object) -> Grant:
    fields = checks.items(value, "a grant")
    if len(fields) != len(Grant._fields):
        raise Rejected("a grant is not node, session and ids")
    node, session, ids = fields
    return Grant(_name(node, "the node"), _number(session), checks.job_ids(ids))


def complete(items: Items) -> Complete:
    session, ids, fences, values, run_ms = _fields(items, 5)
    ids = checks.job_ids(ids)
    return Complete(
        _number(session),
        ids,
        checks.wholes(fences, len(ids), "fences"),
        _values(values, len(ids)),
        _run_times(run_ms, len(ids)),
    )


def _values(value: object, length: int) -> Sequence[bytes | Refused | None] | None:
    if value is None:
        return None
    values = checks.sized(checks.items(value, "values"), length, "values")
    if set(map(type, values)) == {bytes} and max(map(len, values)) <= limits.RESULT_BYTES_MAX:  # type: ignore[arg-type]
        return values  # type: ignore[return-value]
    return [_value(item) for item in values]


def _value(value: object) -> bytes | Refused | None:
    """A result, or why it is not kept: the job has succeeded all the same."""
    if value is None:
        return None
    if type(value) is bytes:
        if len(value) <= limits.RESULT_BYTES_MAX:
            return value
        text = f"a result of {len(value)} bytes is over {limits.RESULT_BYTES_MAX}"
        return Refused("ResultTooLarge", text)
    reason = checks.texts(value, "values")
    if len(reason) != 2:
        raise Rejected("a value that is not kept needs its kind and text")
    kind, text = reason
    return Refused(
        checks.text(kind, limits.ERROR_TYPE_CHARS_MAX, "the kind"),
        text[: limits.ERROR_MESSAGE_CHARS_MAX],
    )


def _run_times(value: object, length: int) -> list[int] | None:
    if value is None:
        return None
    times = checks.wholes(value, length, "run times")
    if times and (min(times) < 0 or max(times) > limits.RUN_MS_MAX):
        return [_run_time(ms) for ms in times]
    return times


def _run_time(ms: int) -> int:
    """Bounded rather than refused: an odd clock must not keep a job from ending."""
    return min(max(ms, 0), limits.RUN_MS_MAX)


def fail(items: Items) -> Fail:
    session, failures = _fields(items, 2)
    return Fail(_number(session), [_failure(item) for item in checks.items(failures, "failures")])


def _failure(value: object) -> Failure:
    fields = checks.items(value, "a failure")
    if len(fields) != 5:
        raise Rejected("a failure is not id, fence, decision, error and run time")
    job_id, fence, decision, error, run_ms = fields
    verdict, delay_ms, queue = _decision(decision)
    return Failure(
        checks.job_id(job_id),
        _number(fence),
        verdict,
        delay_ms,
        queue,
        _error(error),
        _run_time(checks.whole(run_ms, -limits.INT_MAX, limits.INT_MAX, "the run time")),
    )


def _decision(value: object) -> tuple[Verdict, int, str]:
    decision = checks.items(value, "a decision")
    match decision:
        case ["retry", delay]:
            delay_ms = checks.whole(delay, 0, limits.INT_MAX, "the delay")
            return Verdict.RETRY, min(delay_ms, limits.DELAY_MS_MAX), ""
        case ["move", queue]:
            return Verdict.MOVE, 0, checks.any_text(queue, "a queue's name")
        case ["failed" | "abandon" | "requeue" as word]:
            return Verdict(str(word)), 0, ""
        case _:
            raise Rejected("a decision is not known")


def _error(value: object) -> tuple[str, str, str]:
    lines = checks.texts(value, "errors")
    if len(lines) != 3:
        raise Rejected("an error is not type, message and traceback")
    kind, message, traceback = lines
    return (
        kind[: limits.ERROR_TYPE_CHARS_MAX],
        message[: limits.ERROR_MESSAGE_CHARS_MAX],
        _last_bytes(traceback, limits.TRACEBACK_BYTES_MAX),
    )


def _last_bytes(text: str, bytes_max: int) -> str:
    if len(text) * 4 <= bytes_max:
        return text
    return text.encode()[-bytes_max:].decode(errors="ignore")


def hand_back(items: Items) -> HandBack:
    session, ids, fences, checkpoints, is_lost = _fields(items, 5)
    ids = checks.job_ids(ids)
    kept = checks.blobs_or_none(checkpoints, len(ids), "checkpoints")
    for checkpoint in kept or ():
        _check_checkpoint(checkpoint or b"")
    return HandBack(
        _number(session),
        ids,
        checks.wholes(fences, len(ids), "fences"),
        kept,
        checks.flag(is_lost, "is_lost"),
    )


def due(items: Items) -> None:
    _fields(items, 0)


def session_begin(items: Items) -> SessionBegin:
    node, run_id, address = _fields(items, 3)
    return SessionBegin(
        _name(node, "the node"), _name(run_id, "the run"), _name(address, "the address")
    )


def session_over(items: Items) -> SessionOver:
    node, session, is_orderly = _fields(items, 3)
    return SessionOver(
        _name(node, "the node"), _number(session), checks.flag(is_orderly, "is_orderly")
    )


def job(items: Items) -> str:
    (job_id,) = _fields(items, 1)
    return checks.job_id(job_id)


def queue(items: Items) -> str:
    (name,) = _fields(items, 1)
    return checks.queue_name(name)


def queues(items: Items) -> list[str]:
    (names,) = _fields(items, 1)
    return [checks.queue_name(name) for name in checks.items(names, "queues")]


def selection(items: Items) -> Selection:
    ids, name = _fields(items, 2)
    return Selection(
        None if ids is None else checks.job_ids(ids),
        None if name is None else checks.queue_name(name),
    )


def checkpoint(items: Items) -> Checkpoint:
    session, job_id, fence, value = _fields(items, 4)
    if type(value) is not bytes:
        raise Rejected("a checkpoint is not bytes")
    _check_checkpoint(value)
    return Checkpoint(_number(session), checks.job_id(job_id), _number(fence), value)


def found(items: Items) -> Found:
    cluster_id, rows = _fields(items, 2)
    members = checks.items(rows, "members")
    if len(members) > limits.MEMBERS_MAX:
        raise Rejected(f"{len(members)} members are over {limits.MEMBERS_MAX}")
    return Found(_name(cluster_id, "the cluster's id"), [_member(row) for row in members])


def _member(value: object) -> Member:
    row = checks.texts(value, "a member's fields")
    if len(row) != 3:
        raise Rejected("a member is not name, address and incarnation")
    name, place, incarnation = row
    return Member(
        _name(name, "the member"),
        place[: limits.NAME_CHARS_MAX],
        incarnation[: limits.NAME_CHARS_MAX],
    )


def address(items: Items) -> Address:
    node, place = _fields(items, 2)
    return Address(_name(node, "the node"), _name(place, "the address"))


PARSERS: MappingProxyType[int, Callable[[Items], object]] = MappingProxyType(
    {
        Op.ENQUEUE: enqueue,
        Op.CLAIM: claim,
        Op.COMPLETE: complete,
        Op.FAIL: fail,
        Op.HAND_BACK: hand_back,
        Op.DUE: due,
        Op.SESSION_BEGIN: session_begin,
        Op.SESSION_OVER: session_over,
        Op.CANCEL: job,
        Op.PAUSE: queue,
        Op.RESUME: queue,
        Op.RETRY: selection,
        Op.DELETE: selection,
        Op.CLEAR: queue,
        Op.DECLARE: queues,
        Op.CHECKPOINT: checkpoint,
        Op.FOUND: found,
        Op.ADDRESS: address,
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


def _fields(items: Items, count: int) -> Items:
    if len(items) != count + 2:
        raise Rejected(f"{len(items) - 2} fields, not {count}")
    return items[2:]


def _name(value: object, name: str) -> str:
    return checks.text(value, limits.NAME_CHARS_MAX, name)


def _number(value: object) -> int:
    return checks.whole(value, 0, limits.INT_MAX, "a session or fence")


def _check_checkpoint(value: bytes) -> None:
    if len(value) > limits.CHECKPOINT_BYTES_MAX:
        text = f"a checkpoint of {len(value)} bytes is over {limits.CHECKPOINT_BYTES_MAX}"
        raise Rejected(text, "JobTooLarge")
