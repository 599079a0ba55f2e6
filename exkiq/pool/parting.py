"""How a child parts from the jobs that do not end in the time of a drain."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Generator, Sequence
from contextvars import Context
from typing import Any, Protocol

from exkiq.pool.attempt import Attempt, Bridge, Stop, adrive, drive, in_one_line
from exkiq.pool.context import enter
from exkiq.pool.error_text import error_row
from exkiq.pool.outbox import Outbox
from exkiq.pool.words import Word
from exkiq.service import Tasks

# What a job's on_shutdown may take; the drain's own end may come sooner.
PART_SECONDS_MAX = 4.0


class Team(Protocol):
    """Slots of one kind, with their jobs."""

    @property
    def attempts(self) -> list[Attempt]: ...


class ThreadTeam(Team, Protocol):
    """Jobs in threads, which nothing can stop but the end of the process."""

    @property
    def bridge(self) -> Bridge: ...


class LoopTeam(Team, Protocol):
    """Jobs on the loop, which can be cancelled. `ended` is called when one has left."""

    ended: Callable[[], None] | None

    def stop(self, job_id: str, why: Stop) -> None: ...


def parting(attempt: Attempt) -> Generator[Any, Any, None]:
    """Ask a job's on_shutdown; what it returns is the checkpoint that the next start reads."""
    hook = attempt.work.on_shutdown
    if hook is None:
        return
    enter(attempt.context)
    try:
        value = yield hook(attempt.instance)
        if value is not None:
            attempt.context.save_checkpoint(value)
    except BaseException as error:  # noqa: BLE001 - user code; the job goes back all the same
        attempt.port.note(attempt.job, f"its on_shutdown raised {in_one_line(error_row(error))}")


class Farewell:
    """The end of a child's jobs, when its node drains.

    1. asks each job that has an on_shutdown, once; on the loop it is then handed back, in a
       thread it goes on until the child is replaced, which alone ends a thread;
    2. when told to cancel, hands back what else runs on the loop;
    3. says CANCELLED when nothing is left that could still be saved.
    """

    def __init__(
        self, threads: Sequence[ThreadTeam], loops: Sequence[LoopTeam], outbox: Outbox, tasks: Tasks
    ) -> None:
        self._threads = threads
        self._loops = loops
        self._outbox = outbox
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._asking = 0
        self._has_asked = False
        self._is_cancelling = False
        self._has_said = False

    def save(self, queues: Collection[str] | None = None) -> None:
        """Ask the jobs of these queues that want to be asked; None is all."""
        self._has_asked = True
        for loop_team in self._loops:
            loop_team.ended = self.look
        for team in self._threads:
            for attempt in filter(_wants, _of(queues, team)):
                self._ask_in_thread(team, attempt)
        for loop_team in self._loops:
            for attempt in filter(_wants, _of(queues, loop_team)):
                self._asking += 1
                attempt.is_parting = True
                work = self._ask_on_loop(loop_team, attempt)
                self._tasks.start(work, name=f"on_shutdown of {attempt.job.task}")
        self.look()

    def cancel(self, queues: Collection[str] | None = None) -> None:
        """Hand back what can be handed back; the rest of these queues has had its time."""
        self._is_cancelling |= queues is None
        self.save(queues)
        for team in self._loops:
            for attempt in _of(queues, team):
                if not attempt.is_parting:
                    team.stop(attempt.job.id, Stop.HAND_BACK)
        for thread_team in self._threads:
            for attempt in _of(queues, thread_team):
                attempt.is_parting = True
        self.look()

    def look(self) -> None:
        """A job has ended, or was asked: is there anything left to wait for?"""
        if not self._has_asked or self._has_said or self._asking:
            return
        if any(team.attempts for team in self._loops):
            return
        held = [attempt for team in self._threads for attempt in team.attempts]
        are_saved = bool(held) and all(attempt.is_parting for attempt in held)
        if self._is_cancelling or are_saved:
            self._has_said = True
            self._outbox.put(Word.CANCELLED, None)

    async def _ask_on_loop(self, team: LoopTeam, attempt: Attempt) -> None:
        try:
            async with asyncio.timeout(PART_SECONDS_MAX):
                await adrive(parting(attempt))
        except TimeoutError:
            attempt.port.note(attempt.job, f"its on_shutdown took over {PART_SECONDS_MAX:g} s")
        self._asking -= 1
        team.stop(attempt.job.id, Stop.HAND_BACK)
        self.look()

    def _ask_in_thread(self, team: ThreadTeam, attempt: Attempt) -> None:
        self._asking += 1
        attempt.is_parting = True
        name = f"exkiq-on-shutdown-{attempt.job.id}"
        # The job's own thread is busy with the job.
        work = (team.bridge, attempt)
        threading.Thread(target=self._in_thread, args=work, name=name, daemon=True).start()

    def _in_thread(self, bridge: Bridge, attempt: Attempt) -> None:
        Context().run(drive, parting(attempt), bridge)
        self._loop.call_soon_threadsafe(self._asked)

    def _asked(self) -> None:
        self._asking -= 1
        self.look()


def _wants(attempt: Attempt) -> bool:
    hook = attempt.work.on_shutdown
    return hook is not None and attempt.has_instance and not attempt.is_parting


def _of(queues: Collection[str] | None, team: Team) -> list[Attempt]:
    if queues is None:
        return team.attempts
    return [attempt for attempt in team.attempts if attempt.job.queue in queues]
