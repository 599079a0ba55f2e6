"""What stands for the client of a process during a test: jobs and questions stay in it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from exkiq.clock import countdown
from exkiq.errors import ExkiqError, NoSuchJob, UnsupportedOperation
from exkiq.inspect import Step
from exkiq.job import Job
from exkiq.orders import Ids, Order, in_groups
from exkiq.queue_handle import QueueHandle
from exkiq.queues.views import counts_map, queues_map
from exkiq.queues.waiters import Ending, Waiters
from exkiq.queues.watchers import Told, Watchers
from exkiq.reads import Reads
from exkiq.runnable import Runnable
from exkiq.testing.premises import Premises
from exkiq.testing.stage import NODE, Stage
from exkiq.testing.turns import Turns


class Never:
    """A timer that does not go off: no real time passes."""

    def cancel(self) -> None:
        """There is nothing to cancel."""


def _never(_: float, __: Callable[[], None]) -> Never:
    return Never()


class Desk:
    """Answers what a client answers, from the machine of a test.

    Who waits for a result gives time to the jobs: they run, and the clock goes on from one due
    job to the next, until that job has ended or the wait is over on the clock.
    """

    enqueue_timeout = 5.0
    is_stand_in = True

    def __init__(self, stage: Stage, turns: Turns, ids: Ids, premises: Premises) -> None:
        self._stage, self._turns, self._premises = stage, turns, premises
        self.next_id = ids.next
        self.next_pid = stage.next_pid
        self._reads = Reads(stage, self._status, self._progress_of, stage.clock).by_verb
        self._waiters = Waiters(lambda: stage.machine, _never)
        self._watchers = Watchers(lambda: stage.machine, _never)
        stage.subscribe(self._watchers.applied)

    def close(self) -> None:
        """As a client has it; there is nothing to hang up."""

    # ---- queues of one process -------------------------------------------------------------------

    def take_in(self, queue: str) -> Desk:
        """Who takes the jobs of a local queue of this name."""
        self._premises.take_in(queue)
        return self

    def task_name(self, runnable: Runnable) -> str:
        """The name by which they find this task, one that cannot be imported included."""
        return self._premises.name_of(runnable)

    # ---- handles ---------------------------------------------------------------------------------

    def job(self, job_id: str) -> Job:
        """The handle of a job by its id."""
        return Job(job_id, self)

    def made(self, job_id: str) -> Job:
        """The handle of a job that an operation made."""
        return self.job(job_id)

    def queue(self, name: str) -> QueueHandle:
        """The handle of a queue by its name."""
        return QueueHandle(name, self)

    def stats(self, *, consistent: bool = False) -> dict[str, int]:  # noqa: ARG002
        """Counts, flat: what waits in each queue, and one for each state."""
        told: dict[str, int] = self.request("stats")
        return told

    async def astats(self, *, consistent: bool = False) -> dict[str, int]:
        """As `stats`."""
        return self.stats(consistent=consistent)

    # ---- jobs ------------------------------------------------------------------------------------

    def enqueue(self, order: Order) -> Job:
        """Keep one job."""
        return self.enqueue_all([order])[0]

    async def aenqueue(self, order: Order) -> Job:
        """As `enqueue`."""
        return (await self.aenqueue_all([order]))[0]

    def enqueue_all(self, orders: Sequence[Order]) -> list[Job]:
        """Keep jobs of one kind."""
        for group in in_groups(orders):
            self.propose(group.encode(self.next_pid()))
        return [self.job(order.id) for order in orders]

    async def aenqueue_all(self, orders: Sequence[Order]) -> list[Job]:
        """As `enqueue_all`."""
        return self.enqueue_all(orders)

    # ---- anything --------------------------------------------------------------------------------

    def propose(self, op: bytes, about: str = "operation", timeout: float | None = None) -> Any:  # noqa: ARG002 - it is done at once
        """Have an operation of `exkiq.machine.commands` done; its outcome."""
        return self._stage.apply(op)

    async def apropose(
        self, op: bytes, about: str = "operation", timeout: float | None = None
    ) -> Any:
        """As `propose`."""
        return self.propose(op, about, timeout)

    def request(
        self,
        verb: str,
        *args: Any,
        timeout: float | None = None,  # noqa: ARG002 - an answer is there at once
        about: str = "",  # noqa: ARG002
        expected_until: float = 0.0,  # noqa: ARG002
    ) -> Any:
        """Ask what any node answers. Errors: UnsupportedOperation about nodes and clusters."""
        read = self._reads.get(verb)
        if read is None:
            raise UnsupportedOperation(f"{verb}: there is no cluster while jobs are faked")
        with self._stage.lock:
            return read(list(args))

    async def arequest(
        self,
        verb: str,
        *args: Any,
        timeout: float | None = None,
        about: str = "",
        expected_until: float = 0.0,
    ) -> Any:
        """As `request`."""
        return self.request(
            verb, *args, timeout=timeout, about=about, expected_until=expected_until
        )

    def countdown(self, timeout: float | None) -> Callable[[], float | None]:
        """What is left of `timeout` whenever it is called."""
        return countdown(self._stage.clock, timeout)

    def wait_result(self, job_id: str, timeout: float | None, expected_until: float) -> Any:  # noqa: ARG002
        """The answer to `result`; ["pending"] when time is over, or nothing is left to run."""
        self._turns.until_ended([job_id], timeout)
        return self._outcome(job_id)

    async def await_result(self, job_id: str, timeout: float | None, expected_until: float) -> Any:  # noqa: ARG002
        """As `wait_result`; async jobs run on the running loop."""
        await self._turns.auntil_ended([job_id], timeout)
        return self._outcome(job_id)

    def wait_results(self, asked: Sequence[tuple[str, float]], timeout: float | None) -> list[Any]:
        """As `wait_result` for many jobs, with one limit for all; errors are among the answers."""
        self._turns.until_ended([job_id for job_id, _ in asked], timeout)
        return [self._outcome_or_error(job_id) for job_id, _ in asked]

    async def await_results(
        self, asked: Sequence[tuple[str, float]], timeout: float | None
    ) -> list[Any]:
        """As `wait_results`; async jobs run on the running loop."""
        await self._turns.auntil_ended([job_id for job_id, _ in asked], timeout)
        return [self._outcome_or_error(job_id) for job_id, _ in asked]

    def watch(self, job_id: str, expected_until: float) -> Iterator[Step]:  # noqa: ARG002
        """The steps of a job, which runs as they are asked for."""
        runs = self._turns.each([job_id])
        with self._watched(job_id) as told:
            yield from _steps(told)
            for _ in runs:
                yield from _steps(told)

    async def awatch(self, job_id: str, expected_until: float) -> AsyncIterator[Step]:  # noqa: ARG002
        """As `watch`; async jobs run on the running loop."""
        with self._watched(job_id) as told:
            for step in _steps(told):
                yield step
            async for _ in self._turns.aeach([job_id]):
                for step in _steps(told):
                    yield step

    @contextmanager
    def _watched(self, job_id: str) -> Iterator[deque[Told]]:
        """What is told of a job from now on."""
        self._must_be_known(job_id)
        told: deque[Told] = deque()
        watch = self._watchers.watch(job_id, 0, lambda _, step, __: told.append(step))
        try:
            yield told
        finally:
            self._watchers.drop(watch)

    def _must_be_known(self, job_id: str) -> None:
        machine = self._stage.machine
        if job_id not in machine.jobs and machine.tombstone(job_id) is None:
            raise NoSuchJob(f"no job has the id {job_id!r}")

    def _outcome(self, job_id: str) -> Any:
        self._must_be_known(job_id)
        told: list[Ending] = []
        with self._stage.lock:
            self._waiters.wait(job_id, 0, lambda _, ending: told.append(ending))
        if isinstance(told[0], ExkiqError):
            raise told[0]
        return told[0]

    def _outcome_or_error(self, job_id: str) -> Any:
        try:
            return self._outcome(job_id)
        except ExkiqError as error:
            return error

    def _progress_of(self, job_id: str) -> bytes | None:
        return self._stage.progress.get(job_id)

    def _status(self) -> dict[str, Any]:
        machine = self._stage.machine
        return {
            "node": NODE,
            "queues": queues_map(machine, self._stage.clock.now_ms()),
            "stats": counts_map(machine),
        }


class InlineDesk(Desk):
    """Runs each job at once, whenever it was to run, with all its retries."""

    def enqueue_all(self, orders: Sequence[Order]) -> list[Job]:
        """Run jobs of one kind, one after the other; their handles have the outcomes."""
        jobs = super().enqueue_all([_now(order) for order in orders])
        for job in jobs:
            self._turns.alone(job.id)
        return jobs

    async def aenqueue_all(self, orders: Sequence[Order]) -> list[Job]:
        """As `enqueue_all`; async jobs run on the running loop."""
        jobs = super().enqueue_all([_now(order) for order in orders])
        for job in jobs:
            await self._turns.aalone(job.id)
        return jobs


def _now(order: Order) -> Order:
    return order._replace(delay_ms=0, run_at_ms=0)


def _steps(told: deque[Told]) -> Iterator[Step]:
    """What was told and not yet taken."""
    while told:
        step = told.popleft()
        if isinstance(step, ExkiqError):
            raise step
        if step is not None:
            yield Step.of(cast("dict[str, Any]", step))
