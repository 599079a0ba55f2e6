"""What people ask for: cancel, pause, retry, delete, clear; and facts about the cluster."""

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
    from exkiq.machine.requests import Address, Found, Selection
    from exkiq.machine.store import Store

_CANCELLABLE = WAYS[Step.CANCEL].sources


def cancel(store: Store, job_id: str, applied: Applied) -> Answer:
    """Cancel a job that has not started."""
    record = store.jobs.get(job_id)
    if record is not None and record.state in _CANCELLABLE:
        _cancel(store, record, applied)
        return "ok"
    is_running = record is not None and record.state is State.RUNNING
    return "in_progress" if is_running else "not_found"


def clear(store: Store, name: str, applied: Applied) -> Answer:
    """Cancel what has not started: the lanes in hand-out order, then what is due later."""
    queue = store.queues.get(name)
    if queue is None:
        return 0
    records = list(islice(chain(queue.waiting(), queue.later.values()), limits.CLEAR_JOBS_MAX))
    for record in records:
        _cancel(store, record, applied)
    return len(records)


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
