"""Find the place of every record again, from the numbers that it carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exkiq.machine import retention
from exkiq.machine.record import State
from exkiq.machine.store import by_order

if TYPE_CHECKING:
    from exkiq.machine.record import Record
    from exkiq.machine.store import Store


def is_waiting(record: Record) -> bool:
    """Whether the job stands in a lane."""
    return record.state is State.QUEUED or (record.state is State.RETRY and not record.timer)


def is_abandoned(record: Record) -> bool:
    """Whether the job failed without a place in the failed set: only its error is kept."""
    return record.state is State.FAILED and record.timer > 0


def put_in_place(store: Store) -> None:
    """Fill places, timers and counts of a store that has only records, queues and sessions.

    Errors: LookupError when a queue or session is missing.
    """
    for record in sorted(store.jobs.values(), key=by_order):
        match record.state:
            case State.RUNNING:
                store.sessions_by_id[record.session].running[record.id] = record
                store.queues[record.spec.queue].running += 1
            case State.SUCCEEDED | State.FAILED | State.CANCELLED:
                _put_ended(store, record)
            case _ if is_waiting(record):
                queue = store.queues[record.spec.queue]
                queue.lane(record.spec.priority)[record.id] = record
                queue.count(record.state, 1)
            case _:
                pass
    _put_later(store)


def _put_ended(store: Store, record: Record) -> None:
    if record.timer:
        store.kept_bytes += retention.weight_bytes(record)
        store.expiring.start(retention.expires_ms(record), record.timer, record)
    match record.state:
        case State.CANCELLED:
            store.cancelled.append(record)
        case State.SUCCEEDED:
            store.succeeded.append(record)
        case _ if not is_abandoned(record):
            store.failed[record.id] = record
            store.failed_bytes += len(record.payload)
            store.queues[record.spec.queue].failed += 1
        case _:
            pass


def _put_later(store: Store) -> None:
    later = [record for record in store.jobs.values() if _is_later(record)]
    for record in sorted(later, key=_by_timer):
        queue = store.queues[record.spec.queue]
        queue.later[record.id] = record
        queue.count(record.state, 1)
        store.due.start(record.run_at_ms, record.timer, record)


def _is_later(record: Record) -> bool:
    return record.timer > 0 and record.state in (State.SCHEDULED, State.RETRY)


def _by_timer(record: Record) -> int:
    return record.timer
