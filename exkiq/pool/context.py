"""What a running job can know about itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from exkiq.errors import JobTooLarge
from exkiq.machine import limits
from exkiq.pool.assignment import Assignment
from exkiq.wire.codec import decode_value, encode_value
from exkiq.wire.messages import PROGRESS_BYTES_MAX


class Port(Protocol):
    """Where a job's words go."""

    @property
    def is_stopping(self) -> bool: ...

    def save(self, job: Assignment, checkpoint: bytes) -> None: ...

    def tell(self, job: Assignment, progress: bytes) -> None: ...

    def note(self, job: Assignment, text: str) -> None:
        """A warning for the node's log."""


class JobContext:
    """The job that runs here; `current_job()` finds it.

    Units: attempt counts from 1; enqueued_at is wall time in milliseconds.
    """

    __slots__ = ("_is_stopped", "_job", "_port")

    def __init__(self, job: Assignment, port: Port) -> None:
        self._job = job
        self._port = port
        self._is_stopped = False

    @property
    def id(self) -> str:
        return self._job.id

    @property
    def task(self) -> str:
        return self._job.task

    @property
    def queue(self) -> str:
        return self._job.queue

    @property
    def attempt(self) -> int:
        return self._job.attempt

    @property
    def retries(self) -> int:
        return self._job.retries

    @property
    def lost(self) -> int:
        return self._job.lost

    @property
    def fence(self) -> int:
        """Grows with every start of this job: write it along, and refuse older ones."""
        return self._job.fence

    @property
    def enqueued_at(self) -> int:
        return self._job.enqueued_ms

    @property
    def checkpoint(self) -> object:
        """What an earlier start saved last; None at first."""
        saved = self._job.checkpoint
        return None if saved is None else decode_value(saved)

    @property
    def is_stopping(self) -> bool:
        """True once the node drains or the job is cancelled: a good moment to save and to end."""
        return self._is_stopped or self._port.is_stopping

    def stop(self) -> None:
        """From here on `is_stopping` is true, whatever the node does."""
        self._is_stopped = True

    def save_checkpoint(self, value: object) -> None:
        """Keep `value` for the next start of this job, should this one not end.

        Errors: SerializationError; JobTooLarge over 256 KiB.
        """
        checkpoint = encode_value(value)
        if len(checkpoint) > limits.CHECKPOINT_BYTES_MAX:
            raise JobTooLarge(
                f"a checkpoint of {len(checkpoint)} bytes, the limit is "
                f"{limits.CHECKPOINT_BYTES_MAX}: save less, or where the rest is"
            )
        self._port.save(self._job, checkpoint)

    def progress(self, value: object) -> None:
        """Show `value` as how far this job is, to whoever asks; it is forgotten when the job ends.

        Units:  at most one is sent every 100 ms; the last one always is.
        Errors: SerializationError; JobTooLarge over 4 KiB.
        """
        said = encode_value(value)
        if len(said) > PROGRESS_BYTES_MAX:
            raise JobTooLarge(
                f"a progress of {len(said)} bytes, the limit is {PROGRESS_BYTES_MAX}: say less"
            )
        self._port.tell(self._job, said)


_current: ContextVar[JobContext | None] = ContextVar("exkiq_job", default=None)


def current_job() -> JobContext | None:
    """The job that the calling code belongs to, None outside of one."""
    return _current.get()


def progress(value: object) -> None:
    """Show how far the job that runs here is: a number, or anything that can be encoded.

    Units:  at most one is sent every 100 ms; the last one always is.
    Errors: RuntimeError outside of a job; SerializationError; JobTooLarge over 4 KiB.
    """
    context = _current.get()
    if context is None:
        raise RuntimeError("exkiq.progress: no job runs here; call it from what a job runs")
    context.progress(value)


def enter(context: JobContext) -> None:
    """From here on, in this thread's or task's context, `context` is the current job."""
    _current.set(context)


@contextmanager
def entered(context: JobContext) -> Iterator[JobContext]:
    """`context` is the current job inside the block; for running a job in place."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)
