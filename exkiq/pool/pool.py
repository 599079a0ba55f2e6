"""The pool of a node: slots for jobs, in child processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from exkiq.clock import Clock
from exkiq.declarations import Declarations
from exkiq.pool.assignment import Assignment
from exkiq.pool.children import ChildPlan, ChildProcess, Ending, until_gone
from exkiq.pool.crew import Crew
from exkiq.pool.isolation import Isolation
from exkiq.pool.placing import Placing
from exkiq.pool.report import Report, Reporter
from exkiq.pool.settling import Settling
from exkiq.pool.words import Order
from exkiq.telemetry import log
from exkiq.wire.messages import COMMON, UNABLE_MAX

# A cancelled async job's time to clean up, once the drain's time is over.
CANCEL_SECONDS = 0.5

# From the kill of a child to its death; longer only if the kernel itself is stuck.
KILL_SECONDS = 1.0

# What jobs with an on_shutdown have to be saved, of the time of a drain and at the end of it.
SAVE_SECONDS = 4.0
SAVE_PART = 0.4

# A child without jobs ends at once but for handlers of the user at exit.
LEAVE_SECONDS = 1.0


class Phase(Enum):
    NEW = "new"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPED = "stopped"


class Pool:
    """Runs jobs in child processes and reports what became of them.

    1. `start` returns when every child has loaded the APP;
    2. `run` starts jobs at once, at most `concurrency` in a child; what has no slot comes back,
       and so does what its child has not begun within `claim_timeout`;
    3. every job that was given to `run` is reported once: done, failed, returned or lost;
       only `abandon` breaks that, on purpose;
    4. `drain` lets jobs end, then hands back the rest; `stop` ends the children.

    Everything is called on the node's loop; so is `report`, once a turn at most. `environ` is
    what the children find in their environment besides, or instead of, what is in ours;
    `queue_tables` what the settings say of queues in place of what the APP declares.
    """

    def __init__(
        self,
        app: tuple[str, ...],
        loader: str,
        processes: int,
        concurrency: int,
        report: Callable[[Report], None],
        clock: Clock,
        sys_path: Sequence[str],
        cwd: str,
        environ: Mapping[str, str] | None = None,
        queue_tables: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        claim_timeout: float = 1.0,
    ) -> None:
        plan = ChildPlan(
            app,
            loader,
            concurrency,
            tuple(sys_path),
            cwd,
            environ or {},
            queue_tables or {},
            processes,
            claim_timeout,
        )
        self._phase = Phase.NEW
        self._reporter = Reporter(report)
        self._placing = Placing()
        self._settling = Settling(self._reporter)
        self._crew = Crew(
            plan,
            processes if concurrency > 0 else 0,
            self._placing,
            self._settling,
            self._changed,
            clock,
        )
        children_max = processes * concurrency
        self._isolation = Isolation(plan, children_max, self._settling, self._changed, clock)
        self._idle = asyncio.Event()

    @property
    def free(self) -> int:
        """How many jobs could start now, in all groups of slots."""
        return sum(self.free_by_group.values())

    @property
    def free_by_group(self) -> dict[str, int]:
        """How many jobs could start now: of the queue of each declared pool, and under "" of all
        other queues."""
        if self._phase is not Phase.RUNNING:
            return {COMMON: 0}
        pools = tuple(self._crew.declarations.pools)
        groups = (COMMON, *pools)
        if not self._isolation.children:
            return {group: self._placing.free_in(group) for group in groups}
        return {
            group: max(0, self._placing.free_in(group) - self._isolation.taken(group, pools))
            for group in groups
        }

    @property
    def unable(self) -> tuple[str, ...]:
        """Tasks that cannot be run here now: nobody knows them, or their `init` fails."""
        if self._phase is not Phase.RUNNING:
            return ()
        unable = self._placing.unable | self._isolation.unable
        if not unable:
            return ()
        return tuple(sorted(unable)[:UNABLE_MAX])

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that APP declares; known once started."""
        return self._crew.queues

    @property
    def running(self) -> int:
        """How many jobs run now."""
        running = sum(len(child.ledger.running) for child in self._children)
        return running + self._isolation.starting

    @property
    def declarations(self) -> Declarations:
        """What APP declares of its queues and pools; known once started."""
        return self._crew.declarations

    def tree(self) -> dict[str, Any]:
        """Its children, for people: the slots of each, by group, and the jobs in them."""
        return {
            str(child): {"slots": dict(child.groups), "jobs": sorted(child.ledger.running)}
            for child in self._children
        }

    @property
    def _children(self) -> list[ChildProcess]:
        return [*self._crew.children, *self._isolation.children]

    @property
    def _busy(self) -> list[ChildProcess]:
        return [child for child in self._children if child.ledger.running]

    async def start(self) -> None:
        """Start the children and load the APP in each.

        Errors: ConfigError that names the module and the cause; then nothing is left running.
        """
        await self._crew.start()
        self._phase = Phase.RUNNING

    def run(self, assignments: Sequence[Assignment]) -> None:
        """Start these jobs; those without a slot are reported as returned."""
        if self._phase is Phase.RUNNING:
            isolated = [job for job in assignments if job.isolated]
            if isolated or self._isolation.children:
                left_over = self._run_beside(assignments)
            else:
                left_over = self._placing.start(assignments)
        else:
            left_over = list(assignments)
        self._settling.hand_back_unstarted(left_over)

    def _run_beside(self, assignments: Sequence[Assignment]) -> list[Assignment]:
        """Start jobs, some of them isolated: those count against the slots of all children."""
        free = self.free_by_group
        common: list[Assignment] = []
        isolated: list[Assignment] = []
        left_over: list[Assignment] = []
        for job in assignments:
            group = job.queue if job.queue in free else COMMON
            if free[group] <= 0:
                left_over.append(job)
                continue
            free[group] -= 1
            (isolated if job.isolated else common).append(job)
        return left_over + self._placing.start(common) + self._isolation.start(isolated)

    def stop_job(self, job_id: str, fence: int) -> None:
        """The job was cancelled: stop it where it runs, in its own way."""
        for child in self._children:
            job = child.ledger.find(job_id, fence)
            if job is not None:
                child.stop_job(job)
                return
        waiting = self._placing.stop_job(job_id, fence) + self._isolation.stop_job(job_id, fence)
        self._settling.hand_back_unstarted(waiting)

    def committed(self, job_ids: Iterable[str]) -> None:
        """The success of these jobs is in the log; they were in the `awaiting` of a report."""
        told: dict[ChildProcess, list[str]] = {}
        for job_id in job_ids:
            child = self._settling.awaiting.pop(job_id, None)
            if child is not None:
                told.setdefault(child, []).append(job_id)
        for child, ids in told.items():
            child.order(Order.COMMITTED, ids)

    def _changed(self) -> None:
        """Something was said or somebody died: use the room, and tell that there is some."""
        if self._phase is Phase.RUNNING:
            self._placing.start_held()
        elif not self._busy:
            self._idle.set()
        self._reporter.open()

    async def drain(self, timeout: float) -> None:
        """Start nothing more, let jobs end, then stop the rest and hand it back.

        Jobs with an `on_shutdown` are asked for a checkpoint while there is still time for it.

        Units: timeout in seconds; async jobs get 0.5 s more to clean up after it.
        """
        if self._phase is not Phase.RUNNING:
            return
        self._phase = Phase.DRAINING
        self._crew.is_keeping = False
        waiting = self._placing.take_held() + self._isolation.take_starting()
        self._settling.hand_back_unstarted(waiting)
        self._order_busy(Order.STOPPING)
        timers = self._end_pools_sooner(timeout)
        for_saving = _for_saving(timeout)
        if not await self._until_idle(timeout - for_saving):
            self._order_busy(Order.SAVE)
            if not await self._until_idle(for_saving):
                await self._stop_running()
        for timer in timers:
            timer.cancel()
        self._reporter.flush()

    def _end_pools_sooner(self, timeout: float) -> list[asyncio.TimerHandle]:
        """Stop the jobs of declared pools whose own time ends before that of the drain."""
        loop = asyncio.get_running_loop()
        timers: list[asyncio.TimerHandle] = []
        for queue, terms in self.declarations.pools.items():
            grace = terms.shutdown_ms / 1000
            if grace < timeout:
                save_at = grace - _for_saving(grace)
                timers.append(loop.call_later(save_at, self._order_busy, Order.SAVE, [queue]))
                timers.append(loop.call_later(grace, self._order_busy, Order.CANCEL, [queue]))
        return timers

    def _order_busy(self, order: Order, *rest: object) -> None:
        for child in self._busy:
            child.order(order, *rest)

    async def _stop_running(self) -> None:
        log.info("jobs that did not end in time and are handed back: %d", self.running)
        self._order_busy(Order.CANCEL)
        await self._until_idle(CANCEL_SECONDS)
        busy = self._busy
        for child in busy:
            child.replace(Ending.HAND_BACK)
        await until_gone(busy, KILL_SECONDS)

    async def _until_idle(self, timeout: float) -> bool:
        self._idle.clear()
        if not self._busy:
            return True
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def abandon(self) -> None:
        """Stop everything that runs and forget it: the session is over, it runs elsewhere."""
        busy = self._busy
        if busy:
            log.warning("%d running jobs are stopped: they run elsewhere now", self.running)
        self._placing.take_held()
        self._isolation.take_starting()
        for child in busy:
            child.ledger.clear()
            child.replace(Ending.DROP)
        self._reporter.drop()
        self._reporter.open()

    async def stop(self) -> None:
        """End the children; what still runs is handed back. May be called twice, or first."""
        await self.drain(0)
        if self._phase is Phase.STOPPED:
            return
        self._phase = Phase.STOPPED
        async with asyncio.TaskGroup() as group:
            group.create_task(self._crew.stop(LEAVE_SECONDS), name="end of the children")
            group.create_task(self._isolation.stop(LEAVE_SECONDS), name="end of the isolated ones")
        self._reporter.flush()


def _for_saving(seconds: float) -> float:
    """Of the time that jobs have to end, what belongs to their `on_shutdown`."""
    return min(SAVE_SECONDS, seconds * SAVE_PART)
