"""The model's jobs: where each stands, and the few steps it can take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

from tests.sim.pool import RARE
from tests.sim.shelf import Shelf
from tests.sim.violation import Violation

LATER, WAITING, RUNNING, ENDED = "later", "waiting", "running", "ended"
PARKED = "parked"

Lane = tuple[str, int]  # queue and priority


@dataclass(eq=False)
class Job:
    id: str
    queue: str
    priority: int
    retries: int
    max_lost: int
    run_at: int
    number: int  # its place: in its lane, or among those that wait for their time
    state: str = ""
    end: str = ""
    is_fresh: bool = True
    since: int = 0  # index at which it began to wait
    failures: int = 0
    lost: int = 0
    fence: int = 0
    session: int = 0
    runs: int = 0  # as the losses: since it got its present budget
    losses: int = 0
    handed_back: int = 0
    fences: list[int] = field(default_factory=list)
    index: int = 0
    task: str = ""
    is_stopping: bool = False  # cancelled while it runs

    @property
    def lane(self) -> Lane:
        return self.queue, self.priority

    @property
    def place(self) -> tuple[int, int]:
        """Smaller is sooner, within a queue."""
        return -self.priority, self.number


class Board:
    """All jobs and their places: a lane, `later`, `parked`, `running`, `failed`, or the shelf."""

    def __init__(self) -> None:
        self.index = self.now = self.number = self.front = 0
        self.jobs: dict[str, Job] = {}
        self.places: dict[str, dict[str, Job]] = {
            place: {} for place in (LATER, PARKED, RUNNING, "failed")
        }
        self.lanes: dict[Lane, dict[str, Job]] = {}
        self.totals = {"succeeded": 0, "cancelled": 0}
        self.shelf = Shelf()
        self._ended: dict[str, str] = {}  # in this entry: id -> how

    def _broken(self, kind: str, text: str) -> NoReturn:
        raise Violation(kind, f"entry {self.index}: {text}")

    def _is_taken(self, job_id: str) -> bool:
        job = self.jobs.get(job_id)
        return (job is not None and job.state != ENDED) or self.shelf.is_taken(job_id)

    def _put(self, job: Job, state: str) -> None:
        job.state = state
        if state == WAITING:
            job.since = self.index
            self.lanes.setdefault(job.lane, {})[job.id] = job
        elif state == ENDED:
            if job.end == "failed":
                self.places["failed"][job.id] = job
        else:
            self.places[state][job.id] = job

    def _take(self, job: Job) -> None:
        """Out of where it stands."""
        if job.state == WAITING:
            del self.lanes[job.lane][job.id]
        else:
            place = "failed" if job.state == ENDED else job.state
            del self.places[place][job.id]

    def _to_tail(self, job: Job) -> None:
        self.number += 1
        job.number = self.number
        self._put(job, WAITING)

    def _again(self, job: Job, run_at: int, *, is_taken: bool = False) -> None:
        """Another run, now or later; behind all that wait."""
        if not is_taken:
            self._take(job)
        job.run_at, job.is_fresh = run_at, False
        if run_at > self.now:
            self.number += 1
            job.number = self.number
            self._put(job, LATER)
        else:
            self._to_tail(job)

    def _fresh_budget(self, job: Job) -> None:
        job.failures = job.lost = job.runs = job.losses = job.handed_back = 0

    def _end(self, job: Job, how: str) -> None:
        if job.state == ENDED:
            self._broken("H4", f"{job.id} ends again: {job.end}, {how}")
        self._take(job)
        job.end, job.is_stopping = how, False
        self._put(job, ENDED)
        if how in self.totals:
            self.totals[how] += 1
        self.shelf.put(job.id, how, self.now)
        self._ended[job.id] = how

    def _give_back(self, jobs: list[Job], *, is_lost: bool) -> None:
        """Before all that wait, in their former order; those lost too often fail.

        Those that were cancelled while they ran end as that.
        """
        stopping = [job for job in jobs if job.is_stopping]
        jobs = [job for job in jobs if not job.is_stopping]
        for job in sorted(jobs, key=lambda job: job.number, reverse=True):
            if is_lost:
                job.lost += 1
                job.losses += 1
            else:
                job.handed_back += 1
            if job.lost > job.max_lost and is_lost:
                continue
            self._take(job)
            self.front -= 1
            job.number = self.front
            self._put(job, WAITING)
        for job in sorted(jobs, key=lambda job: job.number):
            if is_lost and job.lost > job.max_lost:
                self._end(job, "failed")
        for job in sorted(stopping, key=lambda job: job.number):
            self._end(job, "cancelled")

    # ---- order --------------------------------------------------------------------------------

    def _check_order(self, started: list[Job]) -> None:
        """First come, first served: of those that waited, and of those that were never run."""
        for queue in {job.queue for job in started}:
            left = [j for lane in self.lanes if lane[0] == queue for j in self.lanes[lane].values()]
            mine = [job for job in started if job.queue == queue]
            # those that not every node can run may be overtaken by others
            self._check_all([job for job in mine if job.task == RARE], left)
            self._check_all(mine, [job for job in left if job.task != RARE])

    def _check_all(self, mine: list[Job], left: list[Job]) -> None:
        self._check_first(
            [job for job in mine if job.since < self.index],
            [job for job in left if job.since < self.index],
        )
        for lane in {job.lane for job in mine}:
            self._check_first(
                [job for job in mine if job.lane == lane and job.is_fresh],
                [job for job in left if job.lane == lane and job.is_fresh],
            )

    def _check_first(self, started: list[Job], left: list[Job]) -> None:
        if started and left:
            last = max(started, key=lambda job: job.place)
            first = min(left, key=lambda job: job.place)
            if first.place < last.place:
                self._broken("H9", f"{last.id} starts before {first.id} in {last.lane}")

    # ---- for comparisons ---------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """As `Machine.counts`, where the two can be compared."""
        places = {place: len(self.places[place]) for place in self.places}
        waiting = sum(map(len, self.lanes.values())) + places[LATER] + places[PARKED]
        here = {"running": places[RUNNING], "failed": places["failed"]}
        return {"waiting": waiting, "unknown_task": places[PARKED], **here, **self.totals}

    def unstarted(self, queue: str) -> list[Job]:
        """What waits, then what was put aside, then what is due later."""
        mine = [job for job in self.jobs.values() if job.queue == queue]
        waiting, parked, later = (
            [job for job in mine if job.state == state] for state in (WAITING, PARKED, LATER)
        )
        return [
            *sorted(waiting, key=lambda job: job.place),
            *sorted(parked, key=lambda job: (job.task, job.number)),
            *sorted(later, key=lambda job: job.number),
        ]

    def in_order(self, lane: Lane) -> list[str]:
        """Who waits in a lane, the next one first."""
        jobs = self.lanes.get(lane, {}).values()
        return [job.id for job in sorted(jobs, key=lambda job: job.place)]
