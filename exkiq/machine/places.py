"""Find the place of every record again, from the numbers that it carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exkiq.machine import retention
from exkiq.machine.lane import Lane
from exkiq.machine.record import PARKED, State, by_order, by_timer
from exkiq.machine.transitions import ENDED, WAYS, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from exkiq.machine.record import Record, Spec
    from exkiq.machine.store import Store

_AT_ONCE = 1_000
_WAITING = WAYS[Step.CLAIM].sources


def is_waiting(record: Record) -> bool:
    """Whether the job stands in a lane."""
    return record.state in _WAITING and not record.timer


def is_abandoned(record: Record) -> bool:
    """Whether the job failed without a place in the failed set: only its error is kept."""
    return record.state is State.FAILED and record.timer > 0


def put_in_place(
    store: Store,
    queued: Mapping[Spec, Iterable[Record]],
    others: Iterable[Record],
    listed_from: int,
    pause: Callable[[], None],
) -> None:
    """Fill places, timers and counts of a store that has only records, queues and sessions.

    Shapes: `queued` are jobs in that state by their spec; succeeded jobs with a lower order than
            `listed_from` are not listed any more.
    Errors: LookupError when a queue or session is missing.
    """
    lanes: dict[tuple[str, int], list[Record]] = {}
    for spec, records in queued.items():
        lane = lanes.setdefault((spec.queue, spec.priority), [])
        before = len(lane)
        lane.extend(records)
        store.queues[spec.queue].queued += len(lane) - before
    _put_others(store, others, lanes, listed_from)
    for (name, priority), lane in lanes.items():
        lane.sort(key=by_order)
        place = store.queues[name].lane(priority)
        for start in range(0, len(lane), _AT_ONCE):
            part = lane[start : start + _AT_ONCE]
            place.extend(part)
            pause()


def _put_others(
    store: Store,
    others: Iterable[Record],
    lanes: dict[tuple[str, int], list[Record]],
    listed_from: int,
) -> None:
    later: list[Record] = []
    for record in sorted(others, key=by_order):
        state = record.state
        if state in ENDED:
            _put_ended(store, record, listed_from)
        elif record.timer == PARKED:
            store.parked.setdefault(record.spec.task, Lane()).append(record)
            store.queues[record.spec.queue].count(state, 1)
        elif is_waiting(record):
            lanes.setdefault((record.spec.queue, record.spec.priority), []).append(record)
            store.queues[record.spec.queue].count(state, 1)
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
    queue.later.append(record)
    queue.count(record.state, 1)
    store.due.start(record.run_at_ms, record.timer, record)
