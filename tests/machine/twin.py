"""What the machine should do, said with plain lists and dicts: obvious rather than fast.

Written apart from the machine. It is told operations as values and knows no bytes; places are
lists that are searched, nothing is counted before somebody asks.
"""

from __future__ import annotations

from dataclasses import dataclass

from exkiq.machine import limits


@dataclass
class Job:
    """One job of the twin."""

    id: str
    task: str
    queue: str
    priority: int
    ttl_ms: int
    max_lost: int
    run_at: int
    state: str = "queued"
    failures: int = 0
    lost: int = 0
    fence: int = 0
    node: str | None = None
    session: int = 0
    ended_at: int = 0
    is_kept: bool = False
    is_stopping: bool = False


class Twin:
    """The whole state, as naive as can be."""

    def __init__(self) -> None:
        self.index = 0
        self.now = 0
        self.jobs: dict[str, Job] = {}
        self.lines: dict[tuple[str, int], list[str]] = {}
        self.later: list[str] = []  # in the order in which they were put aside
        self.places: dict[str, float] = {}
        self.parked: dict[str, list[str]] = {}
        self.waits: dict[str, list[int]] = {}
        self.runs: dict[str, list[int]] = {}
        self.ends: dict[str, list[int]] = {}  # when jobs succeeded or failed
        self.paused: set[str] = set()
        self.sessions: dict[str, tuple[int, str]] = {}
        self.last_session = 0
        self.failed: list[str] = []
        self.succeeded: list[str] = []
        self.cancelled: list[str] = []
        self.graves: dict[str, int] = {}
        self.ended: list[tuple[str, str]] = []  # in this entry
        self.remembered: dict[bytes, object] = {}
        self.totals = dict.fromkeys(
            ("enqueued", "succeeded", "cancelled", "abandoned", "lost", "stale"), 0
        )
        self.totals |= dict.fromkeys(("dropped", "deleted", "retried"), 0)
        self.front = 0
        self.back = 0

    # The lines

    def at_tail(self, job: Job) -> None:
        self.back += 1
        self.places[job.id] = self.back
        self.lines.setdefault((job.queue, job.priority), []).append(job.id)

    def at_front(self, jobs: list[Job]) -> None:
        """Before all others, in the order they had."""
        for job in sorted(jobs, key=lambda job: self.places[job.id], reverse=True):
            job.state = "queued"
            self.front -= 1
            self.places[job.id] = self.front
            self.lines.setdefault((job.queue, job.priority), []).insert(0, job.id)

    def in_line(self, job: Job) -> bool:
        return job.id in self.lines.get((job.queue, job.priority), [])

    def leave(self, job: Job) -> None:
        if self.in_line(job):
            self.lines[job.queue, job.priority].remove(job.id)
        elif job.id in self.parked.get(job.task, []):
            self.parked[job.task].remove(job.id)
        else:
            self.later.remove(job.id)

    def waiting(self, queue: str) -> list[str]:
        if queue in self.paused:
            return []
        mine = sorted((key for key in self.lines if key[0] == queue), key=lambda key: -key[1])
        return [job_id for key in mine for job_id in self.lines[key]]

    def running_of(self, session: int) -> list[Job]:
        return [
            job for job in self.jobs.values() if job.state == "running" and job.session == session
        ]

    # Entries

    def start_entry(self, now: int) -> None:
        self.index += 1
        self.ended = []
        self.now = max(self.now, now)

    def end_entry(self) -> None:
        self.graves |= {job_id: self.now for job_id, _ in self.ended}
        for ended in (self.succeeded, self.cancelled):
            while len(ended) > limits.SUCCEEDED_JOBS_MAX:
                job = self.jobs[ended.pop(0)]
                if not job.is_kept:
                    del self.jobs[job.id]
        while len(self.failed) > limits.FAILED_JOBS_MAX:
            del self.jobs[self.failed.pop(0)]
            self.totals["dropped"] += 1

    def finish(self, job: Job, state: str) -> None:
        if state != "cancelled":
            self.ends.setdefault(job.queue, []).append(self.now)
        else:
            self.cancelled.append(job.id)
            self.totals["cancelled"] += 1
        job.state = state
        job.session = 0
        job.is_stopping = False
        job.ended_at = self.now
        self.ended.append((job.id, state))

    # Operations; each gives its answer

    def enqueue(self, ids, spec, delay, is_unique):
        taken = [n for n, i in enumerate(ids) if self.is_taken(i) or i in ids[:n]]
        if is_unique and taken:
            return "JobAlreadyExists"
        for job_id in dict.fromkeys(ids):
            if self.is_taken(job_id):
                continue
            kept = (spec.result_ttl_ms, spec.max_lost)
            job = Job(job_id, spec.task, spec.queue, spec.priority, *kept, self.now + delay)
            self.jobs[job_id] = job
            self.totals["enqueued"] += 1
            if delay:
                job.state = "scheduled"
                self.later.append(job_id)
            else:
                self.at_tail(job)
        return [len(ids) - len(taken), taken]

    def is_taken(self, job_id: str) -> bool:
        return job_id in self.jobs or job_id in self.graves

    def claim(self, node, session, ids):
        claimed = 0
        if self.sessions.get(node, (0, ""))[0] != session:
            return 0
        for job_id in ids:
            job = self.jobs.get(job_id)
            if job is None or job_id not in self.waiting(job.queue) or job.fence == self.index:
                continue
            self.leave(job)
            job.state, job.node, job.session, job.fence = "running", node, session, self.index
            self.waits.setdefault(job.queue, []).append(self.now - job.run_at)
            claimed += 1
        return claimed

    def mine(self, session: int, job_id: str, fence: int) -> Job | None:
        known = session in [number for number, _ in self.sessions.values()]
        jobs = [job for job in self.running_of(session) if job.id == job_id and job.fence == fence]
        return jobs[0] if known and jobs else None

    def complete(self, session, ids, fences, has_value, run_ms):
        accepted = 0
        for job_id, fence, ms in zip(ids, fences, run_ms, strict=True):
            job = self.mine(session, job_id, fence)
            if job is None:
                self.totals["stale"] += 1
                continue
            self.runs.setdefault(job.queue, []).append(ms)
            self.finish(job, "succeeded")
            job.is_kept = has_value
            self.succeeded.append(job_id)
            self.totals["succeeded"] += 1
            accepted += 1
        return accepted

    def fail(self, session, job_id, fence, decision, run_ms):
        job = self.mine(session, job_id, fence)
        if job is None:
            self.totals["stale"] += 1
            return 0
        self.runs.setdefault(job.queue, []).append(run_ms)
        job.session = 0
        job.failures += 1
        if job.is_stopping:
            self.finish(job, "cancelled")
            return 1
        match decision:
            case ["retry", delay]:
                self.totals["retried"] += 1
                job.state, job.run_at = "retry", self.now + delay
                if delay:
                    self.later.append(job_id)
                else:
                    self.at_tail(job)
            case ["requeue"]:
                job.state, job.run_at = "queued", self.now
                self.at_tail(job)
            case ["move", queue] if queue not in (job.queue, "running"):
                job.state, job.run_at, job.queue = "queued", self.now, queue
                job.failures = job.lost = 0
                self.at_tail(job)
            case ["abandon"]:
                self.finish(job, "failed")
                job.is_kept = True
                self.totals["abandoned"] += 1
            case _:
                self.finish(job, "failed")
                self.failed.append(job_id)
        return 1

    def hand_back(self, session, ids, fences, is_lost):
        jobs = []
        for job_id, fence in zip(ids, fences, strict=True):
            job = self.mine(session, job_id, fence)
            if job is not None:
                job.session = 0
                job.state = "queued"
                jobs.append(job)
        self.give_back(jobs, is_lost)
        return len(jobs)

    def give_back(self, jobs: list[Job], is_lost: bool) -> None:
        jobs = sorted(jobs, key=lambda job: self.places[job.id])
        for job in jobs:
            job.session = 0
            job.lost += is_lost
            self.totals["lost"] += is_lost
        stopping = [job for job in jobs if job.is_stopping]
        over = [job for job in jobs if is_lost and job.lost > job.max_lost and job not in stopping]
        for job in over:
            self.finish(job, "failed")
            self.failed.append(job.id)
        self.at_front([job for job in jobs if job not in over and job not in stopping])
        for job in stopping:
            self.finish(job, "cancelled")

    def due(self):
        """Gives nothing: how many steps the machine takes is its own affair."""
        order = {job_id: n for n, job_id in enumerate(self.later)}
        for job_id in sorted(self.later, key=lambda i: (self.jobs[i].run_at, order[i])):
            job = self.jobs[job_id]
            if job.run_at <= self.now:
                self.later.remove(job_id)
                job.state = "retry" if job.state == "retry" else "queued"
                self.at_tail(job)
        for job in list(self.jobs.values()):
            if job.is_kept and job.state in ("succeeded", "failed") and self.is_over(job):
                job.is_kept = False
                if job.id not in self.succeeded:
                    del self.jobs[job.id]
        for job_id, ended in list(self.graves.items()):
            if ended + 60_000 <= self.now:
                del self.graves[job_id]

    def is_over(self, job: Job) -> bool:
        """A kept result goes with the first full second at or after its time."""
        return (job.ended_at + job.ttl_ms + 999) // 1000 * 1000 <= self.now

    def session_begin(self, node, run_id, _address):
        if node in self.sessions:
            number, known = self.sessions[node]
            if known == run_id:
                return number
            self.session_over(node, number, is_orderly=False)
        self.last_session = max(self.index, self.last_session + 1)
        self.sessions[node] = (self.last_session, run_id)
        return self.last_session

    def session_over(self, node, session, is_orderly):
        if self.sessions.get(node, (0, ""))[0] != session:
            return 0
        jobs = self.running_of(session)
        del self.sessions[node]
        self.give_back(jobs, not is_orderly)
        return len(jobs)

    def cancel(self, job_id, running=False):
        job = self.jobs.get(job_id)
        if job is None or job.state in ("succeeded", "failed", "cancelled"):
            return "not_found"
        if job.state == "running":
            job.is_stopping |= running
            return "stopping" if running else "in_progress"
        self.leave(job)
        self.finish(job, "cancelled")
        return "ok"

    def move(self, job_id, queue):
        job = self.jobs.get(job_id)
        if job is None:
            return "not_found"
        if job.state not in ("queued", "scheduled", "retry"):
            return "started"
        if queue == job.queue:
            return "Refused"
        is_later = job_id in self.later
        self.leave(job)
        job.queue = queue
        if is_later:
            self.later.append(job_id)
        else:
            self.at_tail(job)
        return "ok"

    def park(self, task, ids):
        jobs = [self.jobs[i] for i in dict.fromkeys(ids) if i in self.jobs]
        jobs = [job for job in jobs if self.in_line(job) and job.task == task]
        for job in jobs:
            self.leave(job)
            self.parked.setdefault(task, []).append(job.id)
            self.parked[task].sort(key=lambda i: self.places[i])
        return len(jobs)

    def unpark(self, task, limit):
        ids = self.parked.get(task, [])[:limit]
        for job_id in ids:
            job = self.jobs[job_id]
            self.leave(job)
            line = self.lines[job.queue, job.priority]
            line.append(job_id)
            line.sort(key=lambda i: self.places[i])
        return len(ids)

    def clear(self, queue):
        paused, self.paused = self.paused, set()
        parked = [job_id for task in sorted(self.parked) for job_id in self.parked[task]]
        others = [i for i in parked + self.later if self.jobs[i].queue == queue]
        ids = self.waiting(queue) + others
        self.paused = paused
        return len([self.cancel(job_id) for job_id in ids])

    def pause(self, queue):
        has_changed = queue not in self.paused
        self.paused.add(queue)
        return has_changed

    def resume(self, queue):
        has_changed = queue in self.paused
        self.paused.discard(queue)
        return has_changed

    def select(self, ids, queue) -> list[str]:
        chosen = (
            list(self.failed)
            if ids is None
            else [i for i in dict.fromkeys(ids) if i in self.failed]
        )
        return [i for i in chosen if queue is None or self.jobs[i].queue == queue]

    def retry(self, ids, queue):
        chosen = self.select(ids, queue)
        for job_id in chosen:
            self.failed.remove(job_id)
            job = self.jobs[job_id]
            job.state, job.run_at, job.failures, job.lost = "queued", self.now, 0, 0
            self.ended = [end for end in self.ended if end[0] != job_id]
            self.at_tail(job)
        return len(chosen)

    def delete(self, ids, queue):
        chosen = self.select(ids, queue)
        for job_id in chosen:
            self.failed.remove(job_id)
            del self.jobs[job_id]
        self.totals["deleted"] += len(chosen)
        return len(chosen)

    def next_due(self) -> int | None:
        return min((self.jobs[job_id].run_at for job_id in self.later), default=None)

    def counts(self) -> dict[str, int]:
        counts = {
            state: sum(job.state == state for job in self.jobs.values())
            for state in ("queued", "running", "scheduled", "retry")
        }
        counts["unknown_task"] = sum(map(len, self.parked.values()))
        return counts | {"failed": len(self.failed)} | self.totals
