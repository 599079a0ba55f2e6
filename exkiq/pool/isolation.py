"""Children of one slot, for jobs that want a process to themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from exkiq.clock import Clock
from exkiq.declarations import Declarations
from exkiq.pool.assignment import Assignment
from exkiq.pool.children import ChildPlan, ChildProcess, Ending, Stage, until_gone
from exkiq.pool.settling import Settling
from exkiq.pool.words import Word
from exkiq.service import Tasks
from exkiq.telemetry import log
from exkiq.wire.messages import COMMON

# How long a child is kept for the next job: starting one means importing the APP.
IDLE_SECONDS = 60.0

# After a child that could not be started, its task is asked for no more for so long.
FAULT_SECONDS = 5.0


class Isolation:
    """The children of jobs that share a process with no other.

    1. a job goes to an idle child that served its task, else to a new one; there are at most
       `children_max`, and an idle one of another task makes room;
    2. a child without a job is kept for a minute;
    3. passes on what they say, and calls `changed` after it.
    """

    def __init__(
        self,
        plan: ChildPlan,
        children_max: int,
        settling: Settling,
        changed: Callable[[], None],
        clock: Clock,
    ) -> None:
        self.children: list[ChildProcess] = []
        self._plan = replace(plan, concurrency=1, processes=1, is_isolated=True)
        self._children_max = children_max
        self._settling = settling
        self._changed = changed
        self._clock = clock
        self._tasks = Tasks()
        self._number = 0
        self._meant: dict[ChildProcess, Assignment] = {}  # what a child that starts is for
        self._served: dict[ChildProcess, tuple[str, str]] = {}  # the task and queue of a child
        self._leaving: dict[ChildProcess, asyncio.TimerHandle] = {}
        self._faulty: dict[str, float] = {}  # task -> when it may be tried again

    def taken(self, group: str, groups: Sequence[str]) -> int:
        """How many jobs of that group of slots are here, with those whose child starts."""
        jobs = list(self._meant.values())
        jobs += [job for child in self.children for job in child.ledger.running.values()]
        return sum((job.queue if job.queue in groups else COMMON) == group for job in jobs)

    @property
    def starting(self) -> int:
        """How many jobs wait for their child."""
        return len(self._meant)

    @property
    def unable(self) -> set[str]:
        """Tasks that cannot be run here now."""
        if not self._faulty and not self.children:
            return set()
        now = self._clock.monotonic()
        self._faulty = {task: until for task, until in self._faulty.items() if until > now}
        said = [child.unable for child in self.children if child.stage is Stage.READY]
        return set(self._faulty).union(*said)

    def start(self, jobs: Sequence[Assignment]) -> list[Assignment]:
        """Start these jobs; returns those there is no room for."""
        return [job for job in jobs if not self._start(job)]

    def _start(self, job: Assignment) -> bool:
        child = self._idle_for(job)
        if child is not None:
            self._begin(child, job)
            return True
        if job.task in self.unable or not self._has_room():
            return False
        self._number += 1
        child = ChildProcess(self._number, self._plan, self, self._clock)
        self._meant[child] = job
        self._served[child] = (job.task, job.queue)
        self.children.append(child)
        self._tasks.start(self._live(child), name=f"{child} for {job.task}")
        return True

    def _idle_for(self, job: Assignment) -> ChildProcess | None:
        wanted = (job.task, job.queue)
        return next((child for child in self._idle() if self._served[child] == wanted), None)

    def _idle(self) -> list[ChildProcess]:
        return [child for child in self.children if child.free and not child.unable]

    def _has_room(self) -> bool:
        held = [child for child in self.children if child.stage in (Stage.STARTING, Stage.READY)]
        if len(held) < self._children_max:
            return True
        idle = [child for child in held if child.stage is Stage.READY and not child.ledger.running]
        if idle:
            idle[0].leave()
        return bool(idle)

    def _begin(self, child: ChildProcess, job: Assignment) -> None:
        timer = self._leaving.pop(child, None)
        if timer is not None:
            timer.cancel()
        child.begin([job])

    async def _live(self, child: ChildProcess) -> None:
        try:
            await child.spawn()
            await child.is_gone.wait()
        except (OSError, RuntimeError) as error:  # uvloop has RuntimeErrors of its own
            self._could_not_start(child, f"cannot start a child process: {error}")
        finally:
            child.kill()
            self.children.remove(child)
            self._served.pop(child, None)
            self._meant.pop(child, None)
            timer = self._leaving.pop(child, None)
            if timer is not None:
                timer.cancel()

    def _could_not_start(self, child: ChildProcess, fault: str) -> None:
        job = self._meant.pop(child, None)
        if job is None:
            return
        log.error("job %s goes back: %s", job.id, fault, extra={"exkiq_job": job.id})
        self._faulty[job.task] = self._clock.monotonic() + FAULT_SECONDS
        self._settling.hand_back_unstarted([job])
        self._changed()

    def take_starting(self) -> list[Assignment]:
        """The jobs whose child has not started yet; those children end."""
        jobs = list(self._meant.values())
        for child in list(self._meant):
            child.replace(Ending.DROP)
        self._meant.clear()
        return jobs

    def stop_job(self, job_id: str, fence: int) -> list[Assignment]:
        """The job, if its child has not started yet; that child ends."""
        for child, job in list(self._meant.items()):
            if job.id == job_id and job.fence == fence:
                del self._meant[child]
                child.replace(Ending.DROP)
                return [job]
        return []

    async def stop(self, seconds: float) -> None:
        """End all children, by force after `seconds`. Nothing runs in them."""
        for child in self.children:
            child.leave()
        await until_gone(self.children, seconds)
        for child in self.children:
            child.kill()
        await until_gone(self.children, seconds=1.0)
        await self._tasks.stop()

    # --- as the owner of children

    def ready(
        self,
        child: ChildProcess,
        queues: tuple[str, ...],  # noqa: ARG002 - the others have told
        declarations: Declarations,  # noqa: ARG002
    ) -> None:
        job = self._meant.pop(child, None)
        if job is not None:
            self._begin(child, job)
        self._changed()

    def heard(self, child: ChildProcess, word: Word, rest: list[Any]) -> None:
        self._settling.heard(child, word, rest)
        if not child.ledger.running and child not in self._leaving:
            loop = asyncio.get_running_loop()
            self._leaving[child] = loop.call_later(IDLE_SECONDS, child.leave)
        self._changed()

    def late(self, child: ChildProcess, jobs: Sequence[Assignment]) -> None:
        self._settling.late(child, jobs)
        child.replace(Ending.HAND_BACK)
        self._changed()

    def overdue(self, child: ChildProcess, job: Assignment) -> None:
        self._settling.timed_out(child, job)
        self._changed()

    def gone(self, child: ChildProcess) -> None:
        if child.is_loaded or child.ending is not Ending.CRASH:
            self._settling.died(child)
        else:
            death = f"a child died while it imported the APP: {child.exit_reason}"
            self._could_not_start(child, child.fault or death)
        self._changed()
