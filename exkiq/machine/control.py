"""What people ask for: cancel, move, pause, retry, delete, clear; and facts about the cluster."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING

from exkiq.machine import limits, retention
from exkiq.machine.checks import Rejected
from exkiq.machine.record import State
from exkiq.machine.transitions import WAYS, Step

if TYPE_CHECKING:
    from exkiq.machine.outcomes import Answer, Applied
    from exkiq.machine.record import Record
    from exkiq.machine.requests import Address, Cancel, Found, Move, Park, Selection, Unpark
    from exkiq.machine.store import Store

_UNSTARTED = WAYS[Step.CANCEL].sources
_WAITING = WAYS[Step.CLAIM].sources


def cancel(store: Store, request: Cancel, applied: Applied) -> Answer:
    """Cancel a job that has not started; one that runs is marked, and its node told."""
    record = store.jobs.get(request.id)
    if record is not None and record.state in _UNSTARTED:
        _cancel(store, record, applied)
        return "ok"
    if record is None or record.state is not State.RUNNING:
        return "not_found"
    if not request.running:
        return "in_progress"
    store.sessions_by_id[record.session].stopping[record.id] = None
    applied.tell("stopping", record)
    return "stopping"


def move(store: Store, request: Move, applied: Applied) -> Answer:
    """A job that has not started goes to another queue: to its tail, or until it is due.

    A queue that is not there comes into being. A job that was put aside waits again.
    """
    record = store.jobs.get(request.id)
    if record is None:
        return "not_found"
    if record.state not in _UNSTARTED:
        return "started"
    if request.queue == record.spec.queue:
        raise Rejected(f"cannot move to {request.queue!r}, the job is there")
    if store.queue(request.queue) is None:
        raise Rejected(
            f"cannot move to {request.queue!r}, the cluster has {limits.QUEUES_MAX} queues, its "
            "limit"
        )
    store.keep(record)
    is_later = record.timer > 0
    store.take_waiting(record)
    record.spec = store.intern(record.spec._replace(queue=request.queue))
    if is_later:
        store.to_later(record, record.state)
    else:
        store.to_tail(record, record.state)
    applied.tell("moved", record)
    return "ok"


def park(store: Store, request: Park, _: Applied) -> Answer:
    """Put waiting jobs of a task aside; what does not wait, or is of another task, stays."""
    jobs = [store.jobs.get(job_id) for job_id in dict.fromkeys(request.ids)]
    aside = [job for job in jobs if job is not None and _is_waiting(job, request.task)]
    store.park(aside)
    return len(aside)


def _is_waiting(record: Record, task: str) -> bool:
    return record.state in _WAITING and not record.timer and record.spec.task == task


def unpark(store: Store, request: Unpark, _: Applied) -> Answer:
    """The first jobs of a task that were put aside stand again where they stood."""
    lane = store.parked.get(request.task)
    records = list(islice(lane.values(), request.limit)) if lane is not None else []
    store.unpark(records)
    return len(records)


def clear(store: Store, name: str, applied: Applied) -> Answer:
    """Cancel what has not started: what waits, then what was put aside, then what is due later."""
    queue = store.queues.get(name)
    if queue is None:
        return 0
    unstarted = chain(queue.waiting(), store.parked_jobs(name), queue.later.values())
    before = len(applied.ended)
    for record in list(islice(unstarted, limits.CLEAR_JOBS_MAX)):
        _cancel(store, record, applied)
        # with the start of a session job go the steps behind it, up to a hundred
        if len(applied.ended) - before >= limits.CLEAR_JOBS_MAX:
            break
    return len(applied.ended) - before


def _cancel(store: Store, record: Record, applied: Applied) -> None:
    store.keep(record)
    store.take_waiting(record)
    retention.end_cancelled(store, record, applied)


def pause(store: Store, name: str, _: Applied) -> Answer:
    """No job of the queue starts; a queue that is not there comes into being paused."""
    queue = store.queue(name)
    if queue is None:
        raise Rejected(f"the cluster has {limits.QUEUES_MAX} queues, its limit")
    has_changed = not queue.paused
    queue.paused = True
    return has_changed


def resume(store: Store, name: str, _: Applied) -> Answer:
    """Jobs of the queue start again."""
    queue = store.queues.get(name)
    if queue is None or not queue.paused:
        return False
    queue.paused = False
    return True


def retry(store: Store, selection: Selection, applied: Applied) -> Answer:
    """Failed jobs run again, under the same id and with a fresh budget."""
    records = _selected(store, selection)
    revived = {record.id for record in records}
    applied.ended[:] = [record for record in applied.ended if record.id not in revived]
    for record in records:
        store.keep(record)
        retention.take_failed(store, record)
        record.failures = 0
        record.lost = 0
        record.started_ms = 0
        record.completed_ms = 0
        record.run_at_ms = store.now_ms
        store.to_tail(record, WAYS[Step.REVIVE].target)
    return len(records)


def delete(store: Store, selection: Selection, _: Applied) -> Answer:
    """Failed jobs are forgotten."""
    records = _selected(store, selection)
    for record in records:
        retention.take_failed(store, record)
        store.forget(record)
    store.totals.deleted += len(records)
    return len(records)


def _selected(store: Store, selection: Selection) -> list[Record]:
    """Jobs of the failed set that match: in the order asked for, else the oldest failure first."""
    failed, queue = store.failed, selection.queue
    if selection.ids is None:
        records = list(failed.values())
    else:
        ids = dict.fromkeys(selection.ids)
        records = [failed[job_id] for job_id in ids if job_id in failed]
    return [record for record in records if queue is None or record.spec.queue == queue]


def found(store: Store, request: Found, _: Applied) -> Answer:
    """Give the cluster its id and first members, once."""
    if store.cluster_id and store.cluster_id != request.cluster_id:
        raise Rejected(f"this is the cluster {store.cluster_id}", "ClusterMismatch")
    if store.cluster_id:
        return False
    store.cluster_id = request.cluster_id
    for member in request.members:
        store.members.setdefault(member.name, member)
    return True


def schema(store: Store, level: int, _: Applied) -> Answer:
    """Use the operations of a later schema from now on; there is no way back."""
    is_later = level > store.schema
    store.schema = max(store.schema, level)
    return is_later


def address(store: Store, request: Address, _: Applied) -> Answer:
    """A member, and its session, are reached at another address."""
    member = store.members.get(request.node)
    if member is None:
        raise Rejected(f"no member is called {request.node!r}")
    store.members[request.node] = replace(member, address=request.address)
    session = store.sessions.get(request.node)
    if session is not None:
        session.address = request.address
    return member.address != request.address
