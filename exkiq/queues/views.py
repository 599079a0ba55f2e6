"""What people may see of the machine, as plain values that msgpack carries. Pure.

Everything here is bounded: a list stops at `limit` jobs, and at a size that fits a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TypeAlias

from exkiq.errors import ExkiqError
from exkiq.machine import Machine, Record, Refused, State
from exkiq.machine.lanes import TOTALS, QueueState
from exkiq.machine.tally import Tally
from exkiq.queues.protocol import error_of
from exkiq.wire import Value

Map: TypeAlias = dict[Value, Value]

LIST_JOBS_MAX = 1_000
"""Jobs in one list: a page that people look through; ask again with an offset for more."""

OFFSET_MAX = 1_000_000_000
"""More jobs than any memory holds, and a number that every counter can carry."""

LIST_BYTES_MAX = 4 * 1024 * 1024
"""Arguments and errors in one list: well below a frame, and 20 ms of encoding."""

SHORT_CHARS_MAX = 500
"""The message of an error where a page is too large: a thousand of them are half a megabyte."""

_ORDER = (
    State.RUNNING,
    State.QUEUED,
    State.RETRY,
    State.SCHEDULED,
    State.FAILED,
    State.SUCCEEDED,
    State.CANCELLED,
)

_COUNTS = ("queued", "running", "scheduled", "retry", "failed", *TOTALS)


def outcome_of(record: Record) -> list[Value] | ExkiqError | None:
    """The final outcome of a job; None while there is none.

    Shapes: ["succeeded", value] | ["failed", [type, message, traceback], attempts] |
            ["cancelled"], or the error that says why the value is not there.
    """
    match record.state:
        case State.SUCCEEDED:
            result = record.result
            return error_of(result) if isinstance(result, Refused) else ["succeeded", result]
        case State.FAILED:
            return ["failed", last_error_of(record) or ["", "", ""], attempt_of(record)]
        case State.CANCELLED:
            return ["cancelled"]
        case _:
            return None


def job_map(record: Record) -> Map:
    """One job as a map. Times in milliseconds, None for what has not happened."""
    spec = record.spec
    errors: list[Value] = [list(line) for line in record.errors]
    return {
        "id": record.id,
        "state": record.state.value,
        "task": spec.task,
        "queue": spec.queue,
        "priority": spec.priority,
        "args": record.payload,
        "attempt": attempt_of(record),
        "retries": spec.retries,
        "retries_left": record.retries_left,
        "result_ttl_ms": spec.result_ttl_ms,
        "timeout_ms": spec.timeout_ms,
        "isolated": spec.isolated,
        "max_lost": spec.max_lost,
        "lost": record.lost,
        "fence": record.fence,
        "enqueued_at": record.enqueued_ms,
        "run_at": record.run_at_ms,
        "started_at": record.started_ms or None,
        "completed_at": record.completed_ms or None,
        "by": record.node,
        "error": last_error_of(record),
        "errors": errors,
    }


def jobs_map(
    machine: Machine, queue: str | None, state: State | None, *, limit: int, offset: int
) -> list[Map]:
    """A page of jobs: running ones, then in hand-out order, then the ended ones.

    Shapes: up to `limit` maps; less than `limit` only at the end. Where the page grows too
            large the rest of its jobs come without arguments and with a shortened error.
    """
    states = _ORDER if state is None else [state]
    found = chain.from_iterable(_in_state(machine, queue, state) for state in states)
    page: list[Map] = []
    size = 0
    first = min(offset, OFFSET_MAX)
    for record in islice(found, first, first + min(limit, LIST_JOBS_MAX)):
        size += len(record.payload) + sum(len(line[1]) + len(line[2]) for line in record.errors)
        page.append(job_map(record) if size <= LIST_BYTES_MAX else _short_map(record))
    return page


def _short_map(record: Record) -> Map:
    error = last_error_of(record)
    short: Value = None if error is None else [error[0], str(error[1])[:SHORT_CHARS_MAX], ""]
    return job_map(record) | {"args": None, "errors": [], "error": short}


def queue_map(machine: Machine, name: str, now_ms: int) -> Map:
    """A queue: its jobs by state, its totals and statistics.

    Shapes: `latency_ms` is how long the first of its jobs has waited, `waited` and `ran` are as
            in `times_map`; the rates are of jobs that succeeded or failed for good.
    """
    queue = machine.queues[name]
    now_ms = max(now_ms, machine.now_ms)
    counts: Map = {count: getattr(queue, count) for count in _COUNTS}
    counts["paused"] = queue.paused
    counts["latency_ms"] = queue.latency_ms(now_ms)
    counts["waited"] = times_map(queue.waited)
    counts["ran"] = times_map(queue.ran)
    for minutes in (1, 5):
        rate = queue.ended_recently.per_second(now_ms, minutes)
        counts[f"per_second_{minutes}m"] = round(rate, 3)
    return counts


def times_map(tally: Tally) -> Map:
    """How long many jobs took, in milliseconds; p50 and p95 are within a sixteenth."""
    return {
        "count": tally.count,
        "mean_ms": tally.mean(),
        "p50_ms": tally.quantile(0.5),
        "p95_ms": tally.quantile(0.95),
        "max_ms": tally.max,
    }


def queues_map(machine: Machine, now_ms: int) -> Map:
    """Each queue as in `queue_map`, by name."""
    return {name: queue_map(machine, name, now_ms) for name in sorted(machine.queues)}


def counts_map(machine: Machine) -> dict[str, int]:
    """Jobs of the whole cluster by state, and the totals since it was founded."""
    return machine.counts()


def stats_map(machine: Machine) -> Map:
    """A flat map of counts: what waits in each queue, each state, and what no node can run.

    No queue can be called as one of these counts is, so they never meet.
    """
    queues: Map = {name: queue.queued for name, queue in sorted(machine.queues.items())}
    counts = machine.counts()
    return queues | {
        name: counts[name] for name in (*(state.value for state in State), "unknown_task")
    }


def attempt_of(record: Record) -> int:
    """The number of the present, next or last run; none comes after a failed or cancelled one."""
    has_no_next = record.state in (State.FAILED, State.CANCELLED)
    return max(1, record.failures) if has_no_next else record.attempt


def last_error_of(record: Record) -> list[Value] | None:
    """Type, message and traceback of the last failed attempt, None when none failed."""
    return list(record.errors[-1][:3]) if record.errors else None


def _in_state(machine: Machine, queue: str | None, state: State) -> Iterator[Record]:
    """Every job in that state, from the place where the machine keeps it: never all jobs."""
    match state:
        case State.RUNNING:
            return _of_queue(_running(machine), queue)
        case State.FAILED:
            return _of_queue(iter(machine.failed.values()), queue)
        case State.SUCCEEDED:
            return _of_queue(reversed(machine.succeeded), queue)
        case State.CANCELLED:
            return _of_queue(reversed(machine.cancelled), queue)
        case _:
            names = sorted(machine.queues) if queue is None else [queue]
            queues = (machine.queues[name] for name in names if name in machine.queues)
            return chain.from_iterable(_unstarted(machine, each, state) for each in queues)


def _unstarted(machine: Machine, queue: QueueState, state: State) -> Iterator[Record]:
    """No further than the last of them: a million others may wait."""
    ready = chain(queue.waiting(), machine.parked_jobs(queue.name))
    places: Iterable[Record]
    match state:
        case State.QUEUED:
            places, count = ready, queue.queued
        case State.SCHEDULED:
            places, count = queue.later.values(), queue.scheduled
        case _:
            places, count = chain(ready, queue.later.values()), queue.retry
    return islice((job for job in places if job.state is state), count)


def _running(machine: Machine) -> Iterator[Record]:
    running = [job for session in machine.sessions.values() for job in session.running.values()]
    return iter(sorted(running, key=_started))


def _started(record: Record) -> tuple[int, int]:
    return record.fence, record.order


def _of_queue(records: Iterator[Record], queue: str | None) -> Iterator[Record]:
    return (record for record in records if queue is None or record.spec.queue == queue)
