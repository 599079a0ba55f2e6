"""One job as every replica keeps it: `State`, `Spec` and `Record`."""

from __future__ import annotations

from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exkiq.machine.lane import Segment
    from exkiq.machine.outcomes import Refused
    from exkiq.machine.pages import Page


PARKED = -1
"""Stands for the timer of a waiting job that was put aside, until a node can run its task."""


class State(StrEnum):
    """Where a job is in its life. `transitions.py` says which step leads where."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    RETRY = "retry"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Spec(NamedTuple):
    """What all jobs of one kind share; one object serves all of them.

    Shapes: `isolated` jobs run in a process of their own.
    Units:  times in milliseconds. `result_ttl_ms` 0 keeps no result, `timeout_ms` 0 is no timeout.
    """

    task: str
    queue: str
    priority: int = 0
    retries: int = 5
    result_ttl_ms: int = 600_000
    max_lost: int = 3
    timeout_ms: int = 0
    isolated: bool = False


ErrorLine: TypeAlias = tuple[str, str, str, int]
"""Of one failed attempt: type name, message, traceback, and when in milliseconds."""

FIELDS = (
    "id",
    "payload",
    "state",
    "enqueued_ms",
    "run_at_ms",
    "failures",
    "lost",
    "fence",
    "node",
    "session",
    "started_ms",
    "completed_ms",
    "result",
    "errors",
    "checkpoint",
    "order",
    "timer",
    "spec",
)


class Record:
    """One job. Changed only by the machine; everyone else reads it, on the machine's thread.

    Shapes: `payload` is the encoded call. `result` is the encoded value of a succeeded job, None
            when it returned None, or a `Refused` that says why the value is not there (too
            large, not encodable, expired). `node` is the last node that took the job.
            `errors` holds the last failed attempts, oldest first. `order` is the place in its
            lane while the job waits or runs, later the order in which jobs ended. `timer` is
            the number of the timer that is set for it, 0 for none, or `PARKED`: a job in state
            `retry` without a timer is due and waits in its lane. `page` and `place` say where
            it stands in the pages, `segment` where in its lane; they are no part of the state.
    Units:  times in milliseconds, 0 for not yet.
    """

    __slots__ = (*FIELDS, "page", "place", "segment")

    id: str
    payload: bytes
    state: State
    enqueued_ms: int
    run_at_ms: int
    failures: int
    lost: int
    fence: int
    node: str | None
    session: int
    started_ms: int
    completed_ms: int
    result: bytes | Refused | None
    errors: tuple[ErrorLine, ...]
    checkpoint: bytes | None
    order: int
    timer: int
    spec: Spec
    page: Page
    place: int
    segment: Segment

    def __init__(  # noqa: PLR0913, RUF100 (the fields a new job has)
        self, job_id: str, spec: Spec, payload: bytes, state: State, now_ms: int, run_at_ms: int
    ) -> None:
        self.id = job_id
        self.spec = spec
        self.payload = payload
        self.state = state
        self.enqueued_ms = now_ms
        self.run_at_ms = run_at_ms
        self.failures = 0
        self.lost = 0
        self.fence = 0
        self.node = None
        self.session = 0
        self.started_ms = 0
        self.completed_ms = 0
        self.result = None
        self.errors = ()
        self.checkpoint = None
        self.order = 0
        self.timer = 0

    @property
    def attempt(self) -> int:
        """The number of the present or next run, from 1; redeliveries do not count."""
        return self.failures + 1

    @property
    def retries_left(self) -> int:
        """How many failures the job may still have before the failed set."""
        return max(0, self.spec.retries - self.failures)

    def __repr__(self) -> str:
        return f"<Record {self.id} {self.state} of {self.spec.task} in {self.spec.queue}>"


by_order: Callable[[Record], int] = attrgetter("order")
by_timer: Callable[[Record], int] = attrgetter("timer")

freeze: Callable[[Record], tuple[object, ...]] = attrgetter(*FIELDS)
"""All fields of a record as a tuple, in the order of `FIELDS`; every item is immutable."""


def thaw(row: Sequence[object]) -> Record:
    """Make the record that `freeze` gave `row` for.

    Errors: ValueError when the row has another number of fields.
    """
    record = Record.__new__(Record)
    # One statement, because a restart does this a million times.
    (
        record.id,
        record.payload,
        record.state,
        record.enqueued_ms,
        record.run_at_ms,
        record.failures,
        record.lost,
        record.fence,
        record.node,
        record.session,
        record.started_ms,
        record.completed_ms,
        record.result,
        record.errors,
        record.checkpoint,
        record.order,
        record.timer,
        record.spec,
    ) = row  # type: ignore[assignment]
    return record
