"""Jobs whose claim may ride in the same log entry as their enqueue.

That saves a commit between enqueue and start when a slot is free. Only a look is taken here:
an operation that turns out to be refused takes its claim with it, since a claim of a job that
is not there is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from exkiq.errors import RemoteWireError
from exkiq.machine import Machine
from exkiq.machine.commands import Flag, Op, decode_op

RIDERS_MAX = 2_000
"""Jobs looked at in one entry: as many as one claim can hold."""

_ENQUEUE = bytes([Op.ENQUEUE])
_TO_TAIL = frozenset(bytes([op]) for op in (Op.MOVE, Op.SESSION_START, Op.SESSION_POST))


class Rider(NamedTuple):
    """A job that is in the log no sooner than its claim."""

    priority: int
    id: str
    task: str


def find_riders(ops: Sequence[bytes], machine: Machine, now_ms: int) -> dict[str, list[Rider]]:
    """New jobs among `ops` that are due by `now_ms`, by queue and in the order they come."""
    found: dict[str, list[Rider]] = {}
    seen: set[str] = set()
    for op in ops:
        if op[1:2] in _TO_TAIL:
            break  # it brings a job that does not ride: what comes behind must not overtake it
        if op[1:2] != _ENQUEUE:
            continue
        queue, riders = _riders_of(op, machine, now_ms, seen)
        if riders:
            found.setdefault(queue, []).extend(riders)
            seen.update(rider.id for rider in riders)
            if len(seen) >= RIDERS_MAX:
                break
    return found


def _riders_of(op: bytes, machine: Machine, now_ms: int, seen: set[str]) -> tuple[str, list[Rider]]:
    match _items(op):
        case [
            _,
            _,
            [str(task), str(queue), int(priority), *_],
            [*ids],
            _,
            int(delay),
            int(at),
            int(flags),
        ]:
            is_due = at <= now_ms if at else delay == 0
            names = [job_id for job_id in ids if isinstance(job_id, str)]
            new = [name for name in dict.fromkeys(names) if _is_free(machine, name, seen)]
            is_refused = len(names) < len(ids) or (len(new) < len(ids) and flags & Flag.UNIQUE)
            if is_due and not is_refused:
                return queue, [Rider(priority, job_id, task) for job_id in new]
            return "", []
        case _:
            return "", []


def _is_free(machine: Machine, job_id: str, seen: set[str]) -> bool:
    is_taken = job_id in seen or job_id in machine.jobs
    return not is_taken and machine.tombstone(job_id) is None


def _items(op: bytes) -> list[object]:
    try:
        return decode_op(op)
    except RemoteWireError:
        return []
