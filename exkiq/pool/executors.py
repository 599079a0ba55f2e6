"""Where attempts run inside a child: threads for `def`, the child's loop for `async def`."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Coroutine
from contextvars import Context
from queue import SimpleQueue
from typing import Any

from exkiq.pool.attempt import (
    Attempt,
    Stop,
    failed_row,
    run_in_thread,
    run_on_loop,
    timeout_of,
)
from exkiq.pool.context import JobContext, enter
from exkiq.pool.error_text import cut_traceback, stack_of
from exkiq.pool.outbox import Outbox
from exkiq.pool.words import Word
from exkiq.pool.work import Slot
from exkiq.service import Tasks
from exkiq.telemetry import log

# Beyond these, threads cost more than they give.
THREADS_MANY = 200


class ThreadExecutor:
    """Runs `def` tasks in threads of its own.

    1. as many threads as jobs run at once, started when first needed, each a slot: an instance
       stays with its thread, as connections of many libraries must;
    2. one queue in, the outbox out, no future a job;
    3. says OVERDUE for a job over its timeout: its thread cannot be stopped from here.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, outbox: Outbox) -> None:
        self._loop = loop
        self._outbox = outbox
        self._queue: SimpleQueue[Attempt] = SimpleQueue()
        # Given and not yet ended, by id. Threads take theirs out; a dict does that in one piece.
        self._running: dict[str, Attempt] = {}
        self._threads = 0

    @property
    def is_busy(self) -> bool:
        return bool(self._running)

    def submit(self, attempt: Attempt) -> None:
        """Start the attempt at once; the node gives no more jobs than there are slots."""
        self._running[attempt.job.id] = attempt
        if len(self._running) > self._threads:
            self._start_thread()
        if attempt.job.timeout_ms:
            self._limit(attempt)
        self._queue.put(attempt)

    def _start_thread(self) -> None:
        name = f"exkiq-slot-{self._threads + 1}"
        # Daemons: a child leaves when it is told to, whatever user code hangs in.
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if self._threads == 0:
                raise
            log.exception("no more than %d threads; a job waits for one of them", self._threads)
            return
        self._threads += 1
        if self._threads == THREADS_MANY + 1:
            text = "over %d jobs in threads of one child; `async def` tasks would cost less"
            log.warning(text, THREADS_MANY)

    def _work(self) -> None:
        slot = Slot()
        while True:
            # In a context of its own, so that nothing leaks into the next job.
            Context().run(self._run_next, slot)

    def _run_next(self, slot: Slot) -> None:
        attempt = self._queue.get()
        attempt.thread_id = threading.get_ident()
        word, row = run_in_thread(attempt, slot, self._bridge)
        self._running.pop(attempt.job.id, None)
        if attempt.stop is Stop.NO:  # else its outcome was told already
            self._outbox.put_threadsafe(word, row)
        if attempt.timer is not None:
            self._loop.call_soon_threadsafe(attempt.timer.cancel)

    def _bridge(self, work: Coroutine[Any, Any, Any]) -> object:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _limit(self, attempt: Attempt) -> None:
        seconds = attempt.job.timeout_ms / 1000
        attempt.timer = self._loop.call_later(seconds, self._overdue, attempt)

    def _overdue(self, attempt: Attempt) -> None:
        if self._running.get(attempt.job.id) is not attempt:
            return
        attempt.stop = Stop.TIMEOUT
        enter(JobContext(attempt.job, attempt.port))  # for `decide`; timers have own contexts
        error = timeout_of(attempt.job)
        texts = [type(error).__name__, str(error), _where(attempt)]
        self._outbox.put(Word.OVERDUE, failed_row(attempt, error, texts))


def _where(attempt: Attempt) -> str:
    """The stack of the thread that does not end."""
    if attempt.thread_id is None:
        return ""
    frame = sys._current_frames().get(attempt.thread_id)
    return "" if frame is None else cut_traceback(stack_of(frame))


class LoopExecutor:
    """Runs `async def` tasks on the child's loop, one asyncio task each."""

    def __init__(self, tasks: Tasks, outbox: Outbox) -> None:
        self._tasks = tasks
        self._outbox = outbox
        self._loop = asyncio.get_running_loop()
        self._running: dict[str, tuple[Attempt, asyncio.Task[None]]] = {}
        self._free: list[Slot] = []
        self._is_cancelled = False

    def submit(self, attempt: Attempt) -> None:
        """Start the attempt in the next turn of the loop."""
        task = self._tasks.start(self._run(attempt), name=attempt.job.task)
        self._running[attempt.job.id] = (attempt, task)

    async def _run(self, attempt: Attempt) -> None:
        job = attempt.job
        if job.timeout_ms:
            self._limit(attempt)
        slot = self._free.pop() if self._free else Slot()
        word, row = await run_on_loop(attempt, slot)
        self._free.append(slot)
        if attempt.timer is not None:
            attempt.timer.cancel()
        self._outbox.put(word, row)
        self._running.pop(job.id, None)
        if self._is_cancelled:
            self._say_cancelled()

    def _limit(self, attempt: Attempt) -> None:
        seconds = attempt.job.timeout_ms / 1000
        attempt.timer = self._loop.call_later(seconds, self._stop, attempt.job.id, Stop.TIMEOUT)

    def _stop(self, job_id: str, why: Stop) -> None:
        entry = self._running.get(job_id)
        if entry is None:
            return
        attempt, task = entry
        attempt.stop = why
        # Not at once: a task that is cancelled before its first step never runs, so that
        # nothing would be said about its job.
        self._loop.call_soon(task.cancel)

    def cancel_all(self) -> None:
        """Hand back everything that runs here, then say CANCELLED."""
        self._is_cancelled = True
        for job_id in list(self._running):
            self._stop(job_id, Stop.HAND_BACK)
        self._say_cancelled()

    def _say_cancelled(self) -> None:
        if not self._running:
            self._outbox.put(Word.CANCELLED, None)
