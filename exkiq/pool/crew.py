"""Keeps the children of a pool alive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from exkiq.clock import Clock
from exkiq.declarations import Declarations
from exkiq.errors import ConfigError
from exkiq.pool.assignment import Assignment
from exkiq.pool.children import ChildPlan, ChildProcess, Ending, Stage, until_gone
from exkiq.pool.placing import Placing
from exkiq.pool.settling import Settling
from exkiq.pool.words import Word
from exkiq.service import Tasks
from exkiq.telemetry import log

# Imports of large libraries take half a minute on a busy machine.
START_SECONDS_MAX = 120.0

# Waits before a new child, by how many died in a row before they ever had a job.
BACK_OFF_SECONDS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def back_off(fruitless: int) -> float:
    """Seconds to wait before the next child. Units: `fruitless` deaths in a row, from 0."""
    return BACK_OFF_SECONDS[min(fruitless, len(BACK_OFF_SECONDS) - 1)]


class Crew:
    """The children of a pool.

    1. starts them all, and says ConfigError if one cannot load the APP;
    2. puts a new one in the place of each that ends, at once, or later and later while they
       die without having had a job;
    3. passes on what they say, and calls `changed` after it.
    """

    def __init__(
        self,
        plan: ChildPlan,
        processes: int,
        placing: Placing,
        settling: Settling,
        changed: Callable[[], None],
        clock: Clock,
    ) -> None:
        self.queues: tuple[str, ...] = ()
        self.declarations = Declarations()
        self.children: list[ChildProcess] = []
        self.is_keeping = True
        self._plan = plan
        self._processes = processes
        self._placing = placing
        self._settling = settling
        self._changed = changed
        self._clock = clock
        self._tasks = Tasks()
        self._started: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Return when all children are ready. Errors: ConfigError; then none is left."""
        if self._processes == 0:
            return
        self._started = asyncio.get_running_loop().create_future()
        for number in range(1, self._processes + 1):
            self._tasks.start(self._keep(number), name=f"child {number} of the pool")
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                await self._started
        except TimeoutError:
            await self.stop(0)
            raise ConfigError(f"APP was not imported within {START_SECONDS_MAX:.0f} s") from None
        except BaseException:
            await self.stop(0)
            raise
        finally:
            self._started = None

    async def stop(self, seconds: float) -> None:
        """End all children, by force after `seconds`."""
        self.is_keeping = False
        for child in self.children:
            child.leave()
        await until_gone(self.children, seconds)
        for child in self.children:
            child.kill()
        await until_gone(self.children, seconds=1.0)
        await self._tasks.stop()

    async def _keep(self, number: int) -> None:
        """One place, filled again and again."""
        fruitless = 0
        while self.is_keeping:
            child = ChildProcess(number, self._plan, self, self._clock)
            self._set_children([*self.children, child])
            try:
                await child.spawn()
                await child.is_gone.wait()
            except (OSError, RuntimeError) as error:  # uvloop has RuntimeErrors of its own
                self._could_not_start(f"cannot start a child process: {error}")
            finally:
                child.kill()
                self._set_children([other for other in self.children if other is not child])
            is_fruitless = child.ending is Ending.CRASH and child.ledger.begun_total == 0
            fruitless = fruitless + 1 if is_fruitless else 0
            if self.is_keeping:
                await asyncio.sleep(back_off(fruitless))

    def _set_children(self, children: list[ChildProcess]) -> None:
        self.children = children
        self._placing.watch(children)

    def _could_not_start(self, fault: str) -> None:
        if self._started is None:
            log.error("%s", fault)
        elif not self._started.done():
            self._started.set_exception(ConfigError(fault))

    # --- as the owner of children

    def ready(
        self, child: ChildProcess, queues: tuple[str, ...], declarations: Declarations
    ) -> None:
        log.info("%s is ready", child)
        self.queues, self.declarations = queues, declarations
        self._placing.group_by(declarations.pools)
        try:
            declarations.check_slots(self._processes * self._plan.concurrency)
        except ConfigError as error:
            self._could_not_start(str(error))
        waiting = self._started
        ready = sum(other.stage is Stage.READY for other in self.children)
        if waiting is not None and not waiting.done() and ready == self._processes:
            waiting.set_result(None)
        self._changed()

    def heard(self, child: ChildProcess, word: Word, rest: list[Any]) -> None:
        self._settling.heard(child, word, rest)
        self._changed()

    def late(self, child: ChildProcess, jobs: Sequence[Assignment]) -> None:
        self._settling.late(child, jobs)
        self._changed()

    def overdue(self, child: ChildProcess, job: Assignment) -> None:
        self._settling.timed_out(child, job)
        self._changed()

    def gone(self, child: ChildProcess) -> None:
        if child.is_loaded or child.ending is not Ending.CRASH:
            self._placing.suspect(self._settling.died(child))
        else:
            modules = ", ".join(self._plan.modules)
            death = f"a child died while it imported {modules}: {child.exit_reason}"
            self._could_not_start(child.fault or death)
        self._changed()
