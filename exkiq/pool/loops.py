"""Where `async def` tasks run inside a child: on its loop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Hashable

from exkiq.clock import Clock
from exkiq.pool.ability import Ability, Broken
from exkiq.pool.assignment import Assignment
from exkiq.pool.attempt import Attempt, InitFailed, Outcome, Stop, adrive, making, steps
from exkiq.pool.outbox import Outbox
from exkiq.pool.words import Word
from exkiq.pool.work import Slot
from exkiq.service import Tasks
from exkiq.wire.messages import COMMON


class LoopExecutor:
    """Runs `async def` tasks on the child's loop, one asyncio task each.

    A job whose worker is not ready in its slot goes to another one, or back if there is none;
    that worker is tried again beside what else its slot does. `ended`, where it is set, is called
    when a job has left.
    """

    def __init__(
        self,
        tasks: Tasks,
        outbox: Outbox,
        ability: Ability,
        clock: Clock,
        *,
        slots_max: int,
        group: str = COMMON,
    ) -> None:
        self.group = group
        self.slots_max = slots_max
        self._tasks = tasks
        self._outbox = outbox
        self._ability = ability
        self._clock = clock
        self.ended: Callable[[], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._running: dict[str, tuple[Attempt, asyncio.Task[None]]] = {}
        self._free: list[Slot] = []
        self._made = 0
        self._broken = 0

    @property
    def attempts(self) -> list[Attempt]:
        """What runs here."""
        return [attempt for attempt, _ in self._running.values()]

    def submit(self, attempt: Attempt) -> None:
        """Start the attempt in the next turn of the loop."""
        task = self._tasks.start(self._run(attempt), name=attempt.job.task)
        self._running[attempt.job.id] = (attempt, task)

    async def _run(self, attempt: Attempt) -> None:
        job = attempt.job
        if job.timeout_ms:
            self._limit(attempt)
        slot = self._take(attempt.work.key)
        while slot is not None:
            # Not through more coroutines than it needs: each costs every job.
            outcome: Outcome = await adrive(steps(attempt, slot))
            self._free.append(slot)
            if attempt.misfit is None:
                break
            self._broke(attempt, attempt.misfit, slot)
            attempt.again()
            slot = self._take(attempt.work.key)
        else:
            outcome = self._no_slot(job)
        word, row = outcome
        if attempt.timer is not None:
            attempt.timer.cancel()
        self._outbox.put(word, row)
        self._running.pop(job.id, None)
        if self.ended is not None:
            self.ended()

    def _no_slot(self, job: Assignment) -> Outcome:
        """None of those there may be has a worker for it."""
        self._ability.say()
        return Word.RETURNED, [job.id, job.fence]

    def _take(self, key: Hashable) -> Slot | None:
        """A free slot, the last one that was used; one whose worker is not broken."""
        if not self._broken:
            return self._free.pop() if self._free else self._made_new()
        for position in reversed(range(len(self._free))):
            if key not in self._free[position].broken:
                return self._free.pop(position)
        return self._made_new() if self._made < self.slots_max else None

    def _made_new(self) -> Slot:
        self._made += 1
        return Slot(f"{self.group}{':' if self.group else ''}async {self._made}")

    # --- workers that are not ready

    def _broke(self, attempt: Attempt, failure: InitFailed, slot: Slot) -> None:
        news = asyncio.Event()

        def wake() -> None:
            self._loop.call_soon_threadsafe(news.set)

        broken = Broken(attempt.work, attempt.job.queue, slot, wake)
        slot.broken[attempt.work.key] = broken
        self._broken += 1
        self._outbox.note(broken.failed(failure, self._clock.monotonic()))
        self._ability.broke(self, broken)
        self._tasks.start(self._mend(broken, failure, news), name=f"init of {broken.name}")

    async def _mend(self, broken: Broken, failure: InitFailed, news: asyncio.Event) -> None:
        """Try it again and again."""
        while True:
            await adrive(broken.complaint(failure, self._outbox.note))
            await self._until_due(broken, news)
            try:
                await adrive(making(broken.work, broken.queue, broken.slot))
            except InitFailed as again:
                failure = again
                self._outbox.note(broken.failed(failure, self._clock.monotonic()))
                continue
            del broken.slot.broken[broken.work.key]
            self._broken -= 1
            broken.mended()
            self._ability.mended(self, broken)
            return

    async def _until_due(self, broken: Broken, news: asyncio.Event) -> None:
        while (wait := broken.retry_at - self._clock.monotonic()) > 0:
            news.clear()
            try:
                async with asyncio.timeout(None if wait == math.inf else wait):
                    await news.wait()
            except TimeoutError:
                continue  # it is due, or nearly so

    # --- an end from outside

    def _limit(self, attempt: Attempt) -> None:
        seconds = attempt.job.timeout_ms / 1000
        attempt.timer = self._loop.call_later(seconds, self.stop, attempt.job.id, Stop.TIMEOUT)

    def stop_job(self, job_id: str, fence: int) -> None:
        """It was cancelled, and so is its asyncio task."""
        entry = self._running.get(job_id)
        if entry is not None and entry[0].job.fence == fence:
            entry[0].context.stop()
            self.stop(job_id, Stop.CANCEL)

    def stop(self, job_id: str, why: Stop) -> None:
        """Cancel its asyncio task, if it runs here."""
        entry = self._running.get(job_id)
        if entry is None:
            return
        attempt, task = entry
        attempt.stop = why
        # Not at once: a task that is cancelled before its first step never runs, so that
        # nothing would be said about its job.
        self._loop.call_soon(task.cancel)
