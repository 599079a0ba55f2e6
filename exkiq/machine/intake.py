"""Jobs come in and become due."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

from exkiq.machine import limits, retention
from exkiq.machine.checks import Rejected
from exkiq.machine.record import Record, State
from exkiq.machine.transitions import WAYS, Step

if TYPE_CHECKING:
    from exkiq.machine.lanes import QueueState
    from exkiq.machine.outcomes import Answer, Applied
    from exkiq.machine.requests import Enqueue
    from exkiq.machine.store import Store


def enqueue(store: Store, request: Enqueue, _: Applied) -> Answer:
    """Make the jobs whose ids are free; with the unique flag all of them or none."""
    if not store.has_room(len(request.ids)):
        raise Rejected(f"the cluster holds {limits.JOBS_MAX} jobs, its limit")
    if request.is_unique:
        _check_free(store, request.ids)
    if store.session_steps and not store.session_steps.keys().isdisjoint(request.ids):
        # Even without the flag: most of them are no jobs yet, so nothing else would tell.
        raise Rejected("the id of a step of a session job is taken", "JobAlreadyExists")
    queue = store.queue(request.spec.queue)
    if queue is None:
        raise Rejected(f"the cluster has {limits.QUEUES_MAX} queues, its limit")
    run_at_ms = request.run_at_ms or store.now_ms + request.delay_ms
    if run_at_ms <= store.now_ms:
        existing = _make_queued(store, queue, request)
    else:
        existing = _make_scheduled(store, queue, request, min(run_at_ms, limits.TIME_MS_MAX))
    created = len(request.ids) - len(existing)
    queue.enqueued_total += created
    store.totals.enqueued_total += created
    return [created, existing]


def _check_free(store: Store, ids: list[str]) -> None:
    seen: set[str] = set()
    for job_id in ids:
        if job_id in store.jobs or job_id in store.tombstones.stones or job_id in seen:
            raise Rejected(f"a job {job_id!r} exists", "JobAlreadyExists")
        seen.add(job_id)


def _make_queued(store: Store, queue: QueueState, request: Enqueue) -> list[int]:
    """Make jobs in their lane; gives the positions of ids that were taken."""
    state = WAYS[Step.ENQUEUE].target
    spec, now_ms, order = store.intern(request.spec), store.now_ms, store.sequence
    jobs, stones, lane = store.jobs, store.tombstones.stones, queue.lane(request.spec.priority)
    existing: list[int] = []
    made: dict[str, Record] = {}
    for position, job_id in enumerate(request.ids):
        if job_id in jobs or job_id in stones or job_id in made:
            existing.append(position)
            continue
        record = Record(job_id, spec, request.payloads[position], state, now_ms, now_ms)
        order += 1
        record.order = order
        made[job_id] = record
    jobs.add(made.values())
    lane.extend(made.values())
    queue.queued += order - store.sequence
    store.sequence = order
    return existing


def _make_scheduled(store: Store, queue: QueueState, request: Enqueue, run_at_ms: int) -> list[int]:
    """Make jobs that wait for their time; gives the positions of ids that were taken."""
    state = WAYS[Step.SCHEDULE].target
    spec, now_ms = store.intern(request.spec), store.now_ms
    jobs, stones, later, due = store.jobs, store.tombstones.stones, queue.later, store.due
    existing: list[int] = []
    made: dict[str, Record] = {}
    for position, job_id in enumerate(request.ids):
        if job_id in jobs or job_id in stones or job_id in made:
            existing.append(position)
            continue
        record = Record(job_id, spec, request.payloads[position], state, now_ms, run_at_ms)
        made[job_id] = record
        due.start(run_at_ms, store.next_sequence(), record)
    jobs.add(made.values())
    later.extend(made.values())
    queue.scheduled += len(request.ids) - len(existing)
    return existing


def declare(store: Store, names: dict[str, bool], _: Applied) -> Answer:
    """Bring queues into being, some of them paused."""
    new = [name for name in names if name not in store.queues]
    if len(store.queues) + len(new) > limits.QUEUES_MAX:
        raise Rejected(f"over {limits.QUEUES_MAX} queues, the limit of a cluster")
    for name in new:
        queue = store.queue(name)
        if queue is not None:
            queue.paused = names[name]
    return len(new)


def due(store: Store, _: None, __: Applied) -> Answer:
    """Promote what is due, in order of (time, timer number), and expire what is old."""
    count = 0
    for count in range(1, limits.DUE_MOVES_MAX + 1):
        record = store.due.peek(store.now_ms)
        if record is None:
            count -= 1
            break
        _promote(store, record)
    return count + _expire(store)


def _promote(store: Store, record: Record) -> None:
    """Put a due job into its lane; a retry stays one until it is claimed."""
    store.keep(record)
    store.take_waiting(record)
    is_retry = record.state is State.RETRY
    store.to_tail(record, State.RETRY if is_retry else WAYS[Step.PROMOTE].target)


def _expire(store: Store) -> int:
    count = 0
    for _ in repeat(None, limits.DUE_MOVES_MAX):
        record = store.expiring.peek(store.now_ms)
        if record is None:
            break
        retention.expire(store, record)
        count += 1
    oldest_ms = store.now_ms - limits.FAILED_AGE_MS_MAX
    while store.failed:
        record = next(iter(store.failed.values()))
        if record.completed_ms > oldest_ms:
            break
        retention.drop_failed(store, record)
        count += 1
    return count + store.tombstones.expire(store.now_ms, limits.DUE_MOVES_MAX)
