"""The pool of a node: slots for jobs, in child processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from exkiq.clock import Clock
from exkiq.pool.assignment import Assignment
from exkiq.pool.children import ChildPlan, Ending
from exkiq.pool.crew import Crew
from exkiq.pool.placing import Placing
from exkiq.pool.report import Report, Reporter
from exkiq.pool.settling import Settling
from exkiq.pool.words import Order
from exkiq.telemetry import log

# A cancelled async job's time to clean up, once the drain's time is over.
CANCEL_SECONDS = 0.5

# From the kill of a child to its death; longer only if the kernel itself is stuck.
KILL_SECONDS = 1.0

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
    2. `run` starts jobs at once, at most `concurrency` in a child; what has no slot comes back;
    3. every job that was given to `run` is reported once: done, failed, returned or lost;
       only `abandon` breaks that, on purpose;
    4. `drain` lets jobs end, then hands back the rest; `stop` ends the children.

    Everything is called on the node's loop; so is `report`, once a turn at most. `environ` is
    what the children find in their environment besides, or instead of, what is in ours.
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
    ) -> None:
        plan = ChildPlan(app, loader, concurrency, tuple(sys_path), cwd, environ or {})
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
        self._idle = asyncio.Event()

    @property
    def free(self) -> int:
        """How many jobs could start now."""
        return self._placing.free if self._phase is Phase.RUNNING else 0

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that APP declares; known once started."""
        return self._crew.queues

    @property
    def running(self) -> int:
        """How many jobs run now."""
        return sum(len(child.ledger.running) for child in self._crew.children)

    async def start(self) -> None:
        """Start the children and load the APP in each.

        Errors: ConfigError that names the module and the cause; then nothing is left running.
        """
        await self._crew.start()
        self._phase = Phase.RUNNING

    def run(self, assignments: Sequence[Assignment]) -> None:
        """Start these jobs; those without a slot are reported as returned."""
        if self._phase is Phase.RUNNING:
            left_over = self._placing.start(assignments)
        else:
            left_over = list(assignments)
        self._settling.hand_back_unstarted(left_over)

    def _changed(self) -> None:
        """Something was said or somebody died: use the room, and tell that there is some."""
        if self._phase is Phase.RUNNING:
            self._placing.start_held()
        if not self._crew.busy:
            self._idle.set()
        self._reporter.open()

    async def drain(self, timeout: float) -> None:
        """Start nothing more, let jobs end, then stop the rest and hand it back.

        Units: timeout in seconds; async jobs get 0.5 s more to clean up after it.
        """
        if self._phase is not Phase.RUNNING:
            return
        self._phase = Phase.DRAINING
        self._crew.is_keeping = False
        self._settling.hand_back_unstarted(self._placing.take_held())
        for child in self._crew.busy:
            child.order(Order.STOPPING)
        if not await self._until_idle(timeout):
            await self._stop_running()
        self._reporter.flush()

    async def _stop_running(self) -> None:
        log.info("%d jobs did not end in time and are handed back", self.running)
        for child in self._crew.busy:
            child.order(Order.CANCEL)
        await self._until_idle(CANCEL_SECONDS)
        busy = self._crew.busy
        for child in busy:
            child.replace(Ending.HAND_BACK)
        await self._crew.until_gone(busy, KILL_SECONDS)

    async def _until_idle(self, timeout: float) -> bool:
        self._idle.clear()
        if not self._crew.busy:
            return True
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def abandon(self) -> None:
        """Stop everything that runs and forget it: the session is over, it runs elsewhere."""
        busy = self._crew.busy
        if busy:
            log.warning("%d running jobs are stopped: they run elsewhere now", self.running)
        self._placing.take_held()
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
        await self._crew.stop(LEAVE_SECONDS)
        self._reporter.flush()
