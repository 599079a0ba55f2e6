"""What runs in one child."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from exkiq.pool.assignment import Assignment


class Ledger:
    """The jobs of one child, from the order to start until their outcome."""

    __slots__ = ("_checkpoints", "_deadlines", "begun_at", "begun_total", "running")

    def __init__(self) -> None:
        self.running: dict[str, Assignment] = {}
        self.begun_total = 0
        self.begun_at: dict[str, float] = {}
        self._checkpoints: dict[str, bytes] = {}
        self._deadlines: dict[str, asyncio.TimerHandle] = {}

    def begin(
        self, job: Assignment, at: float, deadline: asyncio.TimerHandle | None = None
    ) -> None:
        """Units: `at` in seconds of the monotonic clock."""
        self.running[job.id] = job
        self.begun_at[job.id] = at
        self.begun_total += 1
        if deadline is not None:
            self._deadlines[job.id] = deadline

    def find(self, job_id: object, fence: object) -> Assignment | None:
        """The running job, if it is this very start of it."""
        job = self.running.get(job_id)  # type: ignore[call-overload]
        return job if job is not None and job.fence == fence else None

    def end(self, job_id: str) -> None:
        """The job has an outcome; a second one finds nothing."""
        del self.running[job_id]
        del self.begun_at[job_id]
        if self._checkpoints:
            self._checkpoints.pop(job_id, None)
        if self._deadlines and (deadline := self._deadlines.pop(job_id, None)) is not None:
            deadline.cancel()

    def end_all(self, ids: Sequence[str], fences: Sequence[int]) -> list[int]:
        """End these jobs; returns the positions of those that ran."""
        valid = [i for i, key in enumerate(ids) if self.find(key, fences[i]) is not None]
        for i in valid:
            self.end(ids[i])
        return valid

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
        self._checkpoints.clear()
        self._deadlines.clear()
