"""Handles of what is in the cluster: a job, a queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from exkiq.errors import (
    ExkiqError,
    JobCancelled,
    JobFailed,
    NoSuchJob,
    ResultTooLarge,
    SerializationError,
)
from exkiq.inspect import AttemptError, JobStatus, QueueStats
from exkiq.machine import State, commands
from exkiq.machine.limits import CLEAR_JOBS_MAX
from exkiq.options import check_queue_name, check_wait
from exkiq.pool.report import VALUE_NOT_SERIALISABLE, VALUE_TOO_LARGE
from exkiq.telemetry import log
from exkiq.wire.codec import decode_value

if TYPE_CHECKING:
    from exkiq.client import Client

# Jobs a node lists in one answer.
PAGE_JOBS_MAX = 1_000


class UnfinishedError(TimeoutError):
    """The job has not ended in time and goes on.

    `job` is its handle, `error` that of its last failed attempt.
    """

    def __init__(self, job: Job, error: AttemptError | None) -> None:
        last = f", its last attempt failed: {error.type}: {error.message}" if error else ""
        super().__init__(f"job {job.id} has not ended yet{last}")
        self.job = job
        self.error = error


class Job:
    """One job, by its id."""

    __slots__ = ("_client", "_expected_until", "id")

    def __init__(self, job_id: str, client: Client, expected_until: float = 0.0) -> None:
        self.id = job_id
        self._client = client
        self._expected_until = expected_until

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def status(self) -> JobStatus:
        """How it is now. Errors: NoSuchJob, NoNodeError."""
        return self._status(self._client.request("job", self.id, **self._expectation()))

    async def astatus(self) -> JobStatus:
        """As `status`, without blocking the loop."""
        return self._status(await self._client.arequest("job", self.id, **self._expectation()))

    def result(self, timeout: float | None = 5.0) -> Any:
        """Wait for the final outcome of this job.

        Shapes: returns what `perform` returned, tuples as lists; None also when nothing was kept.
        Units:  timeout in seconds, 0 or more; 0 asks once, None waits on.
        Errors: JobFailed (error and attempts inside), JobCancelled, TimeoutError (the job goes
                on); ResultTooLarge or SerializationError when it succeeded and its value could
                not be kept; NoSuchJob, NoNodeError.
        Source: Honeydew's `yield`, opened to anyone who has the id.
        """
        wait = check_wait(timeout)
        answer = self._client.wait_result(self.id, wait, self._expected_until)
        if answer == ["pending"]:
            raise UnfinishedError(self, self._last_error() if wait else None)
        return self._value(answer)

    async def aresult(self, timeout: float | None = 5.0) -> Any:
        """As `result`, without blocking the loop."""
        wait = check_wait(timeout)
        answer = await self._client.await_result(self.id, wait, self._expected_until)
        if answer == ["pending"]:
            raise UnfinishedError(self, await self._alast_error() if wait else None)
        return self._value(answer)

    def cancel(self) -> str:
        """Cancel it if it has not started.

        Shapes: "ok", "in_progress" (it runs, untouched) or "not_found" (ended or unknown).
        """
        answer: str = self._client.propose(*self._cancellation())
        return answer

    async def acancel(self) -> str:
        """As `cancel`, without blocking the loop."""
        answer: str = await self._client.apropose(*self._cancellation())
        return answer

    def _cancellation(self) -> tuple[bytes, str]:
        return commands.cancel(self._client.next_pid(), self.id), f"job {self.id}"

    def _expectation(self) -> Mapping[str, Any]:
        return {"about": f"job {self.id}", "expected_until": self._expected_until}

    def _status(self, told: Any) -> JobStatus:
        if told is None:
            raise NoSuchJob(f"no job {self.id}, or its record is gone")
        return JobStatus.of(told)

    def _last_error(self) -> AttemptError | None:
        try:
            return self.status().error
        except ExkiqError as error:
            log.debug("the last error of job %s is not known: %s", self.id, error)
            return None

    async def _alast_error(self) -> AttemptError | None:
        try:
            return (await self.astatus()).error
        except ExkiqError as error:
            log.debug("the last error of job %s is not known: %s", self.id, error)
            return None

    def _value(self, answer: list[Any]) -> Any:
        kind = answer[0]
        if kind == State.FAILED:
            (error_type, message, traceback), attempts = answer[1][:3], answer[2]
            raise JobFailed(error_type, message, traceback, attempts)
        if kind == State.CANCELLED:
            raise JobCancelled(f"job {self.id} was cancelled")
        return self._decoded(answer[1])

    def _decoded(self, value: bytes | None) -> Any:
        if value is None:
            return None
        if value.startswith(VALUE_TOO_LARGE):
            raise ResultTooLarge(f"job {self.id} succeeded, its value was too large to be kept")
        if value.startswith(VALUE_NOT_SERIALISABLE):
            reason = value.removeprefix(VALUE_NOT_SERIALISABLE).decode(errors="replace")
            raise SerializationError(f"job {self.id} succeeded, its value was not kept: {reason}")
        return decode_value(value)


class QueueHandle:
    """One queue, by its name."""

    __slots__ = ("_client", "name")

    def __init__(self, name: str, client: Client) -> None:
        self.name = check_queue_name(name)
        self._client = client

    def __repr__(self) -> str:
        return f"<Queue {self.name}>"

    def pause(self) -> bool:
        """Start no job of it on any node until `resume`; whether that is new."""
        return bool(self._propose(commands.pause(self._client.next_pid(), self.name)))

    async def apause(self) -> bool:
        """As `pause`, without blocking the loop."""
        return bool(await self._apropose(commands.pause(self._client.next_pid(), self.name)))

    def resume(self) -> bool:
        """Start its jobs again; whether that is new."""
        return bool(self._propose(commands.resume(self._client.next_pid(), self.name)))

    async def aresume(self) -> bool:
        """As `resume`, without blocking the loop."""
        return bool(await self._apropose(commands.resume(self._client.next_pid(), self.name)))

    def clear(self) -> int:
        """Remove the jobs that have not started; how many they were."""
        removed = 0
        while True:
            count: int = self._propose(commands.clear(self._client.next_pid(), self.name))
            removed += count
            if count < CLEAR_JOBS_MAX:
                return removed

    async def aclear(self) -> int:
        """As `clear`, without blocking the loop."""
        removed = 0
        while True:
            count: int = await self._apropose(commands.clear(self._client.next_pid(), self.name))
            removed += count
            if count < CLEAR_JOBS_MAX:
                return removed

    def retry_all(self) -> int:
        """Run its failed jobs again, with the same ids and a fresh budget; how many they are."""
        return int(self._propose(commands.retry(self._client.next_pid(), None, self.name)))

    async def aretry_all(self) -> int:
        """As `retry_all`, without blocking the loop."""
        return int(await self._apropose(commands.retry(self._client.next_pid(), None, self.name)))

    def stats(self) -> QueueStats:
        """Its counts; all 0 for a queue that has never had a job."""
        told = self._client.request("queues", about=self._about)
        return QueueStats.of(self.name, told.get(self.name, {}))

    async def astats(self) -> QueueStats:
        """As `stats`, without blocking the loop."""
        told = await self._client.arequest("queues", about=self._about)
        return QueueStats.of(self.name, told.get(self.name, {}))

    def jobs(self, state: str | None = None, limit: int = 100) -> list[JobStatus]:
        """Its jobs, all or those of one state; `exkiq.job(status.id)` is the handle of one.

        Errors: ValueError for a state that is none, or a limit below 1.
        """
        pages = Pages(state, limit)
        while pages.want:
            page = self._client.request(*pages.question(self.name), about=self._about)
            pages.add(page)
        return pages.found

    async def ajobs(self, state: str | None = None, limit: int = 100) -> list[JobStatus]:
        """As `jobs`, without blocking the loop."""
        pages = Pages(state, limit)
        while pages.want:
            page = await self._client.arequest(*pages.question(self.name), about=self._about)
            pages.add(page)
        return pages.found

    @property
    def _about(self) -> str:
        return f"queue {self.name!r}"

    def _propose(self, op: bytes) -> Any:
        return self._client.propose(op, self._about)

    async def _apropose(self, op: bytes) -> Any:
        return await self._client.apropose(op, self._about)


class Pages:
    """A list that is asked for page by page. `want` is 0 once there is no more to ask for."""

    def __init__(self, state: str | None, limit: int) -> None:
        if state is not None and state not in list(State):
            raise ValueError(f"state must be one of {', '.join(State)}, not {state!r}")
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ValueError(f"limit must be an int of 1 or more, not {limit!r}")
        self.found: list[JobStatus] = []
        self.want = min(limit, PAGE_JOBS_MAX)
        self._state = state
        self._limit = limit

    def question(self, queue: str | None) -> tuple[Any, ...]:
        return "jobs", queue, self._state, self.want, len(self.found)

    def add(self, page: list[dict[str, Any]]) -> None:
        self.found += map(JobStatus.of, page)
        is_last = len(page) < self.want
        self.want = 0 if is_last else min(self._limit - len(self.found), PAGE_JOBS_MAX)
