"""The jobs that a test keeps: looked at, asserted, run when it says so."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, cast

from exkiq.asked import Place
from exkiq.handle import Handle
from exkiq.inspect import JobStatus
from exkiq.machine import Record, State
from exkiq.machine.transitions import ENDED
from exkiq.queues.views import job_map
from exkiq.testing.clock import ManualClock
from exkiq.testing.premises import Premises
from exkiq.testing.stage import Stage
from exkiq.testing.turns import Turns
from exkiq.worker import Worker, handle_of

# As many jobs as a failed assertion lists.
SHOWN_MAX = 20

_order = attrgetter("order")  # of what has ended: the order in which it did

TIMED = (State.SCHEDULED, State.RETRY)


class Fake:
    """What `exkiq.testing.fake()` gives: the jobs that were enqueued and have not run.

    What is given as a worker is a Worker class, a `@task` function or method, or a handle that
    `set` made; its options do not matter.

    `clock` is the time of these jobs; it stands still unless it is told to go on.
    """

    def __init__(self, stage: Stage, turns: Turns, premises: Premises) -> None:
        self._stage, self._turns, self._premises = stage, turns, premises

    def __repr__(self) -> str:
        return f"<Fake with {len(self.jobs)} jobs>"

    @property
    def clock(self) -> ManualClock:
        return self._stage.clock

    @property
    def jobs(self) -> list[JobStatus]:
        """The jobs that wait for their start, their time or their retry, as they came."""
        with self._stage.lock:
            return [_status(record) for record in self._stage.waiting()]

    def enqueued(self, worker: Any) -> list[JobStatus]:
        """Those of `jobs` that are of this worker or task. Errors: TypeError for what is none."""
        name = self._premises.name_of(_handle(worker).runnable)
        return [job for job in self.jobs if job.task == name]

    def assert_enqueued(
        self,
        worker: Any,
        *args: Any,
        queue: str | Place | None = None,
        times: int | None = None,
        **kwargs: Any,
    ) -> list[JobStatus]:
        """Fail unless such a job waits; without arguments, any of this worker will do.

        Shapes: `args` and `kwargs` are those of the job; `times` is how many there must be, 0
                for none, else at least one. Those that were found are returned. For a job's
                keyword `queue` or `times` look at `enqueued` yourself.
        Errors: AssertionError that lists what waits.
        """
        wanted = _Wanted(_handle(worker), args, kwargs, _name_of(queue))
        found = [job for job in self.enqueued(worker) if wanted.is_met_by(job)]
        if len(found) != times if times is not None else not found:
            raise AssertionError(wanted.complaint(len(found), times, self.jobs))
        return found

    def drain(self, queue: str | Place | None = None, *, retries: bool = True) -> list[JobStatus]:
        """Run the jobs that are due, in their order, those too that they enqueue.

        The clock goes on from one retry to the next until there is none; with
        `retries=False` it stands still, and what failed waits. Jobs of another time wait
        until the clock passes it, and those of a paused queue until it is resumed.

        Shapes: `queue` runs those of one queue alone. Returns the jobs that ended meanwhile,
                succeeded or failed: a failed job raises nothing here, its error is in it.
        Errors: RuntimeError after 10,000 runs.
        """
        before = self._stage.machine.sequence
        self._turns.drain(_name_of(queue), retries=retries)
        return self._ended_since(before)

    async def adrain(
        self, queue: str | Place | None = None, *, retries: bool = True
    ) -> list[JobStatus]:
        """As `drain`, without blocking the loop: async jobs run on it, others in a thread."""
        before = self._stage.machine.sequence
        await self._turns.adrain(_name_of(queue), retries=retries)
        return self._ended_since(before)

    def clear(self) -> None:
        """Forget all jobs, also those that have ended, and which queues were paused."""
        self._stage.begin()

    def _ended_since(self, sequence: int) -> list[JobStatus]:
        with self._stage.lock:
            jobs = self._stage.machine.jobs
            ended = [jobs[job_id] for job_id in jobs if jobs[job_id].state in ENDED]
            since = [record for record in ended if record.order > sequence]
            return [_status(record) for record in sorted(since, key=_order)]


class _Wanted:
    """The job that an assertion asks for. Its arguments are compared as they arrive."""

    def __init__(
        self,
        handle: Handle[Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        queue: str | None,
    ) -> None:
        self._task = handle.runnable.name
        self._args = tuple(_as_it_arrives(arg) for arg in args)
        self._kwargs = {name: _as_it_arrives(value) for name, value in kwargs.items()}
        self._queue = queue

    def is_met_by(self, job: JobStatus) -> bool:
        is_any = not self._args and not self._kwargs
        is_alike = is_any or (self._args == job.args and self._kwargs == job.kwargs)
        return is_alike and self._queue in (None, job.queue)

    def complaint(self, found: int, times: int | None, jobs: list[JobStatus]) -> str:
        """What was wanted, how many there are, and what waits instead."""
        what = _call(self._task, self._args, self._kwargs)
        if not self._args and not self._kwargs:
            what = f"a job of {self._task}"
        where = "" if self._queue is None else f" in queue {self._queue!r}"
        wish = "at least once" if times is None else _times(times)
        lines = [f"{what}{where} should wait {wish}, and waits {_times(found)}; what waits:"]
        lines += [f"  {_line(job)}" for job in jobs[:SHOWN_MAX]]
        if len(jobs) > SHOWN_MAX:
            lines.append(f"  and {len(jobs) - SHOWN_MAX} more")
        if not jobs:
            lines.append("  no job waits at all")
        return "\n".join(lines)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _status(record: Record) -> JobStatus:
    return JobStatus.of(cast("dict[str, Any]", job_map(record)))


def _name_of(queue: str | Place | None) -> str | None:
    return queue.name if isinstance(queue, Place) else queue


def _handle(worker: Any) -> Handle[Any]:
    if isinstance(worker, Handle):
        return worker
    if isinstance(worker, type) and issubclass(worker, Worker):
        return handle_of(worker)
    raise TypeError(f"give a Worker class, a task or a handle of one, not {worker!r}")


def _as_it_arrives(value: Any) -> Any:
    """Tuples as lists; what cannot be sent, such as `mock.ANY`, as it is."""
    if isinstance(value, list | tuple):
        return [_as_it_arrives(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_it_arrives(item) for key, item in value.items()}
    return value


def _line(job: JobStatus) -> str:
    when = f" at {job.run_at:%Y-%m-%d %H:%M:%S}" if job.state in TIMED and job.run_at else ""
    return f"{_call(job.task, job.args, job.kwargs)} in {job.queue!r}, {job.state}{when}"


def _call(task: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    given = [repr(arg) for arg in args]
    given += [f"{name}={value!r}" for name, value in kwargs.items()]
    return f"{task}({', '.join(given)})"
