"""A thread with a machine: the queues that share it, and everything that they need.

Each queue has a session, and slots, of its own; so a job can be moved from one to another in one
step.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from exkiq.clock import SystemClock
from exkiq.errors import NotRunning, OutcomeUnknown, Refused
from exkiq.local.client import CLOSED, LocalClient
from exkiq.local.doorway import door_of
from exkiq.local.rooms import Rooms
from exkiq.local.runner import LocalRunner
from exkiq.local.tasks import TaskTable, check_outlives
from exkiq.local.workshop import Workshop
from exkiq.machine import State
from exkiq.machine.limits import SESSIONS_MAX
from exkiq.queues.local_journal import LocalJournal
from exkiq.service import Tasks
from exkiq.telemetry import log

if TYPE_CHECKING:
    from exkiq.local.terms import Terms
    from exkiq.runnable import Runnable

T = TypeVar("T")

DRAIN_SECONDS = 10.0
"""What running jobs are given to end when the process does."""

CALL_SECONDS = 60.0
"""For whatever is done on the loop of a household: far more than it takes."""

QUEUES_MAX = SESSIONS_MAX
"""Each has a session of its own."""

OVER = (State.SUCCEEDED, State.CANCELLED)  # those that failed may be run again


class Household:
    """The local queues of one file, or all that have none. Its client may be used everywhere.

    `terms_of` gives what was said of a queue by its name. Queues also turn up by themselves: on
    the disk, or because a job was moved there.
    """

    def __init__(self, path: Path | None, terms_of: Callable[[str], Terms]) -> None:
        self.path = path
        self.tasks = TaskTable(self._needed)
        self._terms_of = terms_of
        self._clock = SystemClock()
        self._pid = os.getpid()
        self._is_over = False
        self._journal: LocalJournal | None = None
        self._workshop = Workshop("exkiq local jobs")
        self._runners: dict[str, LocalRunner] = {}
        self._tasks = Tasks()

    # ---- from any thread -----------------------------------------------------------------------

    def start(self) -> Household:
        """Open the file, and start the thread. Errors: ConfigError, DataError."""
        self._journal = None if self.path is None else LocalJournal(self.path)
        self._loop = asyncio.new_event_loop()
        name = "exkiq local" if self.path is None else f"exkiq local {self.path.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        try:
            self._on_loop(self._build())
        except BaseException:
            self._end_thread()
            if self._journal is not None:
                self._journal.close()
            raise
        return self

    def serves(self, name: str) -> bool:
        """Whether it has this queue."""
        return name in self._runners

    def serve(self, name: str) -> None:
        """Have this queue, and run its jobs. Errors: Refused for one too many."""
        if self.serves(name):
            return
        if len(self._runners) >= QUEUES_MAX:
            raise Refused(
                f"there is no room for Local({name!r}): {QUEUES_MAX} local queues share"
                f" {self.path or 'this process'} already"
            )
        self._on_loop(self._serve(name))

    def name_of(self, runnable: Runnable) -> str:
        """The name by which jobs find this task. Errors: SerializationError."""
        if self.path is not None:
            check_outlives(runnable, self.path)
        name = self.tasks.name_of(runnable)
        if self.tasks.is_look_due:
            self._loop.call_soon_threadsafe(self.tasks.look)
        return name

    def close(self, drain: float) -> Callable[[], None]:
        """Let running jobs end, for so many seconds, hand back the rest, end the thread.

        What comes back waits until that is so. Jobs may come in as long as others run.
        """
        if self._pid != os.getpid() or self._loop.is_closed():
            return lambda: None
        closing = asyncio.run_coroutine_threadsafe(self._close(drain), self._loop)

        def wait() -> None:
            closing.result(drain + CALL_SECONDS)
            self._workshop.close()
            self._end_thread()

        return wait

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def leave_to_parent(self) -> None:
        """In a child after a fork: the file stays the parent's."""
        if self._journal is not None:
            self._journal.leave_to_parent()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        if self._is_over:
            work.close()
            raise NotRunning(CLOSED)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS)

    # ---- on the loop ---------------------------------------------------------------------------

    async def _build(self) -> None:
        journal = self._journal
        machine = None if journal is None else journal.machine
        self.client = LocalClient(self._clock)
        self._rooms = Rooms(
            self._loop, self._clock, self.client.next_pid, self._serve_all, journal, machine
        )
        self._rooms.house.on_failure = self._failed
        self.client.open(self._loop, door_of(self._loop, self._rooms.server))
        self._serve_all([*self._rooms.machine.queues])

    def _failed(self, why: str) -> None:
        """The file takes no more: who waits for an outcome is not to wait for ever."""
        self._tasks.start(self.client.hang_up(why, OutcomeUnknown), name="a failed file")

    async def _serve(self, name: str) -> None:
        self._serve_all([name])

    def _serve_all(self, names: list[str]) -> None:
        for name in names:
            if name not in self._runners:
                terms = self._terms_of(name)
                runner = LocalRunner(
                    terms.concurrency,
                    terms.make_dispatcher,
                    self.tasks,
                    self._workshop,
                    self._clock,
                )
                self._runners[name] = runner
                runner.report = self._rooms.add(name, runner, [name]).report

    def _needed(self) -> set[str]:
        jobs = self._rooms.machine.jobs.values()
        return {job.spec.task for job in jobs if job.state not in OVER}

    async def _close(self, drain: float) -> None:
        self._rooms.stop_taking()
        await asyncio.gather(*(runner.drain(drain) for runner in self._runners.values()))
        self._is_over = True
        await self.client.hang_up(CLOSED)
        left = await self._rooms.stop()
        if left and self.path is None:
            log.warning("this process ends, and with it %d jobs of its local queues", left)
        if self._journal is not None:
            self._journal.close()
