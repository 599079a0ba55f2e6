"""Where `def` tasks run inside a child: in threads."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from collections import deque
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

from exkiq.clock import Clock
from exkiq.pool.ability import Ability, Broken
from exkiq.pool.attempt import (
    Attempt,
    InitFailed,
    Stop,
    drive,
    failed_row,
    making,
    run_in_thread,
    timeout_of,
)
from exkiq.pool.context import enter
from exkiq.pool.error_text import cut_traceback, stack_of
from exkiq.pool.outbox import Outbox
from exkiq.pool.words import Word
from exkiq.pool.work import Slot
from exkiq.telemetry import log
from exkiq.wire.messages import COMMON

# Beyond these, threads cost more than they give.
THREADS_MANY = 200


class ThreadSlot(Slot):
    """A slot that is a thread. `baton` is released to wake it, once for each time that somebody
    took it from those that are idle; `inbox` is a job meant for it alone."""

    __slots__ = ("baton", "inbox")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.baton = threading.Lock()
        self.baton.acquire()
        self.inbox: Attempt | None = None


class ThreadExecutor:
    """Runs `def` tasks in threads of its own.

    1. as many threads as jobs run at once, started when first needed, each a slot: an instance
       stays with its thread, as connections of many libraries must;
    2. one queue in, the outbox out, no future a job; a thread that takes a job wakes the next
       one if there are more, so that a batch of short jobs wakes only two;
    3. a job whose worker is not ready in its slot goes to another one, or back if there is none;
       that worker is tried again in its own thread;
    4. says OVERDUE for a job over its timeout: its thread cannot be stopped from here.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        outbox: Outbox,
        ability: Ability,
        clock: Clock,
        *,
        slots_max: int,
        group: str = COMMON,
    ) -> None:
        self.group = group
        self.slots_max = slots_max
        self._loop = loop
        self._outbox = outbox
        self._ability = ability
        self._clock = clock
        self._queue: deque[Attempt] = deque()
        # Given and not yet ended, by id. Threads take theirs out; a dict does that in one piece.
        self._running: dict[str, Attempt] = {}
        self._idle: list[ThreadSlot] = []  # the last to come is the first to go
        self._is_waking = False  # a thread is on its way to the queue
        self._is_over = False
        self._threads = 0
        self._lock = threading.Lock()  # over their number

    @property
    def is_busy(self) -> bool:
        return bool(self._running)

    @property
    def attempts(self) -> list[Attempt]:
        """What runs here or is about to."""
        return list(self._running.values())

    def submit(self, attempt: Attempt) -> None:
        """Start the attempt at once; the node gives no more jobs than there are slots."""
        self._running[attempt.job.id] = attempt
        if attempt.job.timeout_ms:
            self._limit(attempt)
        if len(self._running) > self._threads and (number := self._reserve(len(self._running))):
            # Not by the queue: a slot that has no worker for it might be there first.
            self._start_thread(number, attempt)
            return
        self._queue.append(attempt)
        if not self._is_waking:
            self._wake()

    def _reserve(self, most: int) -> int:
        """The number of a thread that is to be started; 0 where there are as many already."""
        with self._lock:
            if self._threads >= most:
                return 0
            self._threads += 1
            return self._threads

    def _start_thread(self, number: int, inbox: Attempt) -> None:
        """With this as its first job. Errors: RuntimeError when there is no room for even one."""
        slot = ThreadSlot(f"{self.group}{':' if self.group else ''}{number}")
        slot.inbox = inbox
        # Daemons: a child leaves when it is told to, whatever user code hangs in.
        name = f"exkiq-slot-{slot.name}"
        thread = threading.Thread(target=self._work, args=(slot,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                self._threads -= 1
            if self._threads == 0:
                raise
            log.exception("no more than %d threads; a job waits for one of them", self._threads)
            self._queue.append(inbox)
            self._wake()
            return
        if number == THREADS_MANY + 1:
            text = "over %d jobs in threads of one child; `async def` tasks would cost less"
            log.warning(text, THREADS_MANY)

    def _wake(self) -> None:
        """Send an idle thread, if there is one, to look at the queue."""
        try:
            slot = self._idle.pop()
        except IndexError:
            return  # all are busy, and look at it when they are done
        self._is_waking = True
        slot.baton.release()

    def retire(self) -> None:
        """Let every thread end, each after what it runs. Nothing is submitted any more."""
        self._is_over = True
        while self._idle:
            self._wake()

    # --- in the threads

    def _work(self, slot: ThreadSlot) -> None:
        while not self._is_over:
            # In a context of its own, so that nothing leaks into the next job.
            Context().run(self._run_next, slot)

    def _run_next(self, slot: ThreadSlot) -> None:
        attempt = self._take(slot)
        if attempt is None:
            self._mend(slot)
        elif slot.broken and attempt.work.key in slot.broken:
            self._pass_on(attempt)
        else:
            self._run(attempt, slot)

    def _run(self, attempt: Attempt, slot: ThreadSlot) -> None:
        attempt.thread_id = threading.get_ident()
        word, row = run_in_thread(attempt, slot, self.bridge)
        if attempt.misfit is not None:
            self._broke(attempt, attempt.misfit, slot)
            return
        self._end(attempt)
        if attempt.stop is Stop.NO:  # else its outcome was told already
            self._outbox.put_threadsafe(word, row)

    def _end(self, attempt: Attempt) -> None:
        self._running.pop(attempt.job.id, None)
        if attempt.timer is not None:
            self._loop.call_soon_threadsafe(attempt.timer.cancel)

    def _take(self, slot: ThreadSlot) -> Attempt | None:
        """The next attempt, or None when a broken worker of this slot is to be tried again."""
        while True:
            if slot.inbox is not None:
                attempt, slot.inbox = slot.inbox, None
                return attempt
            if slot.broken and _due(slot) <= self._clock.monotonic():
                if self._queue and not self._is_waking:
                    self._wake()  # to try it may take long
                return None
            try:
                attempt = self._queue.popleft()
            except IndexError:
                if self._is_over:
                    return None
                self._wait(slot)
                continue
            if self._queue and not self._is_waking:
                self._wake()
            return attempt

    def _wait(self, slot: ThreadSlot) -> None:
        """Be idle until somebody wakes this thread, or a broken worker is due."""
        self._idle.append(slot)
        # Only now that it can be woken: what came in between is seen here, or wakes it.
        if (self._queue or self._is_over) and self._leave_idle(slot):
            return
        if not slot.broken or (due := _due(slot)) == math.inf:
            slot.baton.acquire()
        elif not slot.baton.acquire(timeout=max(0.0, due - self._clock.monotonic())):
            if self._leave_idle(slot):
                return
            slot.baton.acquire()
        self._is_waking = False

    def _leave_idle(self, slot: ThreadSlot) -> bool:
        """Whether it was idle still; else somebody is about to wake it."""
        try:
            self._idle.remove(slot)
        except ValueError:
            return False
        return True

    def bridge(self, work: Coroutine[Any, Any, Any]) -> object:
        """Run a coroutine on the child's loop and wait for it, from a thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # --- workers that are not ready

    def _broke(self, attempt: Attempt, failure: InitFailed, slot: ThreadSlot) -> None:
        """The job has not run: another slot may have a worker for it."""
        broken = Broken(attempt.work, attempt.job.queue, slot, lambda: self._wake_slot(slot))
        slot.broken[attempt.work.key] = broken
        self._note_failure(broken, failure)
        self._ability.broke(self, broken)
        self._pass_on(attempt)
        drive(broken.complaint(failure, self._outbox.note), self.bridge)

    def _note_failure(self, broken: Broken, failure: InitFailed) -> None:
        self._outbox.note(broken.failed(failure, self._clock.monotonic()))

    def _pass_on(self, attempt: Attempt) -> None:
        """To an idle slot that has or can make the worker, else to a new one, else back."""
        attempt.again()
        for slot in self._idle[::-1]:
            if attempt.work.key not in slot.broken and self._leave_idle(slot):
                slot.inbox = attempt
                slot.baton.release()
                return
        number = self._reserve(self.slots_max)
        if number:
            self._loop.call_soon_threadsafe(self._start_thread, number, attempt)
            return
        self._ability.say()
        self._end(attempt)
        if attempt.stop is Stop.NO:
            self._outbox.put_threadsafe(Word.RETURNED, [attempt.job.id, attempt.job.fence])

    def _mend(self, slot: ThreadSlot) -> None:
        """Try the workers again that are due."""
        now = self._clock.monotonic()
        for key, broken in list(slot.broken.items()):
            if broken.retry_at > now:
                continue
            try:
                drive(making(broken.work, broken.queue, slot), self.bridge)
            except InitFailed as failure:
                self._note_failure(broken, failure)
                drive(broken.complaint(failure, self._outbox.note), self.bridge)
                continue
            del slot.broken[key]
            broken.mended()
            self._ability.mended(self, broken)

    def _wake_slot(self, slot: ThreadSlot) -> None:
        if self._leave_idle(slot):
            slot.baton.release()

    # --- from the loop

    def stop_job(self, job_id: str, fence: int) -> None:
        """It was cancelled: it can only be told."""
        attempt = self._running.get(job_id)
        if attempt is not None and attempt.job.fence == fence:
            attempt.context.stop()

    def _limit(self, attempt: Attempt) -> None:
        seconds = attempt.job.timeout_ms / 1000
        attempt.timer = self._loop.call_later(seconds, self._overdue, attempt)

    def _overdue(self, attempt: Attempt) -> None:
        if self._running.get(attempt.job.id) is not attempt:
            return
        attempt.stop = Stop.TIMEOUT
        enter(attempt.context)  # for `decide`; timers have own contexts
        error = timeout_of(attempt.job)
        texts = [type(error).__name__, str(error), _where(attempt)]
        self._outbox.put(Word.OVERDUE, failed_row(attempt, error, texts))


def _due(slot: ThreadSlot) -> float:
    """When the first of its broken workers is to be tried again."""
    return min((broken.retry_at for broken in slot.broken.values()), default=math.inf)


def _where(attempt: Attempt) -> str:
    """The stack of the thread that does not end."""
    if attempt.thread_id is None:
        return ""
    frame = sys._current_frames().get(attempt.thread_id)
    return "" if frame is None else cut_traceback(stack_of(frame))
