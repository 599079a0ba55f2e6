"""Ended jobs: how each is kept, how long, and how many.

| ended as           | kept in     | until                                                    |
|--------------------|-------------|----------------------------------------------------------|
| succeeded          | `succeeded` | 1,000 later ones, and while its result is kept           |
| failed             | `failed`    | 10,000 later ones or 180 days; retried or deleted sooner |
| failed, abandoned  | `expiring`  | its error's lifetime, that of a result                   |
| cancelled          | `cancelled` | 1,000 later ones                                         |

The id of each stays taken for 60 s, see tombstones.py. Bounds are applied once an entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exkiq.machine import limits, session_jobs
from exkiq.machine.outcomes import Refused
from exkiq.machine.record import State
from exkiq.machine.tombstones import Row
from exkiq.machine.transitions import WAYS, Step

if TYPE_CHECKING:
    from exkiq.machine.outcomes import Applied
    from exkiq.machine.record import Record
    from exkiq.machine.store import Store

_EXPIRED = Refused("NoSuchJob", "its result was kept for its lifetime and is gone")


def expires_ms(record: Record) -> int:
    """When a kept result goes: rounded up to a second, so that many go at once."""
    second_ms = limits.SECOND_MS
    return -(-(record.completed_ms + record.spec.result_ttl_ms) // second_ms) * second_ms


def weight_bytes(record: Record) -> int:
    """What a kept result or error counts towards `limits.RESULTS_BYTES_MAX`."""
    weight = limits.RESULT_OVERHEAD_BYTES
    if type(record.result) is bytes:
        weight += len(record.result)
    for kind, message, traceback, _ in record.errors:
        weight += len(kind) + len(message) + len(traceback)
    return weight


def is_listed(store: Store, record: Record) -> bool:
    """Whether a succeeded job is among the last ones."""
    return bool(store.succeeded) and record.order >= store.succeeded[0].order


def end_succeeded(store: Store, record: Record) -> None:
    """Keep a job that succeeded; its result is set."""
    store.sequence = record.order = store.sequence + 1
    store.succeeded.append(record)
    _lighten(record)
    if record.result is not None:
        _keep_result(store, record)


def end_failed(store: Store, record: Record, applied: Applied) -> None:
    """Put a job that stands nowhere into the failed set.

    But not a step of a session job: retried it would run beside those that come after it.
    """
    if record.id in store.session_steps:
        end_abandoned(store, record, applied)
        return
    _end(store, record, WAYS[Step.FAIL].target, applied)
    queue = store.queues[record.spec.queue]
    queue.failed += 1
    queue.failed_total += 1
    queue.ended_recently.add(store.now_ms, 1)
    store.failed[record.id] = record
    store.failed_bytes += len(record.payload)


def end_abandoned(store: Store, record: Record, applied: Applied) -> None:
    """End a job that stands nowhere as failed, without a place in the failed set."""
    _end(store, record, WAYS[Step.FAIL].target, applied)
    queue = store.queues[record.spec.queue]
    queue.failed_total += 1
    queue.ended_recently.add(store.now_ms, 1)
    store.totals.abandoned += 1
    _lighten(record)
    _keep_result(store, record)
    if store.session_steps:
        session_jobs.ended(store, record, applied)


def end_cancelled(store: Store, record: Record, applied: Applied) -> None:
    """End a job that stands nowhere as cancelled."""
    _end(store, record, WAYS[Step.CANCEL].target, applied)
    store.queues[record.spec.queue].cancelled_total += 1
    store.totals.cancelled_total += 1
    _lighten(record)
    store.cancelled.append(record)
    if store.session_steps:
        session_jobs.ended(store, record, applied)


def take_failed(store: Store, record: Record) -> None:
    """Take a job out of the failed set."""
    del store.failed[record.id]
    store.failed_bytes -= len(record.payload)
    store.queues[record.spec.queue].failed -= 1


def drop_failed(store: Store, record: Record) -> None:
    """Forget the oldest failed job, and count that."""
    take_failed(store, record)
    store.forget(record)
    store.totals.failed_dropped += 1


def expire(store: Store, record: Record) -> None:
    """Forget a kept result or error, and the job unless it is still listed."""
    store.keep(record)
    store.kept_bytes -= weight_bytes(record)
    store.expiring.stop(record)
    if record.state is State.SUCCEEDED and is_listed(store, record):
        record.result = _EXPIRED
    else:
        store.forget(record)


def settle(store: Store, applied: Applied) -> None:
    """Close an entry: tombstones for what ended in it, then all bounds."""
    ended = applied.ended
    if not ended:
        return
    states = {record.state for record in ended}  # mostly one
    for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED):
        if state in states:
            ids = tuple([record.id for record in ended if record.state is state])
            store.tombstones.bury(Row(store.now_ms, state, ids))
    store.tombstones.trim()
    _trim_succeeded(store)
    while len(store.cancelled) > limits.CANCELLED_JOBS_MAX:
        store.forget(store.cancelled.popleft())
    failed = store.failed
    while len(failed) > limits.FAILED_JOBS_MAX or store.failed_bytes > limits.FAILED_BYTES_MAX:
        drop_failed(store, next(iter(failed.values())))
    while store.kept_bytes > limits.RESULTS_BYTES_MAX:
        record = store.expiring.peek(limits.INT_MAX)
        if record is None:
            break
        expire(store, record)


def _trim_succeeded(store: Store) -> None:
    succeeded, has_captures = store.succeeded, bool(store.captures)
    for _ in range(len(succeeded) - limits.SUCCEEDED_JOBS_MAX):
        record = succeeded.popleft()
        if not record.timer:
            store.forget(record)
            continue
        if has_captures:
            store.keep(record)
        store.kept_bytes -= weight_bytes(record)
        record.payload = b""
        record.errors = ()
        store.kept_bytes += weight_bytes(record)


def _end(store: Store, record: Record, state: State, applied: Applied) -> None:
    record.state = state
    record.completed_ms = store.now_ms
    record.order = store.next_sequence()
    applied.ended.append(record)


def _lighten(record: Record) -> None:
    """Drop what only a further run would need."""
    record.checkpoint = None
    if record.errors:
        record.errors = record.errors[-1:]
    if len(record.payload) > limits.ENDED_ARGUMENTS_BYTES_MAX:
        record.payload = b""


def _keep_result(store: Store, record: Record) -> None:
    store.kept_bytes += weight_bytes(record)
    store.expiring.start(expires_ms(record), store.next_sequence(), record)
