"""The jobs that have used up their retries: looked at, run again, forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from exkiq import client as clients
from exkiq.inspect import JobStatus
from exkiq.job import Job
from exkiq.machine import State, commands
from exkiq.options import check_queue_name
from exkiq.queue_handle import Pages

if TYPE_CHECKING:
    from exkiq.client import Client

ABOUT = "the failed jobs"


class FailedSet:
    """Failed jobs of the whole cluster; what is given as a job may be its id.

    Errors: NoNodeError, NoQuorum; OutcomeUnknown, after which it is safe to do it again.
    """

    def __init__(self, client: Callable[[], Client] = clients.default) -> None:
        self._client = client

    def jobs(self, limit: int = 100) -> list[JobStatus]:
        """These jobs, the oldest failure first; of one queue: `exkiq.queue(name).jobs`."""
        pages = Pages(State.FAILED, limit)
        while pages.want:
            pages.add(self._client().request(*pages.question(None), about=ABOUT))
        return pages.found

    async def ajobs(self, limit: int = 100) -> list[JobStatus]:
        """As `jobs`, without blocking the loop."""
        pages = Pages(State.FAILED, limit)
        while pages.want:
            pages.add(await self._client().arequest(*pages.question(None), about=ABOUT))
        return pages.found

    def retry(self, *jobs: Job | str) -> int:
        """Run these again, with the same ids and a fresh budget; how many were in the set."""
        return int(self._client().propose(self._retry(_ids(jobs), None), ABOUT))

    async def aretry(self, *jobs: Job | str) -> int:
        """As `retry`, without blocking the loop."""
        return int(await self._client().apropose(self._retry(_ids(jobs), None), ABOUT))

    def retry_all(self, queue: str | None = None) -> int:
        """Run all again, or all of one queue; how many they are."""
        return int(self._client().propose(self._retry(None, queue), ABOUT))

    async def aretry_all(self, queue: str | None = None) -> int:
        """As `retry_all`, without blocking the loop."""
        return int(await self._client().apropose(self._retry(None, queue), ABOUT))

    def delete(self, *jobs: Job | str) -> int:
        """Forget these; how many were in the set."""
        return int(self._client().propose(self._delete(_ids(jobs)), ABOUT))

    async def adelete(self, *jobs: Job | str) -> int:
        """As `delete`, without blocking the loop."""
        return int(await self._client().apropose(self._delete(_ids(jobs)), ABOUT))

    def _retry(self, ids: list[str] | None, queue: str | None) -> bytes:
        name = None if queue is None else check_queue_name(queue)
        return commands.retry(self._client().next_pid(), ids, name)

    def _delete(self, ids: list[str]) -> bytes:
        return commands.delete(self._client().next_pid(), ids, None)


def _ids(jobs: tuple[Job | str, ...]) -> list[str]:
    return [job.id if isinstance(job, Job) else job for job in jobs]


failed = FailedSet()
