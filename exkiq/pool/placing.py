"""Which child a job goes to."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence

from exkiq.pool.assignment import Assignment
from exkiq.pool.children import ChildProcess, Stage
from exkiq.wire.messages import COMMON

# Jobs remembered for having been in a child when it died with several of them.
SUSPECTS_MAX = 10_000

# A job that was lost this often is under suspicion on any node. Once is not enough: a node
# that dies takes hundreds of harmless jobs along, which should not then run one by one.
SUSPECT_LOST = 2


class Placing:
    """Finds a child for each job.

    1. the child with the most free slots of its group, among those that can run its task;
    2. a suspect, one of several jobs whose child died, gets a child to itself, so that the next
       death names it. It waits until one child is empty; the others go on meanwhile.
    """

    def __init__(self) -> None:
        self._children: Sequence[ChildProcess] = ()
        self._pools: tuple[str, ...] = ()  # queues that have slots of their own
        self._suspects: OrderedDict[str, None] = OrderedDict()
        self._held: deque[Assignment] = deque()
        self._lone: ChildProcess | None = None  # takes no other jobs
        self._alone = ""  # the job that it was emptied for

    def watch(self, children: Sequence[ChildProcess]) -> None:
        """The children there are from now on."""
        self._children = children
        if self._lone not in children:
            self._lone = None

    def group_by(self, pools: Iterable[str]) -> None:
        """These queues have slots of their own."""
        self._pools = tuple(pools)

    @property
    def free(self) -> int:
        """Jobs that could start now."""
        return sum(child.free for child in self._children if child is not self._lone)

    def free_in(self, group: str) -> int:
        """Jobs that could start now in that group of slots."""
        free = 0
        for child in self._children:
            if child is not self._lone:
                free += child.free_in(group)
        return free

    @property
    def unable(self) -> set[str]:
        """Tasks that no child can run now: none of all, or none of those that have room."""
        if not [child for child in self._children if child.unable]:
            return set()
        ready = [child for child in self._children if child.stage is Stage.READY]
        roomy = [child for child in ready if child.free] or ready
        first, *others = [child.unable for child in roomy] or [frozenset()]
        return set(first).intersection(*others)

    def suspect(self, jobs: Iterable[Assignment]) -> None:
        """These shared a child that died."""
        for job in jobs:
            self._suspects[job.id] = None
        while len(self._suspects) > SUSPECTS_MAX:
            self._suspects.popitem(last=False)

    def start(self, jobs: Sequence[Assignment]) -> list[Assignment]:
        """Start these jobs, or hold suspects; returns those there is no slot for."""
        suspects = self._suspects
        held = [job for job in jobs if job.lost >= SUSPECT_LOST or job.id in suspects]
        if held:
            self._held += held
            jobs = [job for job in jobs if job.lost < SUSPECT_LOST and job.id not in suspects]
        children = [child for child in self._children if child is not self._lone]
        if len(children) == 1 and not self._pools and not children[0].unable:
            left_over = _fill(children[0], jobs)
        else:
            left_over = self._deal(children, jobs)
        if self._held:
            self.start_held()
        return left_over

    def _deal(
        self, children: Sequence[ChildProcess], jobs: Sequence[Assignment]
    ) -> list[Assignment]:
        """Start these jobs; returns those there is no slot for."""
        batches: dict[int, list[Assignment]] = {}
        common = _room(children, COMMON)
        rooms = {queue: _room(children, queue) for queue in self._pools}
        unable = {child.number: child.unable for child in children if child.unable}
        left_over = []
        for job in jobs:
            free = rooms.get(job.queue, common) if rooms else common
            able = free if not unable else _able(free, unable, job.task)
            number = max(able, key=able.__getitem__, default=None)
            if number is None or free[number] <= 0:
                left_over.append(job)
                continue
            free[number] -= 1
            batches.setdefault(number, []).append(job)
        for child in children:
            if child.number in batches:
                child.begin(batches[child.number])
        return left_over

    def start_held(self) -> None:
        """Give the next suspect a child of its own if one is empty by now."""
        if self._lone is not None and self._alone in self._lone.ledger.running:
            return
        # Chosen anew each time: another child may have become empty first.
        self._lone = self._emptiest() if self._held else None
        if self._lone is not None and not self._lone.ledger.running:
            job = self._held.popleft()
            self._suspects.pop(job.id, None)
            self._alone = job.id
            self._lone.begin([job])

    def _emptiest(self) -> ChildProcess | None:
        ready = [
            child for child in self._children if child.stage is Stage.READY and not child.is_late
        ]
        return max(ready, key=lambda child: child.free, default=None)

    def take_held(self) -> list[Assignment]:
        """The jobs that still wait for a child of their own."""
        jobs = list(self._held)
        self._held.clear()
        return jobs

    def stop_job(self, job_id: str, fence: int) -> list[Assignment]:
        """The job, if it still waits for a child of its own; it waits no more."""
        found = [job for job in self._held if job.id == job_id and job.fence == fence]
        for job in found:
            self._held.remove(job)
        return found


def _fill(child: ChildProcess, jobs: Sequence[Assignment]) -> list[Assignment]:
    """Start these jobs, all alike, in the one child there is; returns those it has no slot for."""
    free = child.free_in(COMMON)
    if jobs and free:
        child.begin(jobs[:free])
    return list(jobs[free:])


def _room(children: Sequence[ChildProcess], group: str) -> dict[int, int]:
    """Free slots of the group by the number of the child."""
    return {child.number: child.free_in(group) for child in children}


def _able(free: dict[int, int], unable: dict[int, frozenset[str]], task: str) -> dict[int, int]:
    """Of these, the children that can run the task."""
    return {number: room for number, room in free.items() if task not in unable.get(number, ())}
