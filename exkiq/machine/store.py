"""Everything that is replicated, and the few ways in which a job changes its place."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from exkiq.machine import limits
from exkiq.machine.jobs import Jobs
from exkiq.machine.lane import Lane
from exkiq.machine.lanes import QueueState
from exkiq.machine.record import PARKED, Record, State, by_order
from exkiq.machine.schema import FIRST
from exkiq.machine.timers import Timers
from exkiq.machine.tombstones import Tombstones
from exkiq.machine.transitions import WAYS, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exkiq.machine.capture import Capture
    from exkiq.machine.outcomes import Answer
    from exkiq.machine.record import Spec
    from exkiq.machine.session_jobs import SessionJob
    from exkiq.machine.sessions import Member, Session

TOTALS = (
    "enqueued_total",
    "succeeded_total",
    "cancelled_total",
    "abandoned",
    "failed_dropped",
    "deleted",
    "lost_total",
    "retried_total",
    "stale_completions",
    "faults",
)
"""Counters of the whole state that only grow; `faults` counts bugs of ours, see machine.py."""


class Totals:
    """What has happened since the cluster was founded."""

    __slots__ = TOTALS

    def __init__(self) -> None:
        for name in TOTALS:
            setattr(self, name, 0)

    enqueued_total: int
    succeeded_total: int
    cancelled_total: int
    abandoned: int
    failed_dropped: int
    deleted: int
    lost_total: int
    retried_total: int
    stale_completions: int
    faults: int


class Store:
    """The replicated state.

    Duties:
      1. Hold it: every attribute but `captures`, `specs` and the shape of heaps, lanes and
         pages is equal on all replicas.
      2. Move jobs between places, keeping places, timers and counts in step.
      3. Show each record to the open captures before it changes.

    A record stands in `jobs` and in exactly one other place: a lane, `later` of its queue,
    `parked` under its task, `running` of a session, `failed`, `succeeded`, `cancelled`, or only
    on a timer of `expiring`.
    """

    def __init__(self) -> None:
        self.index = 0
        self.term = 0
        self.now_ms = 0
        self.cluster_id = ""
        self.digest = b""
        self.sequence = 0
        self.front_sequence = 0
        self.last_session = 0
        self.schema = FIRST
        self.jobs = Jobs()
        self.queues: dict[str, QueueState] = {}
        self.sessions: dict[str, Session] = {}
        self.sessions_by_id: dict[int, Session] = {}
        self.members: dict[str, Member] = {}
        self.parked: dict[str, Lane] = {}
        self.session_jobs: dict[str, SessionJob] = {}
        self.session_steps: dict[str, str] = {}
        self.failed: OrderedDict[str, Record] = OrderedDict()
        self.succeeded: deque[Record] = deque()
        self.cancelled: deque[Record] = deque()
        self.tombstones = Tombstones()
        self.remembered: OrderedDict[bytes, Answer] = OrderedDict()
        self.due = Timers()
        self.expiring = Timers()
        self.kept_bytes = 0
        self.failed_bytes = 0
        self.totals = Totals()
        self.specs: dict[Spec, Spec] = {}
        self.captures: tuple[Capture, ...] = ()

    def has_room(self, count: int) -> bool:
        """Whether so many new jobs can be held; a step that waits has its room already."""
        return len(self.jobs) + len(self.session_steps) + count <= limits.JOBS_MAX

    def next_sequence(self) -> int:
        """A number that was never given before."""
        self.sequence += 1
        return self.sequence

    def keep(self, record: Record) -> None:
        """Has to be called before any field of a record changes, except in its first entry."""
        for capture in self.captures:
            capture.keep(record)

    def forget(self, record: Record) -> None:
        """Let go of a record that stands nowhere else."""
        self.jobs.remove(record)

    def intern(self, spec: Spec) -> Spec:
        """The one object that stands for this spec."""
        known = self.specs.get(spec)
        if known is None:
            if len(self.specs) >= limits.SPECS_CACHED_MAX:
                self.specs.clear()
            known = self.specs[spec] = spec
        return known

    def queue(self, name: str) -> QueueState | None:
        """The queue of this name, made when it is not there; None when there are too many."""
        queue = self.queues.get(name)
        if queue is None and len(self.queues) < limits.QUEUES_MAX:
            queue = self.queues[name] = QueueState(name)
        return queue

    def to_tail(self, record: Record, state: State) -> None:
        """Put a record that stands nowhere at the end of its lane."""
        record.state = state
        record.order = self.next_sequence()
        queue = self.queues[record.spec.queue]
        queue.lane(record.spec.priority).append(record)
        queue.count(state, 1)

    def to_front(self, records: Iterable[Record]) -> None:
        """Put records that stand nowhere before all others, in their former order.

        They get orders below all others, so that a lane is always sorted by it.
        """
        for record in sorted(records, key=by_order, reverse=True):
            self.front_sequence -= 1
            record.order = self.front_sequence
            record.state = WAYS[Step.GIVE_BACK].target
            queue = self.queues[record.spec.queue]
            queue.lane(record.spec.priority).push(record)
            queue.count(record.state, 1)

    def to_later(self, record: Record, state: State) -> None:
        """Put a record that stands nowhere aside until its `run_at_ms`."""
        record.state = state
        queue = self.queues[record.spec.queue]
        queue.later.append(record)
        queue.count(state, 1)
        self.due.start(record.run_at_ms, self.next_sequence(), record)

    def take_waiting(self, record: Record) -> None:
        """Take a job that has not started out of its place."""
        queue = self.queues[record.spec.queue]
        if record.timer == PARKED:
            self._leave_parked(record)
        elif record.timer:
            queue.later.remove(record)
            self.due.stop(record)
        else:
            queue.lanes[record.spec.priority].remove(record)
        queue.count(record.state, -1)

    def park(self, records: Iterable[Record]) -> None:
        """Put waiting jobs of one task aside; they keep their states and orders."""
        aside = sorted(records, key=by_order)
        for record in aside:
            self.keep(record)
            self.queues[record.spec.queue].lanes[record.spec.priority].remove(record)
            record.timer = PARKED
        if aside:
            self.parked.setdefault(aside[0].spec.task, Lane()).insert(aside)

    def unpark(self, records: Iterable[Record]) -> None:
        """Put jobs that were put aside back to where they stood, by their orders."""
        lanes: dict[tuple[str, int], list[Record]] = {}
        for record in records:
            self.keep(record)
            self._leave_parked(record)
            lanes.setdefault((record.spec.queue, record.spec.priority), []).append(record)
        for (name, priority), back in lanes.items():
            self.queues[name].lane(priority).insert(back)

    def parked_jobs(self, queue: str) -> Iterator[Record]:
        """The jobs of a queue that were put aside, by task and then in hand-out order."""
        for task in sorted(self.parked):
            yield from (job for job in self.parked[task].values() if job.spec.queue == queue)

    def _leave_parked(self, record: Record) -> None:
        record.timer = 0
        lane = self.parked[record.spec.task]
        lane.remove(record)
        if not lane:
            del self.parked[record.spec.task]

    def take_running(self, session: Session, record: Record) -> bool:
        """Take a running job out of its session; gives whether it was cancelled meanwhile."""
        del session.running[record.id]
        self.queues[record.spec.queue].running -= 1
        record.session = 0
        is_stopping = record.id in session.stopping
        if is_stopping:
            del session.stopping[record.id]
        return is_stopping
