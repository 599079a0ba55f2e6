"""One queue of a house, local or replicated, behind the protocol of backends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from exkiq.errors import JobAlreadyExists
from exkiq.machine import Machine, Record, Spec, commands
from exkiq.machine.outcomes import Answer
from exkiq.queues.backend import CAPABILITIES, NewJob, Operation, Queue, Reserved, Seen, Stats

RUN_ID = "reserve"


class HouseQueue(Queue):
    """Reserves in a session of its own; no aggregator may hand out the same queue.

    `propose` has an operation applied and gives its answer, or raises what refused it.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        machine: Callable[[], Machine],
        propose: Callable[[bytes], Answer],
        next_pid: Callable[[], bytes],
    ) -> None:
        self.kind, self.name = kind, name
        self._node = f"reserve {name}"
        self._machine, self._propose, self._pid = machine, propose, next_pid

    def capabilities(self) -> frozenset[Operation]:
        return CAPABILITIES[self.kind]

    def enqueue(self, jobs: Sequence[NewJob]) -> int:
        for job in jobs:
            self.validate(job)
        new = self._new(jobs)
        for job in jobs:
            spec = Spec(job.task, self.name, job.priority, job.retries)
            wish = {"delay_ms": job.delay_ms, "is_unique": job.is_unique}
            op = commands.enqueue(self._pid(), spec, [job.id], [job.payload], **wish)  # type: ignore[arg-type]
            self._propose(op)
        return len(new)

    def _new(self, jobs: Sequence[NewJob]) -> set[str]:
        """The ids that are not there yet. Errors: JobAlreadyExists before anything is stored."""
        there, new = self._machine().jobs, set[str]()
        for job in jobs:
            if job.id not in there and job.id not in new:
                new.add(job.id)
            elif job.is_unique:
                raise JobAlreadyExists(f"a job with the id {job.id!r} exists already")
        return new

    def reserve(self, limit: int) -> list[Reserved]:
        self._propose(commands.due(self._pid()))
        ids = [record.id for record in islice(self._machine().waiting(self.name), limit)]
        if ids:
            self._propose(commands.claim(self._pid(), [(self._node, self._session(), ids)]))
        found = (self._machine().jobs[job_id] for job_id in ids)
        return [_reserved(record) for record in found if record.node == self._node]

    def ack(self, job: Reserved, value: bytes | None = None) -> bool:
        values = None if value is None else [value]
        op = commands.complete(self._pid(), self._session(), [job.id], [job.fence], values)
        return self._is_done(job, op)

    def nack(self, job: Reserved, decision: Sequence[str | int], error: Sequence[str]) -> bool:
        row = [job.id, job.fence, list(decision), list(error), 0]
        return self._is_done(job, commands.fail(self._pid(), self._session(), [row]))

    def cancel(self, job_id: str) -> str:
        return str(self._propose(commands.cancel(self._pid(), job_id)))

    def jobs(
        self, state: str | None = None, where: Callable[[Seen], bool] | None = None
    ) -> list[Seen]:
        found = [Seen(r.id, r.state.value, r.spec.task) for r in self._records()]
        chosen = (job for job in found if state in (None, job.state))
        return [job for job in chosen if where is None or where(job)]

    def stats(self) -> Stats:
        queue = self._machine().queues.get(self.name)
        if queue is None:
            return Stats(count=0, in_progress=0)
        waiting = queue.queued + queue.scheduled + queue.retry
        return Stats(count=waiting + queue.running, in_progress=queue.running)

    def _records(self) -> list[Record]:
        return [job for job in self._machine().jobs.values() if job.spec.queue == self.name]

    def _session(self) -> int:
        session = self._machine().sessions.get(self._node)
        if session is None:
            self._propose(commands.session_begin(self._pid(), self._node, RUN_ID, "here"))
            session = self._machine().sessions[self._node]
        return session.id

    def _is_done(self, job: Reserved, op: bytes) -> bool:
        record = self._machine().jobs.get(job.id)
        is_ours = record is not None and record.state == "running" and record.fence == job.fence
        self._propose(op)
        return is_ours


def _reserved(record: Record) -> Reserved:
    return Reserved(record.id, record.fence, record.spec.task, record.payload, record.failures + 1)
