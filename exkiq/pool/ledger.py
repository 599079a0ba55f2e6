"""What runs in one child."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from exkiq.pool.assignment import Assignment
from exkiq.wire.messages import COMMON


class Ledger:
    """The jobs of one child, from the order to start until their outcome.

    `stopping` are those of them that were cancelled; `awaiting` those that want to know when
    their success is in the log.
    """

    __slots__ = (
        "_checkpoints",
        "_deadlines",
        "_taken",
        "awaiting",
        "begun_at",
        "begun_total",
        "running",
        "stopping",
    )

    def __init__(self) -> None:
        self.running: dict[str, Assignment] = {}
        self.begun_total = 0
        self.begun_at: dict[str, float] = {}
        self.stopping: set[str] = set()
        self.awaiting: set[str] = set()
        self._taken: dict[str, int] = {}  # queue of a pool -> slots, while there are pools
        self._checkpoints: dict[str, bytes] = {}
        self._deadlines: dict[str, asyncio.TimerHandle] = {}

    def group_by(self, queues: Mapping[str, int]) -> None:
        """These queues have slots of their own; nothing runs yet."""
        self._taken = dict.fromkeys((queue for queue in queues if queue != COMMON), 0)

    def taken(self, group: str) -> int:
        """How many slots of the group are in use."""
        if group != COMMON:
            return self._taken.get(group, 0)
        return len(self.running) - (sum(self._taken.values()) if self._taken else 0)

    def begin(self, job: Assignment, at: float) -> None:
        """Units: `at` in seconds of the monotonic clock."""
        self.begin_all([job], at)

    def begin_all(self, jobs: Sequence[Assignment], at: float) -> None:
        """Units: `at` in seconds of the monotonic clock."""
        running, begun_at = self.running, self.begun_at
        for job in jobs:
            running[job.id] = job
            begun_at[job.id] = at
        self.begun_total += len(jobs)
        if self._taken:
            for job in jobs:
                if job.queue in self._taken:
                    self._taken[job.queue] += 1

    def limit(self, job: Assignment, deadline: asyncio.TimerHandle) -> None:
        """The timer ends with the job."""
        self._deadlines[job.id] = deadline

    def find(self, job_id: object, fence: object) -> Assignment | None:
        """The running job, if it is this very start of it."""
        job = self.running.get(job_id)  # type: ignore[call-overload]
        return job if job is not None and job.fence == fence else None

    def end(self, job_id: str) -> None:
        """The job has an outcome; a second one finds nothing."""
        job = self.running.pop(job_id)
        del self.begun_at[job_id]
        self._forget(job_id, job)

    def _forget(self, job_id: str, job: Assignment) -> None:
        """What only some jobs have."""
        if self._checkpoints:
            self._checkpoints.pop(job_id, None)
        if self._deadlines and (deadline := self._deadlines.pop(job_id, None)) is not None:
            deadline.cancel()
        if self._taken and job.queue in self._taken:
            self._taken[job.queue] -= 1
        if self.stopping:
            self.stopping.discard(job_id)

    def end_all(self, ids: Sequence[str], fences: Sequence[int]) -> list[int]:
        """End these jobs; returns the positions of those that ran.

        Errors: TypeError for ids that are none; then nothing has ended.
        """
        running, begun_at = self.running, self.begun_at
        found = [running.get(job_id) for job_id in ids]
        ended = []
        for i, job in enumerate(found):
            job_id = ids[i]
            if job is None or job.fence != fences[i] or running.pop(job_id, None) is None:
                continue  # it does not run, or was just said
            del begun_at[job_id]
            if self._checkpoints or self._deadlines or self._taken or self.stopping:
                self._forget(job_id, job)
            ended.append(i)
        return ended

    def save(self, job_id: str, checkpoint: bytes) -> None:
        self._checkpoints[job_id] = checkpoint

    def checkpoint_of(self, job: Assignment) -> bytes | None:
        """The last one: of this start, or of an earlier one."""
        return self._checkpoints.get(job.id, job.checkpoint)

    def clear(self) -> None:
        for deadline in self._deadlines.values():
            deadline.cancel()
        self.running.clear()
        self.begun_at.clear()
        self.stopping.clear()
        self._taken = dict.fromkeys(self._taken, 0)
        self._checkpoints.clear()
        self._deadlines.clear()
