"""Runs the jobs of a test, one at a time, where it is asked to: no node, no child, no slot."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any
from weakref import WeakKeyDictionary

from exkiq.inline import Here
from exkiq.machine import Record, commands
from exkiq.pool.assignment import Assignment
from exkiq.pool.attempt import Attempt, Outcome, run_in_thread, run_on_loop
from exkiq.pool.context import entered
from exkiq.pool.words import Word
from exkiq.pool.work import Slot
from exkiq.session import assignment_of, kept_values
from exkiq.success_modes import Success, SuccessMode
from exkiq.telemetry import log
from exkiq.testing.premises import Premises
from exkiq.testing.stage import NODE, Stage


class Port(Here):
    """Where the words of one running job go: into the machine, as on a node."""

    def __init__(self, stage: Stage, record: Record) -> None:
        self._stage, self._record = stage, record
        self._mode: SuccessMode | None = None
        self._success: Success | None = None

    @property
    def is_stopping(self) -> bool:  # type: ignore[override]
        """Whether somebody cancelled it while it runs."""
        return self._stage.is_stopping(self._record.id)

    def save(self, job: Assignment, checkpoint: bytes) -> None:
        stage = self._stage
        stage.apply(
            commands.checkpoint(stage.next_pid(), stage.session, job.id, job.fence, checkpoint)
        )

    def tell(self, job: Assignment, progress: bytes) -> None:
        self._stage.progress[job.id] = progress

    def succeeded(self, job: Assignment, mode: SuccessMode, value: object, run_ms: int) -> None:
        record = self._record
        waited_ms = record.started_ms - record.enqueued_ms
        self._mode = mode
        self._success = Success(
            job.id, job.task, job.queue, job.attempt, value, max(0, waited_ms), run_ms
        )

    def committed(self) -> None:
        """Its outcome was applied: ask the success mode, if it has one."""
        self._stage.progress.pop(self._record.id, None)
        if self._mode is None or self._success is None:
            return
        try:
            self._mode.succeeded(self._success)
        except Exception:  # noqa: BLE001 - as in a child: the job has succeeded, this is only told
            log.warning("job %s: its success mode raised", self._record.id, exc_info=True)


class Hand:
    """Runs a waiting job from its claim to the end of that attempt.

    It goes the way of a child process: the same round trip, hooks, modes and bounds. A job's
    timeout is not watched: no time passes while it runs.
    Errors: what a worker's `init` raises: on a node its jobs would wait until it does not.
    """

    def __init__(self, stage: Stage, premises: Premises) -> None:
        self._stage, self._premises = stage, premises
        self._slots: list[Slot] = []
        self._slots_on_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Slot]]
        self._slots_on_loops = WeakKeyDictionary()
        self._runner, self._is_runner_free = asyncio.Runner(), threading.Lock()

    def close(self) -> None:
        """End the loop of async jobs."""
        self._runner.close()

    def run(self, record: Record) -> None:
        """Run it in this thread; an async one on a loop of our own."""
        attempt, port = self._begin(record)
        if attempt.work.is_async:
            outcome = self._wait_for(self._on_loop(attempt))
        else:
            outcome = self._in_place(attempt)
        self._end(attempt, port, outcome)

    async def arun(self, record: Record) -> None:
        """Run it on the running loop, or in a thread if it is no async one."""
        attempt, port = self._begin(record)
        if attempt.work.is_async:
            outcome = await self._on_loop(attempt)
        else:
            outcome = await asyncio.to_thread(self._in_place, attempt)
        self._end(attempt, port, outcome)

    def _begin(self, record: Record) -> tuple[Attempt, Port]:
        """Claim it, and find what it runs."""
        stage = self._stage
        work = self._premises.work_of(record)
        stage.apply(commands.claim(stage.next_pid(), [(NODE, stage.session, [record.id])]))
        port = Port(stage, record)
        return Attempt(assignment_of(record), work, port, stage.clock), port

    def _in_place(self, attempt: Attempt) -> Outcome:
        slot = self._slots.pop() if self._slots else Slot()
        try:
            # in a context of its own, so that nothing leaks into the next job or the test
            return copy_context().run(run_in_thread, attempt, slot, self._wait_for)
        finally:
            self._slots.append(slot)

    async def _on_loop(self, attempt: Attempt) -> Outcome:
        slots = self._slots_on_loops.setdefault(asyncio.get_running_loop(), [])
        slot = slots.pop() if slots else Slot()
        try:
            with entered(attempt.context):
                return await run_on_loop(attempt, slot)
        finally:
            slots.append(slot)

    def _wait_for(self, work: Coroutine[Any, Any, Any]) -> Any:
        if _is_loop_running_here():  # another one then, in a thread that ends with it
            with ThreadPoolExecutor(1) as apart:
                return apart.submit(copy_context().run, asyncio.run, work).result()
        if not self._is_runner_free.acquire(blocking=False):  # another thread is in it
            return asyncio.run(work)
        try:
            return self._runner.run(work)
        finally:
            self._is_runner_free.release()

    def _end(self, attempt: Attempt, port: Port, outcome: Outcome) -> None:
        stage = self._stage
        pid, session = stage.next_pid(), stage.session
        match outcome:
            case Word.DONE, [job_id, fence, value, run_ms]:
                values = kept_values([value])
                op = commands.complete(pid, session, [job_id], [fence], values, [run_ms])
            case Word.FAILED, row:
                op = commands.fail(pid, session, [row])
            case _, [job_id, fence]:
                op = commands.hand_back(pid, session, [job_id], [fence])
        stage.apply(op)
        port.committed()
        if attempt.misfit is not None:
            raise attempt.misfit.error


def _is_loop_running_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
