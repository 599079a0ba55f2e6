"""Sessions begin and end; jobs are claimed, complete, fail, or come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exkiq.machine import limits, retention, session_jobs
from exkiq.machine.checks import Rejected, queue_name
from exkiq.machine.commands import Verdict
from exkiq.machine.outcomes import Claimed
from exkiq.machine.record import State, by_order
from exkiq.machine.sessions import Session
from exkiq.machine.transitions import WAYS, Step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exkiq.machine.outcomes import Answer, Applied
    from exkiq.machine.record import ErrorLine, Record, Spec
    from exkiq.machine.requests import (
        Checkpoint,
        Complete,
        Fail,
        Failure,
        Grant,
        HandBack,
        SessionBegin,
        SessionOver,
    )
    from exkiq.machine.store import Store


def claim(store: Store, grants: list[Grant], applied: Applied) -> Answer:
    """Give waiting jobs to sessions, under the entry's index as fence.

    What no longer waits, waits in a paused queue, or is meant for a session that is over is
    passed over: the one who claims knew an older state.
    """
    total = 0
    for grant in grants:
        session = store.sessions.get(grant.node)
        if session is None or session.id != grant.session:
            continue
        records = _start(store, session, grant.ids)
        if records:
            applied.claimed.append(Claimed(grant.node, session.id, store.index, records))
            total += len(records)
    return total


def _start(store: Store, session: Session, ids: list[str]) -> list[Record]:
    jobs, queues, running, has_captures = store.jobs, store.queues, session.running, store.captures
    queued, retry, target = State.QUEUED, State.RETRY, WAYS[Step.CLAIM].target
    node, number, fence, now_ms = session.node, session.id, store.index, store.now_ms
    started: list[Record] = []
    waited: dict[str, list[int]] = {}
    known: Spec | None = None
    for job_id in ids:
        record = jobs.get(job_id)
        # Two claims of a job in one entry would have one fence, so the second one waits.
        if record is None or record.timer or record.fence == fence:
            continue
        state, spec = record.state, record.spec
        if spec is not known:  # most jobs of a grant share it
            known, queue = spec, queues[spec.queue]
            times = waited.setdefault(spec.queue, [])
        if (state is not queued and state is not retry) or queue.paused:
            continue
        if has_captures:
            store.keep(record)
        queue.lanes[spec.priority].remove(record)
        if state is queued:
            queue.queued -= 1
        else:
            queue.retry -= 1
        record.state = target
        record.fence = fence
        record.node = node
        record.session = number
        record.started_ms = now_ms
        times.append(now_ms - record.run_at_ms)
        running[job_id] = record
        started.append(record)
    session.claimed_total += len(started)
    for name, times in waited.items():
        if times:
            queue = queues[name]
            queue.running += len(times)
            queue.waited.observe(times)
    return started


def complete(store: Store, request: Complete, applied: Applied) -> Answer:
    """End jobs that succeeded. Those this session does not run under this fence are stale."""
    session = store.sessions_by_id.get(request.session)
    running = session.running if session is not None else {}
    now_ms, target = store.now_ms, WAYS[Step.SUCCEED].target
    values, run_ms, fences, ended = request.values, request.run_ms, request.fences, applied.ended
    has_captures, before = store.captures, len(ended)
    ran: dict[str, list[int]] = {}
    known: Spec | None = None
    for position, job_id in enumerate(request.ids):
        record = running.get(job_id)
        if record is None or record.fence != fences[position]:
            continue
        if has_captures:
            store.keep(record)
        del running[job_id]
        record.state = target
        record.session = 0
        record.completed_ms = now_ms
        if values is not None:
            record.result = values[position]
        if record.spec is not known:  # most jobs of a report share it
            known = record.spec
            times = ran.setdefault(known.queue, [])
        times.append(0 if run_ms is None else run_ms[position])
        retention.end_succeeded(store, record)
        ended.append(record)
    for name, times in ran.items():
        queue, number = store.queues[name], len(times)
        queue.running -= number
        queue.succeeded_total += number
        queue.ran.observe(times)
        queue.ended_recently.add(now_ms, number)
    count = len(ended) - before
    store.totals.succeeded_total += count
    store.totals.stale_completions += len(request.ids) - count
    if session is not None and session.stopping:
        for record in ended[before:]:
            session.stopping.pop(record.id, None)
    if store.session_steps and count:
        session_jobs.completed(store, ended[before:], applied)
    return count


def fail(store: Store, request: Fail, applied: Applied) -> Answer:
    """Carry out what was decided about failed attempts; stale ones are counted."""
    session = store.sessions_by_id.get(request.session)
    count = 0
    for failure in request.failures:
        record = session.running.get(failure.id) if session is not None else None
        if session is None or record is None or record.fence != failure.fence:
            continue
        store.keep(record)
        is_stopping = store.take_running(session, record)
        store.queues[record.spec.queue].ran.observe((failure.run_ms,))
        record.failures += 1
        _add_error(record, *failure.error, store.now_ms)
        if is_stopping:
            retention.end_cancelled(store, record, applied)
        else:
            _carry_out(store, record, failure, applied)
        count += 1
    store.totals.stale_completions += len(request.failures) - count
    return count


def _carry_out(store: Store, record: Record, failure: Failure, applied: Applied) -> None:
    match failure.verdict:
        case Verdict.FAILED:
            retention.end_failed(store, record, applied)
        case Verdict.ABANDON:
            retention.end_abandoned(store, record, applied)
        case Verdict.RETRY:
            _try_later(store, record, failure.delay_ms)
            applied.tell("retried", record)
        case Verdict.REQUEUE:
            _to_tail_again(store, record)
            applied.tell("retried", record)
        case Verdict.MOVE:
            _move(store, record, failure.queue, applied)


def _try_later(store: Store, record: Record, delay_ms: int) -> None:
    state = WAYS[Step.TRY_LATER].target
    store.queues[record.spec.queue].retried_total += 1
    store.totals.retried_total += 1
    record.started_ms = 0
    record.run_at_ms = min(store.now_ms + delay_ms, limits.TIME_MS_MAX)
    if record.run_at_ms > store.now_ms:
        store.to_later(record, state)
    else:
        store.to_tail(record, state)


def _to_tail_again(store: Store, record: Record) -> None:
    record.started_ms = 0
    record.run_at_ms = store.now_ms
    store.to_tail(record, WAYS[Step.GIVE_BACK].target)


def _move(store: Store, record: Record, name: str, applied: Applied) -> None:
    """Another queue and a fresh budget. A target that cannot be is the job's final failure:
    it must not stay in running."""
    fault = _move_fault(store, record, name)
    if fault:
        _add_error(record, "Refused", fault, "", store.now_ms)
        retention.end_failed(store, record, applied)
        return
    record.spec = store.intern(record.spec._replace(queue=name))
    record.failures = 0
    record.lost = 0
    _to_tail_again(store, record)
    applied.tell("moved", record)


def _move_fault(store: Store, record: Record, name: str) -> str:
    """Bring the target of a move into being; gives what is wrong with it, or nothing."""
    try:
        queue_name(name)
    except Rejected as fault:
        return fault.refused.text
    if name == record.spec.queue:
        return f"cannot move to {name!r}, the job is there"
    if store.queue(name) is None:
        return f"cannot move to {name!r}, there are {limits.QUEUES_MAX} queues"
    return ""


def hand_back(store: Store, request: HandBack, applied: Applied) -> Answer:
    """Take jobs back that did not end, with a checkpoint where there is one."""
    session = store.sessions_by_id.get(request.session)
    if session is None:
        return 0
    returned: list[Record] = []
    stopped: list[Record] = []
    for position, job_id in enumerate(request.ids):
        record = session.running.get(job_id)
        if record is None or record.fence != request.fences[position]:
            continue
        store.keep(record)
        if request.checkpoints is not None and request.checkpoints[position] is not None:
            _keep_checkpoint(store, record, request.checkpoints[position])
        is_stopping = store.take_running(session, record)
        (stopped if is_stopping else returned).append(record)
    _give_back(store, returned, stopped, request.is_lost, applied)
    return len(returned) + len(stopped)


def checkpoint(store: Store, request: Checkpoint, _: Applied) -> Answer:
    """Keep a value for the next start of a running job."""
    session = store.sessions_by_id.get(request.session)
    record = session.running.get(request.id) if session is not None else None
    if record is None or record.fence != request.fence:
        return False
    store.keep(record)
    return _keep_checkpoint(store, record, request.value)


def _keep_checkpoint(store: Store, record: Record, value: bytes | None) -> bool:
    """That of a session job's step is its state, which only what it returns may change."""
    if record.id in store.session_steps:
        return False
    record.checkpoint = value
    return True


def session_begin(store: Store, request: SessionBegin, applied: Applied) -> Answer:
    """Begin a node's session; the same run again gets the same one."""
    former = store.sessions.get(request.node)
    if former is not None and former.run_id == request.run_id:
        former.address = request.address
        return former.id
    if former is not None:
        _end_session(store, former, is_lost=True, applied=applied)
    elif len(store.sessions) >= limits.SESSIONS_MAX:
        raise Rejected(f"{limits.SESSIONS_MAX} nodes run jobs, the limit of a cluster")
    # The entry's index, unless another session began in the same entry.
    store.last_session = number = max(store.index, store.last_session + 1)
    session = Session(number, request.node, request.run_id, request.address)
    store.sessions[request.node] = store.sessions_by_id[number] = session
    applied.begun.append((request.node, number))
    return number


def session_over(store: Store, request: SessionOver, applied: Applied) -> Answer:
    """End a session; does nothing when it is over already."""
    session = store.sessions.get(request.node)
    if session is None or session.id != request.session:
        return 0
    return _end_session(store, session, is_lost=not request.is_orderly, applied=applied)


def _end_session(store: Store, session: Session, *, is_lost: bool, applied: Applied) -> int:
    records = list(session.running.values())
    returned: list[Record] = []
    stopped: list[Record] = []
    for record in records:
        store.keep(record)
        is_stopping = store.take_running(session, record)
        (stopped if is_stopping else returned).append(record)
    _give_back(store, returned, stopped, is_lost, applied)
    del store.sessions[session.node]
    del store.sessions_by_id[session.id]
    applied.over.append((session.node, session.id))
    return len(records)


def _give_back(
    store: Store, records: list[Record], stopped: list[Record], is_lost: bool, applied: Applied
) -> None:
    """To the front, in their former order; those lost too often fail.

    Shapes: `stopped` are those that were cancelled while they ran: they end as that.
    """
    applied.tell("lost" if is_lost else "returned", *sorted(records, key=by_order))
    if is_lost:
        records = _survivors(store, records, applied)
    for record in records:
        record.started_ms = 0
    store.to_front(records)
    for record in sorted(stopped, key=by_order):
        if is_lost:
            _count_lost(store, record)
        retention.end_cancelled(store, record, applied)


def _survivors(store: Store, records: Iterable[Record], applied: Applied) -> list[Record]:
    survivors: list[Record] = []
    for record in sorted(records, key=by_order):
        _count_lost(store, record)
        if record.lost <= record.spec.max_lost:
            survivors.append(record)
            continue
        text = f"lost {record.lost} times with its node or process, max_lost is "
        _add_error(record, "JobLost", f"{text}{record.spec.max_lost}", "", store.now_ms)
        retention.end_failed(store, record, applied)
    return survivors


def _count_lost(store: Store, record: Record) -> None:
    record.lost += 1
    store.totals.lost_total += 1
    store.queues[record.spec.queue].lost_total += 1


def _add_error(record: Record, kind: str, message: str, traceback: str, now_ms: int) -> None:
    errors = record.errors
    if errors and errors[-1][2] == traceback:
        traceback = errors[-1][2]  # shared: attempts of a job often fail in the same way
    line: ErrorLine = (kind, message, traceback, now_ms)
    record.errors = (*errors, line)[-limits.ERRORS_MAX :]
