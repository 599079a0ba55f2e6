"""A job run in place: no queue, no retries, no cluster, only the journey of its arguments."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from exkiq import client
from exkiq.clock import SystemClock
from exkiq.errors import ResultTooLarge
from exkiq.machine.limits import RESULT_BYTES_MAX
from exkiq.pool.assignment import Assignment
from exkiq.pool.attempt import Ended, adrive, drive
from exkiq.pool.context import JobContext, entered
from exkiq.runnable import Runnable
from exkiq.telemetry import log
from exkiq.wire.codec import decode_call, decode_value, encode_value

Steps = Generator[Any, Any, Any]


class Here:
    """Where the words of a job in place go: a checkpoint has nobody to read it."""

    is_stopping = False

    def save(self, job: Assignment, checkpoint: bytes) -> None:
        """Its encoding was the test."""

    def tell(self, job: Assignment, progress: bytes) -> None:
        """Nobody asks."""

    def note(self, job: Assignment, text: str) -> None:
        log.warning("job %s: %s", job.id, text)


class Inline:
    """One run in place.

    `_steps` is the run, written once: it yields whatever may have to be awaited, as the
    pipeline of an attempt does, and is driven by the same two.
    """

    def __init__(self, runnable: Runnable, queue: str) -> None:
        self._runnable = runnable
        self._queue = queue

    def run(self, payload: bytes) -> Any:
        """In the calling thread."""
        if self._runnable.is_async:
            self._refuse_running_loop()
            return asyncio.run(self._on_loop(payload))
        with entered(self._context(payload)) as context:
            return _there_and_back(drive(self._steps(payload, context), asyncio.run))

    async def arun(self, payload: bytes) -> Any:
        """On the running loop, or in a thread if it is no async function."""
        if self._runnable.is_async:
            return await self._on_loop(payload)
        return await asyncio.to_thread(self.run, payload)

    async def _on_loop(self, payload: bytes) -> Any:
        with entered(self._context(payload)) as context:
            return _there_and_back(await adrive(self._steps(payload, context)))

    def _steps(self, payload: bytes, context: JobContext) -> Steps:
        runnable = self._runnable
        args, kwargs = decode_call(payload)
        instance = yield runnable.make()
        try:
            if runnable.before is not None:
                yield runnable.before(instance, context)
            value = yield runnable.run(instance, args, kwargs)
        except BaseException as error:
            yield from self._after(instance, context, Ended("failed", error=error))
            raise
        yield from self._after(instance, context, Ended("succeeded", value))
        return value

    def _after(self, instance: Any, context: JobContext, ended: Ended) -> Steps:
        if self._runnable.after is None:
            return
        try:
            yield self._runnable.after(instance, context, ended)
        except Exception:  # noqa: BLE001 - as in a pool: the job has ended, this is only told
            log.warning("job %s: its after hook raised", context.id, exc_info=True)

    def _context(self, payload: bytes) -> JobContext:
        job = Assignment(
            id=client.default().next_id(),
            fence=0,
            task=self._runnable.name,
            payload=payload,
            attempt=1,
            lost=0,
            retries=0,
            queue=self._queue,
            enqueued_ms=SystemClock().now_ms(),
            timeout_ms=0,
        )
        return JobContext(job, Here())

    def _refuse_running_loop(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise RuntimeError(
            f"{self._runnable.name} is async and a loop runs here: await aperform_inline(...)"
        )


def _there_and_back(value: object) -> Any:
    if value is None:
        return None
    encoded = encode_value(value)
    if len(encoded) > RESULT_BYTES_MAX:
        raise ResultTooLarge(f"a value has at most {RESULT_BYTES_MAX} bytes, not {len(encoded)}")
    return decode_value(encoded)
