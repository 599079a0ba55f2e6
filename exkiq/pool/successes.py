"""What is done about jobs that succeeded, once the log has their success."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from queue import SimpleQueue

from exkiq.clock import Clock
from exkiq.pool.assignment import Assignment
from exkiq.pool.attempt import in_one_line
from exkiq.pool.error_text import error_row
from exkiq.pool.outbox import Outbox
from exkiq.pool.words import Word
from exkiq.success_modes import Success, SuccessMode

# Without a leader nothing is committed: then the oldest are let go, with their values.
KEPT_MAX = 10_000

Kept = tuple[Assignment, SuccessMode, Success]


class Successes:
    """Keeps each success until it is committed, and asks its mode then.

    Modes are user code that may take its time: they have a thread of their own.
    """

    def __init__(self, outbox: Outbox, clock: Clock) -> None:
        self._outbox = outbox
        self._clock = clock
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()  # jobs succeed in their threads
        self._queue: SimpleQueue[Kept | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def keep(self, job: Assignment, mode: SuccessMode, value: object, run_ms: int) -> None:
        """From any thread, before its success is said."""
        waited_ms = max(0, self._clock.now_ms() - run_ms - job.enqueued_ms)
        success = Success(job.id, job.task, job.queue, job.attempt, value, waited_ms, run_ms)
        with self._lock:
            self._kept[job.id] = (job, mode, success)
            if len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
        self._outbox.put_threadsafe(Word.AWAITING, [job.id, job.fence])

    def committed(self, job_ids: Iterable[str]) -> None:
        """Their success is in the log."""
        for job_id in job_ids:
            with self._lock:
                kept = self._kept.pop(job_id, None)
            if kept is not None:
                self._queue.put(kept)
                self._start()

    def _start(self) -> None:
        if self._thread is None:
            name = "exkiq-success-modes"
            self._thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._thread.start()

    @property
    def is_used(self) -> bool:
        """Whether any mode was to be asked ever."""
        return self._thread is not None

    def finish(self, timeout: float | None = None) -> None:
        """Wait until every mode that was to be asked has been, at most so many seconds."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout)

    def _work(self) -> None:
        while (kept := self._queue.get()) is not None:
            job, mode, success = kept
            try:
                mode.succeeded(success)
            except BaseException as error:  # noqa: BLE001 - user code; the job has succeeded
                text = f"its success mode raised {in_one_line(error_row(error))}"
                self._outbox.note(text, job.id)
