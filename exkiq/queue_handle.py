"""The handle of a queue, and lists of jobs that come in pages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from exkiq.errors import NoSuchJob, Refused
from exkiq.inspect import JobStatus, QueueStats
from exkiq.job import Job
from exkiq.machine import Spec, State, commands
from exkiq.machine.limits import CLEAR_JOBS_MAX
from exkiq.options import check_id, check_queue_name
from exkiq.orders import Order

if TYPE_CHECKING:
    from exkiq.asked import Asked

# Jobs a node lists in one answer.
PAGE_JOBS_MAX = 1_000

# What jobs are chosen by: a question to each, or the values that fields of theirs must have.
Where: TypeAlias = Callable[[JobStatus], object] | Mapping[str, object]


class QueueHandle:
    """One queue, by its name."""

    __slots__ = ("client", "name")

    def __init__(self, name: str, client: Asked) -> None:
        self.name = check_queue_name(name)
        self.client = client

    def __repr__(self) -> str:
        return f"<Queue {self.name}>"

    def pause(self) -> bool:
        """Start no job of it on any node until `resume`; whether that is new."""
        return bool(self._propose(commands.pause(self.client.next_pid(), self.name)))

    async def apause(self) -> bool:
        """As `pause`, without blocking the loop."""
        return bool(await self._apropose(commands.pause(self.client.next_pid(), self.name)))

    def resume(self) -> bool:
        """Start its jobs again; whether that is new."""
        return bool(self._propose(commands.resume(self.client.next_pid(), self.name)))

    async def aresume(self) -> bool:
        """As `resume`, without blocking the loop."""
        return bool(await self._apropose(commands.resume(self.client.next_pid(), self.name)))

    def clear(self) -> int:
        """Remove the jobs that have not started; how many they were."""
        removed = 0
        while True:
            count: int = self._propose(commands.clear(self.client.next_pid(), self.name))
            removed += count
            if count < CLEAR_JOBS_MAX:
                return removed

    async def aclear(self) -> int:
        """As `clear`, without blocking the loop."""
        removed = 0
        while True:
            count: int = await self._apropose(commands.clear(self.client.next_pid(), self.name))
            removed += count
            if count < CLEAR_JOBS_MAX:
                return removed

    def retry_all(self) -> int:
        """Run its failed jobs again, with the same ids and a fresh budget; how many they are."""
        return int(self._propose(commands.retry(self.client.next_pid(), None, self.name)))

    async def aretry_all(self) -> int:
        """As `retry_all`, without blocking the loop."""
        return int(await self._apropose(commands.retry(self.client.next_pid(), None, self.name)))

    def stats(self) -> QueueStats:
        """Its counts; all 0 for a queue that has never had a job."""
        told = self.client.request("queues", about=self._about)
        return QueueStats.of(self.name, told.get(self.name, {}))

    async def astats(self) -> QueueStats:
        """As `stats`, without blocking the loop."""
        told = await self.client.arequest("queues", about=self._about)
        return QueueStats.of(self.name, told.get(self.name, {}))

    def jobs(
        self, state: str | None = None, limit: int = 100, *, where: Where | None = None
    ) -> list[JobStatus]:
        """Its jobs, all or those of one state; `exkiq.job(status.id)` is the handle of one.

        Shapes: `where` chooses among them, here and not on the nodes: a function that is given
                each status, or a dict of fields of a status and the whole values they must have.
        Errors: ValueError for a state or a field that is none, or a limit below 1; TypeError for
                a `where` of another kind, and what it raises.
        """
        pages = Pages(state, limit, where)
        while pages.want:
            page = self.client.request(*pages.question(self.name), about=self._about)
            pages.add(page)
        return pages.found

    async def ajobs(
        self, state: str | None = None, limit: int = 100, *, where: Where | None = None
    ) -> list[JobStatus]:
        """As `jobs`, without blocking the loop."""
        pages = Pages(state, limit, where)
        while pages.want:
            page = await self.client.arequest(*pages.question(self.name), about=self._about)
            pages.add(page)
        return pages.found

    def move(self, job: Job | str, to: str, *, only_if_pending: bool = False) -> Job:
        """Have a job of this queue done by another one.

        Shapes: a job that has not started is moved in one step and keeps its id and its time. Of
                one that runs or has ended a copy with an id of its own is enqueued there and
                returned: both may run. `only_if_pending` refuses that.
        Errors: Refused when it is in another queue, was started and may not be, or its arguments
                are not kept any more; NoSuchJob; ValueError for what is no name of another queue.
        """
        move = _Move(self, job, to, only_if_pending)
        move.check(self.client.request("job", move.id, about=move.about))
        if move.is_moved(self.client.propose(move.operation(), move.about)):
            return self.client.job(move.id)
        return self.client.enqueue(move.copy(self.client.request("job", move.id, about=move.about)))

    async def amove(self, job: Job | str, to: str, *, only_if_pending: bool = False) -> Job:
        """As `move`, without blocking the loop."""
        move = _Move(self, job, to, only_if_pending)
        move.check(await self.client.arequest("job", move.id, about=move.about))
        if move.is_moved(await self.client.apropose(move.operation(), move.about)):
            return self.client.job(move.id)
        told = await self.client.arequest("job", move.id, about=move.about)
        return await self.client.aenqueue(move.copy(told))

    @property
    def _about(self) -> str:
        return f"queue {self.name!r}"

    def _propose(self, op: bytes) -> Any:
        return self.client.propose(op, self._about)

    async def _apropose(self, op: bytes) -> Any:
        return await self.client.apropose(op, self._about)


class _Move:
    """One move of a job: what is asked, and what the answers mean."""

    def __init__(self, queue: QueueHandle, job: Job | str, to: str, only_if_pending: bool) -> None:
        self.id = job.id if isinstance(job, Job) else check_id(job)
        self.about = f"job {self.id}"
        self._queue = queue.name
        self._client = queue.client
        self._to = check_queue_name(to)
        self._only_if_pending = only_if_pending
        if to == queue.name:
            raise ValueError(f"cannot move to {to!r}, the job is there")

    def check(self, told: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """The job as it was just now. Errors: NoSuchJob; Refused for one of another queue."""
        if told is None:
            raise NoSuchJob(f"no job {self.id}, or its record is gone")
        if told["queue"] != self._queue:
            raise Refused(f"{self.about} is in queue {told['queue']!r}, not {self._queue!r}")
        return told

    def operation(self) -> bytes:
        return commands.move(self._client.next_pid(), self.id, self._to)

    def is_moved(self, answer: str) -> bool:
        """Whether that was all. Errors: NoSuchJob; Refused where only a copy can be made."""
        if answer == "not_found":
            raise NoSuchJob(f"no job {self.id}, or its record is gone")
        if answer == "started" and self._only_if_pending:
            raise Refused(f"{self.about} has started, so it is not moved to {self._to!r}")
        return answer == "ok"

    def copy(self, told: Mapping[str, Any] | None) -> Order:
        """The same call for the other queue. Errors: as of `check`; Refused without arguments."""
        job = self.check(told)
        if not job["args"]:
            raise Refused(f"{self.about} has ended, its arguments are not kept: it has no copy")
        spec = Spec(
            job["task"],
            self._to,
            job["priority"],
            job["retries"],
            job["result_ttl_ms"],
            job["max_lost"],
            job["timeout_ms"],
            job["isolated"],
        )
        return Order(spec, self._client.next_id(), job["args"])


class Pages:
    """A list that is asked for page by page. `want` is 0 once there is no more to ask for."""

    def __init__(
        self,
        state: str | None,
        limit: int,
        where: Where | None = None,
        *,
        offset: int = 0,
        page_max: int = PAGE_JOBS_MAX,
    ) -> None:
        if state is not None and state not in list(State):
            raise ValueError(f"state must be one of {', '.join(State)}, not {state!r}")
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ValueError(f"limit must be an int of 1 or more, not {limit!r}")
        self.found: list[JobStatus] = []
        self.want = page_max if where is not None else min(limit, page_max)
        self._state = state
        self._limit = limit
        self._is_chosen = None if where is None else _chooser(where)
        self._offset = offset
        self._page_max = page_max

    def question(self, queue: str | None) -> tuple[Any, ...]:
        return "jobs", queue, self._state, self.want, self._offset

    def add(self, page: list[dict[str, Any]]) -> None:
        is_last = len(page) < self.want
        if self._is_chosen is None:
            self.found += map(JobStatus.of, page)
            self.want = min(self._limit - len(self.found), self._page_max)
        else:
            whole = _as_far_as_whole(page)
            is_last = is_last and len(whole) == len(page)
            page = whole
            self._choose(map(JobStatus.of, page), self._is_chosen)
        self._offset += len(page)
        if is_last or len(self.found) >= self._limit:
            self.want = 0

    def _choose(
        self, statuses: Iterable[JobStatus], is_chosen: Callable[[JobStatus], object]
    ) -> None:
        known = {status.id for status in self.found}  # one may move on while the list is read
        for status in statuses:
            if len(self.found) < self._limit and status.id not in known and is_chosen(status):
                self.found.append(status)


def _as_far_as_whole(page: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Up to where a page grew too large for arguments: those jobs begin the next one."""
    short = (position for position, told in enumerate(page) if told["args"] is None)
    return page[: max(1, next(short, len(page)))]


def _chooser(where: Where) -> Callable[[JobStatus], object]:
    """A question to each job. Errors: TypeError, or ValueError for a field that no job has."""
    if callable(where):
        return where
    if not isinstance(where, Mapping):
        raise TypeError(f"where must be a dict of fields, or a function of a job, not {where!r}")
    names = [field.name for field in dataclasses.fields(JobStatus)]
    for name in where:
        if name not in names:
            raise ValueError(f"where: a job has no {name!r}; it has {', '.join(names)}")
    wanted = {name: _as_in_a_status(value) for name, value in where.items()}
    return lambda status: all(getattr(status, name) == wanted[name] for name in wanted)


def _as_in_a_status(value: object) -> object:
    """What holds several values is a tuple there: arguments, errors."""
    return tuple(value) if isinstance(value, list) else value
