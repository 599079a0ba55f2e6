"""The queue of a test: the machine of a cluster, alone in this process and on a manual clock."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from itertools import islice
from operator import attrgetter

from exkiq.errors import ExkiqError
from exkiq.machine import Answer, Machine, Record, State, commands
from exkiq.machine.schema import SCHEMA
from exkiq.operation_ids import OperationIds
from exkiq.queues.local import LocalHouse
from exkiq.queues.protocol import Done, Listener, Outcome, raise_or_return
from exkiq.testing.clock import ManualClock

NODE = "test"

WAITING = (State.SCHEDULED, State.QUEUED, State.RETRY)

_order = attrgetter("order")


class Stage:
    """One machine and its time; safe in threads. As a `House` it is always the leader.

    Duties:
      1. Have operations applied, and what is due promoted as the clock passes it.
      2. Say which job is to start next, and when there will be one.
    """

    is_leader = True
    leader = NODE

    def __init__(self, clock: ManualClock, ids: OperationIds) -> None:
        self.clock = clock
        self.next_pid = ids
        self.lock = threading.RLock()
        self._listeners: list[Listener] = []
        self.begin()

    def begin(self) -> None:
        """Be empty again; only the time stays as it is."""
        with self.lock:
            self.progress: dict[str, bytes] = {}  # what running jobs said last, by id
            self._house = LocalHouse(self.clock, NODE)
            for listener in self._listeners:
                self._house.subscribe(listener)
            self.apply(commands.schema(self.next_pid(), SCHEMA))
            op = commands.session_begin(self.next_pid(), NODE, NODE, NODE)
            self.session = int(str(self.apply(op)))

    @property
    def machine(self) -> Machine:
        """The state, at the present time of the clock."""
        with self.lock:
            machine = self._house.machine
            while (deadline_ms := machine.next_deadline_ms()) is not None:
                if deadline_ms > self.clock.now_ms():
                    break
                self._house.propose_nowait(commands.due(self.next_pid()))
            return machine

    def apply(self, op: bytes) -> Answer:
        """Have an operation applied; its outcome. Errors: what it was refused with."""
        told: list[Outcome | ExkiqError] = []
        self.propose_with(op, 0.0, told.append)
        (outcome,) = told
        return raise_or_return(outcome)

    async def propose(self, op: bytes, timeout: float) -> Answer:  # noqa: ARG002
        return self.apply(op)

    def propose_with(self, op: bytes, timeout: float, done: Done) -> None:
        with self.lock:
            _ = self.machine  # what is due by now has happened
            self._house.propose_with(op, timeout, done)

    def propose_nowait(self, op: bytes) -> None:
        with self.lock:
            self._house.propose_nowait(op)

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)
        self._house.subscribe(listener)

    # ---- what is there ---------------------------------------------------------------------------

    def record(self, job_id: str) -> Record | None:
        """A job, as it is now."""
        return self.machine.jobs.get(job_id)

    def waiting(self) -> list[Record]:
        """The jobs that have not started or wait for their next run, as they were enqueued."""
        with self.lock:
            jobs = self.machine.jobs
            return [jobs[job_id] for job_id in jobs if jobs[job_id].state in WAITING]

    def next_to_start(self, queue: str | None) -> Record | None:
        """Of the heads of all queues, or of that one, the job that came first."""
        with self.lock:
            return min(self._heads(queue), key=_order, default=None)

    def _heads(self, queue: str | None) -> Iterator[Record]:
        machine = self.machine
        for name in [queue] if queue is not None else list(machine.queues):
            yield from islice(machine.waiting(name), 1)

    def may_start(self, record: Record) -> bool:
        """Whether that job waits in a queue that is not paused."""
        with self.lock:
            is_there = record.state in (State.QUEUED, State.RETRY) and not record.timer
            return is_there and not self.machine.queues[record.spec.queue].paused

    def is_stopping(self, job_id: str) -> bool:
        """Whether somebody cancelled that job while it runs."""
        with self.lock:
            session = self.machine.sessions.get(NODE)
            return session is not None and job_id in session.stopping

    def has_retry(self, queue: str | None) -> bool:
        """Whether a job, of that queue or of any, waits out the time before its next run."""
        return any(
            job.state is State.RETRY and job.timer and queue in (None, job.spec.queue)
            for job in self.waiting()
        )

    # ---- time ------------------------------------------------------------------------------------

    def next_due_ms(self) -> int | None:
        """When the next job is due that waits for its time."""
        with self.lock:
            return self.machine.due.next_ms()

    def go_on_to(self, ms: int) -> None:
        """Move the clock to that moment, never back."""
        left = datetime.timedelta(milliseconds=max(0, ms - self.clock.now_ms()))
        self.clock.advance(left)
