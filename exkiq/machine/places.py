"""Find the place of every record again, from the numbers that it carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exkiq.machine import retention
from exkiq.machine.record import State
from exkiq.machine.store import by_order, by_timer
from exkiq.machine.transitions import ENDED

if TYPE_CHECKING:
    from exkiq.machine.record import Record
    from exkiq.machine.store import Store


def is_waiting(record: Record) -> bool:
    """Whether the job stands in a lane."""
    return record.state is State.QUEUED or (record.state is State.RETRY and not record.timer)


def is_abandoned(record: Record) -> bool:
    """Whether the job failed without a place in the failed set: only its error is kept."""
    return record.state is State.FAILED and record.timer > 0


def put_in_place(store: Store, listed_from: int) -> None:
    """Fill places, timers and counts of a store that has only records, queues and sessions.

    Shapes: succeeded jobs with a lower order than `listed_from` are not listed any more.
    Errors: LookupError when a queue or session is missing.
    """
    later: list[Record] = []
    for record in sorted(store.jobs.values(), key=by_order):
        state = record.state
        if state in ENDED:
            _put_ended(store, record, listed_from)
        elif is_waiting(record):
            queue = store.queues[record.spec.queue]
            queue.lane(record.spec.priority)[record.id] = record
            queue.count(state, 1)
        elif state is State.RUNNING:
            store.sessions_by_id[record.session].running[record.id] = record
            store.queues[record.spec.queue].running += 1
        else:
            later.append(record)
    for record in sorted(later, key=by_timer):
        _put_later(store, record)


def _put_ended(store: Store, record: Record, listed_from: int) -> None:
    if record.timer:
        store.kept_bytes += retention.weight_bytes(record)
        store.expiring.start(retention.expires_ms(record), record.timer, record)
    match record.state:
        case State.CANCELLED:
            store.cancelled.append(record)
        case State.SUCCEEDED if record.order >= listed_from:
            store.succeeded.append(record)
        case State.FAILED if not is_abandoned(record):
            store.failed[record.id] = record
            store.failed_bytes += len(record.payload)
            store.queues[record.spec.queue].failed += 1
        case _:
            pass


def _put_later(store: Store, record: Record) -> None:
    queue = store.queues[record.spec.queue]
    queue.later[record.id] = record
    queue.count(record.state, 1)
    store.due.start(record.run_at_ms, record.timer, record)
