"""The model's memory of ended jobs: whose ids are taken, and what is still kept."""

from __future__ import annotations

from collections import deque

LISTED = 1_000
TAKEN_MS = 60_000


class Shelf:
    """Ids of jobs that ended: each is taken for a minute of log time, longer while it is kept."""

    def __init__(self) -> None:
        self.succeeded: deque[str] = deque()
        self.cancelled: deque[str] = deque()
        self.abandoned: dict[str, int] = {}  # id -> when its record goes
        self.results: dict[str, int] = {}  # id -> when its result goes
        self.kept: dict[str, int] = {}  # id -> records of ended jobs that stand under it
        self.buried: dict[str, int] = {}  # id -> when it ended last
        self._rows: deque[tuple[int, list[str]]] = deque()

    def is_taken(self, job_id: str) -> bool:
        return job_id in self.buried or job_id in self.kept

    def put(self, job_id: str, how: str, now: int) -> None:
        """A job ended."""
        self.kept[job_id] = 1
        if how == "succeeded":
            self.succeeded.append(job_id)
        elif how == "cancelled":
            self.cancelled.append(job_id)
        elif how == "abandoned":
            self.abandoned[job_id] = -(-now // 1000) * 1000

    def take(self, job_id: str) -> None:
        """A failed job runs again, or is deleted."""
        del self.kept[job_id]

    def keep_result(self, job_id: str, now: int) -> None:
        """A job gave a value, whose lifetime is 0."""
        self.results[job_id] = -(-now // 1000) * 1000

    def close(self, now: int, ended: dict[str, list[str]]) -> None:
        """The end of an entry in which these ended, by how they are counted."""
        for ids in ended.values():
            if ids:
                self.buried.update(dict.fromkeys(ids, now))
                self._rows.append((now, ids))
        for listed in (self.succeeded, self.cancelled):
            while len(listed) > LISTED:
                del self.kept[listed.popleft()]

    def expire(self, now: int) -> int:
        """Time has passed; gives how many things went."""
        gone = [job_id for job_id, at in self.abandoned.items() if at <= now]
        for job_id in gone:
            del self.abandoned[job_id], self.kept[job_id]
        read = [job_id for job_id, at in self.results.items() if at <= now]
        for job_id in read:
            del self.results[job_id]
        count = len(gone) + len(read)
        while self._rows and self._rows[0][0] <= now - TAKEN_MS:
            ended, ids = self._rows.popleft()
            count += len(ids)
            for job_id in ids:
                if self.buried.get(job_id, ended + 1) <= ended:
                    del self.buried[job_id]
        return count
