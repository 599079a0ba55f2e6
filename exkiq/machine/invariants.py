"""What must hold between any two entries, checked from outside: for tests and `exkiq check`."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from exkiq.machine import limits, places, retention, session_jobs
from exkiq.machine.record import PARKED, Record, State
from exkiq.machine.transitions import ENDED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exkiq.machine.lanes import QueueState
    from exkiq.machine.machine import Machine
    from exkiq.machine.timers import Timers


def check_invariants(machine: Machine) -> list[str]:
    """Name every rule that the state breaks; O(jobs)."""
    return [
        *_one_place(machine),
        *machine.jobs.misplaced(),
        *_timers(machine),
        *_conservation(machine),
        *_sessions(machine),
        *_ended(machine),
        *_bounds(machine),
        *_parked(machine),
        *session_jobs.faults(machine),
        *(fault for queue in machine.queues.values() for fault in _queue(machine, queue)),
    ]


def _one_place(machine: Machine) -> Iterator[str]:
    """Each record stands in exactly the one place that its state says."""
    stands: dict[str, list[str]] = {job_id: [] for job_id in machine.jobs}
    for place, records in _places(machine):
        for record in records:
            if machine.jobs.get(record.id) is not record:
                yield f"{record!r} stands in {place} and not in jobs"
            else:
                stands[record.id].append(place)
    for job_id, record in machine.jobs.items():
        if stands[job_id] != [_right_place(machine, record)]:
            yield f"{record!r} stands in {stands[job_id]}, not {_right_place(machine, record)}"


def _places(machine: Machine) -> Iterator[tuple[str, Iterable[Record]]]:
    for queue in machine.queues.values():
        yield f"later {queue.name}", queue.later.values()
        for priority, lane in queue.lanes.items():
            yield f"lane {queue.name} {priority}", lane.values()
    for task, lane in machine.parked.items():
        yield f"parked {task}", lane.values()
    for session in machine.sessions.values():
        yield f"session {session.id}", session.running.values()
    yield "failed", machine.failed.values()
    yield "cancelled", machine.cancelled
    yield "succeeded", machine.succeeded
    kept = [record for record in machine.jobs.values() if _is_only_kept(machine, record)]
    yield "kept", kept


def _is_only_kept(machine: Machine, record: Record) -> bool:
    """Whether it is there for its result or error alone."""
    is_old = record.state is State.SUCCEEDED and not retention.is_listed(machine, record)
    return record.timer > 0 and (is_old or places.is_abandoned(record))


def _right_place(machine: Machine, record: Record) -> str:
    queue, priority = record.spec.queue, record.spec.priority
    match record.state:
        case State.RUNNING:
            return f"session {record.session}"
        case State.QUEUED | State.SCHEDULED | State.RETRY:
            if record.timer == PARKED:
                return f"parked {record.spec.task}"
            is_waiting = places.is_waiting(record)
            return f"lane {queue} {priority}" if is_waiting else f"later {queue}"
        case _ if _is_only_kept(machine, record):
            return "kept"
        case _:
            return record.state.value


def _timers(machine: Machine) -> Iterator[str]:
    """Each timer is set, for the right time, and no other one is."""
    due = {queue_record.timer: queue_record.run_at_ms for queue_record in _later(machine)}
    yield from _same_times("due", machine.due, due)
    expiring = {
        record.timer: retention.expires_ms(record)
        for record in machine.jobs.values()
        if record.state in ENDED and record.timer
    }
    yield from _same_times("expiring", machine.expiring, expiring)


def _later(machine: Machine) -> Iterator[Record]:
    for queue in machine.queues.values():
        yield from queue.later.values()


def _same_times(name: str, timers: Timers, expected: dict[int, int]) -> Iterator[str]:
    if timers.times() != expected or len(timers) != len(expected):
        yield f"timers {name}: {len(timers)} {timers.times()}, not {expected}"


def _conservation(machine: Machine) -> Iterator[str]:
    """Every job that was ever enqueued is in one state, or ended in one way."""
    counts = machine.counts()
    parts = ("queued", "running", "scheduled", "retry", "failed", "succeeded", "cancelled")
    total = sum(counts[part] for part in (*parts, "abandoned", "failed_dropped", "deleted"))
    if total != counts["enqueued_total"]:
        yield f"{counts['enqueued_total']} jobs enqueued, {total} accounted for: {counts}"
    for name in ("enqueued_total", "succeeded_total", "cancelled_total", "lost_total"):
        of_queues = sum(getattr(queue, name) for queue in machine.queues.values())
        if of_queues != getattr(machine.totals, name):
            yield f"{name} is {getattr(machine.totals, name)}, {of_queues} over all queues"


def _parked(machine: Machine) -> Iterator[str]:
    for task, lane in machine.parked.items():
        if not lane or not _is_sorted(lane.values()):
            yield f"parked jobs of {task} are none, or out of order"


def _sessions(machine: Machine) -> Iterator[str]:
    by_id = {session.id: session for session in machine.sessions.values()}
    if by_id != machine.sessions_by_id:
        yield f"sessions are {by_id} by node, {machine.sessions_by_id} by number"
    for node, session in machine.sessions.items():
        if session.node != node or session.id > machine.last_session:
            yield f"{session!r} stands for {node}"
        if not session.stopping.keys() <= session.running.keys():
            yield f"{session!r} stops {list(session.stopping)}, not all of which it runs"
        for record in session.running.values():
            if (record.session, record.node) != (session.id, node):
                yield f"{record!r} of {record.node} {record.session} runs in {session!r}"
            if not 0 < record.fence <= machine.index:
                yield f"{record!r} has the fence {record.fence} at index {machine.index}"


def _ended(machine: Machine) -> Iterator[str]:
    for record in machine.jobs.values():
        if (record.completed_ms > 0) != (record.state in ENDED):
            yield f"{record!r} completed at {record.completed_ms}"
        if record.state is not State.RUNNING and record.session:
            yield f"{record!r} has the session {record.session}"
    for name in ("succeeded", "cancelled"):
        if not _is_sorted(getattr(machine, name)):
            yield f"{name} is not in the order in which jobs ended"
    if not _is_sorted(machine.failed.values()):
        yield "failed is not in the order in which jobs ended"
    weights = map(retention.weight_bytes, _kept(machine))
    if sum(weights) != machine.kept_bytes:
        yield f"kept results weigh {sum(map(retention.weight_bytes, _kept(machine)))} bytes"
    payloads = sum(len(record.payload) for record in machine.failed.values())
    if payloads != machine.failed_bytes:
        yield f"failed jobs hold {payloads} bytes, not {machine.failed_bytes}"


def _kept(machine: Machine) -> Iterator[Record]:
    return (record for record in machine.jobs.values() if record.state in ENDED and record.timer)


def _bounds(machine: Machine) -> Iterator[str]:
    waiting_steps = sum(len(job.mailbox) for job in machine.session_jobs.values())
    for name, size, highest in (
        ("jobs", len(machine.jobs) + waiting_steps, limits.JOBS_MAX),
        ("queues", len(machine.queues), limits.QUEUES_MAX),
        ("sessions", len(machine.sessions), limits.SESSIONS_MAX),
        ("remembered", len(machine.remembered), limits.REMEMBERED_MAX),
        ("succeeded", len(machine.succeeded), limits.SUCCEEDED_JOBS_MAX),
        ("cancelled", len(machine.cancelled), limits.CANCELLED_JOBS_MAX),
        ("failed", len(machine.failed), limits.FAILED_JOBS_MAX),
        ("failed bytes", machine.failed_bytes, limits.FAILED_BYTES_MAX),
        ("kept bytes", machine.kept_bytes, limits.RESULTS_BYTES_MAX),
        ("tombstones", len(machine.tombstones.stones), limits.TOMBSTONES_MAX),
        ("faults", machine.totals.faults, 0),
    ):
        if size > highest:
            yield f"{size} {name} are over {highest}"


def _queue(machine: Machine, queue: QueueState) -> Iterator[str]:
    """Counts agree with places, and places are in order."""
    records = [record for record in machine.jobs.values() if record.spec.queue == queue.name]
    for state in (State.QUEUED, State.RUNNING, State.SCHEDULED, State.RETRY):
        count = sum(record.state is state for record in records)
        if count != getattr(queue, state.value):
            yield f"{queue.name} counts {getattr(queue, state.value)} {state}, has {count}"
    failed = sum(record.spec.queue == queue.name for record in machine.failed.values())
    if failed != queue.failed:
        yield f"{queue.name} counts {queue.failed} failed, has {failed}"
    for priority, lane in queue.lanes.items():
        if not _is_sorted(lane.values()):
            yield f"lane {priority} of {queue.name} is out of order"
    timers = [record.timer for record in queue.later.values()]
    if timers != sorted(timers):
        yield f"later of {queue.name} is out of order"


def _is_sorted(records: Iterable[Record]) -> bool:
    return all(first.order < second.order for first, second in pairwise(records))
