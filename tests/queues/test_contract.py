"""The contract of backends, held against each house of the queue, and against a poor backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from exkiq.clock import ManualClock
from exkiq.errors import UnsupportedOperation
from exkiq.machine.outcomes import Answer
from exkiq.queues import HouseQueue, LocalHouse, raise_or_return
from exkiq.queues.backend import CAPABILITIES, NewJob, Operation, Queue, Reserved, Seen, Stats
from exkiq.queues.local_journal import LocalJournal
from exkiq.testing import QueueContract
from tests.aggregator.pretend import Pids

PID = Pids()


def queue_in(house: LocalHouse) -> Queue:
    def propose(op: bytes) -> Answer:
        told: list[Any] = []
        house.propose_with(op, 5.0, told.append)
        return raise_or_return(told[0])

    return HouseQueue("Local", "q", lambda: house.machine, propose, PID)


class Test_HD_22_local(QueueContract):  # noqa: N801 - named as its row is
    def make(self) -> Queue:
        return queue_in(LocalHouse(ManualClock()))


class Test_HD_22_local_durable(QueueContract):  # noqa: N801 - named as its row is
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> Any:
        self.path = tmp_path / "q.db"
        self.journals: list[LocalJournal] = []
        yield
        for journal in self.journals:
            journal.close()

    def make(self) -> Queue:
        journal = LocalJournal(self.path)
        self.journals.append(journal)
        return queue_in(LocalHouse(ManualClock(), book=journal, machine=journal.machine))


class ListQueue(Queue):
    """A backend of a few lines, that can hardly do anything."""

    kind = "List"

    def __init__(self) -> None:
        self.waiting: list[NewJob] = []
        self.running: dict[str, tuple[NewJob, int]] = {}
        self.starts = 0

    def capabilities(self) -> frozenset[Operation]:
        return frozenset({Operation.ENQUEUE, Operation.STATS})

    def enqueue(self, jobs: Sequence[NewJob]) -> int:
        self.waiting += jobs
        return len(jobs)

    def reserve(self, limit: int) -> list[Reserved]:
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return [self._start(job) for job in taken]

    def _start(self, job: NewJob) -> Reserved:
        self.starts += 1
        self.running[job.id] = (job, self.starts)
        return Reserved(job.id, self.starts, job.task, job.payload, 1)

    def _end(self, job: Reserved) -> NewJob | None:
        held, fence = self.running.get(job.id, (None, 0))
        return self.running.pop(job.id)[0] if held and fence == job.fence else None

    def ack(self, job: Reserved, value: bytes | None = None) -> bool:
        return self._end(job) is not None

    def nack(self, job: Reserved, decision: Sequence[str | int], error: Sequence[str]) -> bool:
        if decision[0] == "retry":
            raise UnsupportedOperation(f"{self.kind} has no {Operation.RETRY_WAIT.value}")
        ended = self._end(job)
        if ended is not None and decision[0] == "requeue":
            self.waiting.append(ended)
        return ended is not None

    def cancel(self, job_id: str) -> str:
        raise UnsupportedOperation(f"{self.kind} has no {Operation.CANCEL.value}")

    def jobs(
        self, state: str | None = None, where: Callable[[Seen], bool] | None = None
    ) -> list[Seen]:
        raise UnsupportedOperation(f"{self.kind} has no {Operation.WHERE.value}")

    def stats(self) -> Stats:
        running = len(self.running)
        return Stats(count=len(self.waiting) + running, in_progress=running)


class Test_HD_22_poor_backend(QueueContract):  # noqa: N801 - named as its row is
    def make(self) -> Queue:
        return ListQueue()


class Twice(ListQueue):
    def reserve(self, limit: int) -> list[Reserved]:
        self.waiting += self.waiting[:limit]
        return super().reserve(limit)


class Quiet(ListQueue):
    def validate(self, job: NewJob) -> None:
        """Takes a delay that it will not keep."""


class Credulous(ListQueue):
    def _end(self, job: Reserved) -> NewJob | None:
        return self.running.pop(job.id, (None, 0))[0]


@pytest.mark.parametrize(
    ("backend", "check"),
    [
        (Twice, "test_jobs_come_in_their_order_once"),
        (Quiet, "test_a_delay_is_kept_or_refused"),
        (Credulous, "test_an_end_counts_once"),
    ],
)
def test_HD_22_a_backend_that_breaks_the_contract_is_found(
    backend: type[Queue], check: str
) -> None:
    """The suite would let anything pass."""

    class Broken(QueueContract):
        def make(self) -> Queue:
            return backend()

    with pytest.raises(AssertionError):
        getattr(Broken(), check)()


def test_C_18_the_table_says_what_each_kind_can() -> None:
    """A backend would be asked for what it cannot do, after the job was stored."""
    assert CAPABILITIES["Local"] == frozenset(Operation)
    assert frozenset(Operation) - CAPABILITIES["replicated"] == {Operation.LAMBDA}
    other = CAPABILITIES["Local of another node"]
    assert frozenset(Operation) - other == {Operation.LAMBDA, Operation.WATCH}
    assert Operation.ENQUEUE not in CAPABILITIES["SQL poll"]
    for kind in ("RabbitMQ", "SQL poll"):
        assert Operation.DELAY not in CAPABILITIES[kind]
