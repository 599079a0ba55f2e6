"""The handle of a job."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from exkiq.errors import (
    ExkiqError,
    JobCancelled,
    JobFailed,
    NoSuchJob,
    ResultTooLarge,
    SerializationError,
)
from exkiq.inspect import AttemptError, JobStatus, Step, decoded
from exkiq.machine import State, commands
from exkiq.options import check_wait
from exkiq.pool.report import VALUE_NOT_SERIALISABLE, VALUE_TOO_LARGE
from exkiq.requests import PENDING
from exkiq.telemetry import log
from exkiq.wire.codec import decode_value

if TYPE_CHECKING:
    from exkiq.asked import Asked


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

    __slots__ = ("_expected_until", "client", "id")

    def __init__(self, job_id: str, client: Asked, expected_until: float = 0.0) -> None:
        self.id = job_id
        self.client = client
        self._expected_until = expected_until

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def status(self) -> JobStatus:
        """How it is now. Errors: NoSuchJob, NoNodeError."""
        return self._status(self.client.request("job", self.id, **self._expectation()))

    async def astatus(self) -> JobStatus:
        """As `status`, without blocking the loop."""
        return self._status(await self.client.arequest("job", self.id, **self._expectation()))

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
        answer = self.client.wait_result(self.id, wait, self._expected_until)
        if answer == PENDING:
            raise UnfinishedError(self, self._last_error() if wait else None)
        return value_of(self.id, answer)

    async def aresult(self, timeout: float | None = 5.0) -> Any:
        """As `result`, without blocking the loop."""
        wait = check_wait(timeout)
        answer = await self.client.await_result(self.id, wait, self._expected_until)
        if answer == PENDING:
            raise UnfinishedError(self, await self._alast_error() if wait else None)
        return value_of(self.id, answer)

    def cancel(self, *, running: bool = False) -> str:
        """Cancel it if it has not started; with `running`, also ask it to stop if it has.

        Shapes: "ok", "in_progress" (it runs, untouched), "stopping" (it runs and is asked to
                stop: it ends as cancelled, unless it succeeds first) or "not_found" (ended or
                unknown).
        """
        answer: str = self.client.propose(*self._cancellation(running))
        return answer

    async def acancel(self, *, running: bool = False) -> str:
        """As `cancel`, without blocking the loop."""
        answer: str = await self.client.apropose(*self._cancellation(running))
        return answer

    @property
    def progress(self) -> Any:
        """What it said last with `exkiq.progress`; None before the first, and once it ended.

        Shapes: seen on any node within half a second. It is in no log: when nodes die or part it
                may be missing until the job says more. Errors: NoNodeError.
        """
        return decoded(self.client.request("progress", self.id, about=f"job {self.id}"))

    async def aprogress(self) -> Any:
        """As `progress`, without blocking the loop."""
        return decoded(await self.client.arequest("progress", self.id, about=f"job {self.id}"))

    def watch(self) -> Iterator[Step]:
        """Its steps as they happen, up to the last: succeeded, failed or cancelled.

        Shapes: who comes late is told the present state first; steps are not kept. It goes on
                when the node that is asked dies.
        Errors: NoSuchJob, NoNodeError; Refused for over 1,000 watches of one client.
        """
        return self.client.watch(self.id, self._expected_until)

    def awatch(self) -> AsyncIterator[Step]:
        """As `watch`, for `async for`."""
        return self.client.awatch(self.id, self._expected_until)

    @property
    def waited(self) -> tuple[str, float]:
        """What waiting for it takes: its id, and until when no node may deny it."""
        return self.id, self._expected_until

    def _cancellation(self, running: bool) -> tuple[bytes, str]:
        op = commands.cancel(self.client.next_pid(), self.id, running=running)
        return op, f"job {self.id}"

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


def value_of(job_id: str, answer: list[Any]) -> Any:
    """What an answer to `result` holds. Errors: as of `Job.result`."""
    kind = answer[0]
    if kind == State.FAILED:
        (error_type, message, traceback), attempts = answer[1][:3], answer[2]
        raise JobFailed(error_type, message, traceback, attempts)
    if kind == State.CANCELLED:
        raise JobCancelled(f"job {job_id} was cancelled")
    return _decoded(job_id, answer[1])


def _decoded(job_id: str, value: bytes | None) -> Any:
    if value is None:
        return None
    if value.startswith(VALUE_TOO_LARGE):
        raise ResultTooLarge(f"job {job_id} succeeded, its value was too large to be kept")
    if value.startswith(VALUE_NOT_SERIALISABLE):
        reason = value.removeprefix(VALUE_NOT_SERIALISABLE).decode(errors="replace")
        raise SerializationError(f"job {job_id} succeeded, its value was not kept: {reason}")
    return decode_value(value)
