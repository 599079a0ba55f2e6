"""One attempt at a job, as a pipeline of small steps.

    resolve -> decode -> make and init -> before -> run -> judge -> after -> outcome

`steps` is the pipeline, written once. It yields whatever may have to be awaited and is sent
what came of it; the two drivers at the end differ only in how they wait. They are total:
whatever user code raises, SystemExit and KeyboardInterrupt included, an outcome comes out.
Telling the node is left to the caller.
"""

from __future__ import annotations

import asyncio
import inspect
from asyncio import TimerHandle
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from enum import Enum
from types import CoroutineType
from typing import Any, Literal, Protocol

from exkiq.clock import Clock
from exkiq.errors import JobCancelled
from exkiq.failure_modes import check_decision
from exkiq.machine import limits
from exkiq.pool.assignment import Assignment
from exkiq.pool.context import JobContext, Port, enter
from exkiq.pool.error_text import clean, cut_message, cut_traceback, error_row
from exkiq.pool.report import VALUE_NOT_SERIALISABLE, VALUE_TOO_LARGE
from exkiq.pool.words import Word
from exkiq.pool.work import JobTimeout, Slot, Work
from exkiq.success_modes import SuccessMode
from exkiq.wire.codec import decode_call, encode_value

# What is to be said to the node: a word, and one row of it.
Outcome = tuple[Word, Any]

# Of an error and what led to it, so many lose their tracebacks once they are told.
CHAIN_MAX = 100

# Why a value could not be encoded: a sentence, not the value.
REASON_CHARS_MAX = 1000

_NO_INSTANCE = object()


class Stop(Enum):
    """Why an attempt is stopped from outside."""

    NO = "no"
    TIMEOUT = "timeout"  # it fails
    HAND_BACK = "hand back"  # it goes to another node, uncounted
    CANCEL = "cancel"  # somebody cancelled the job


@dataclass(frozen=True, slots=True)
class Ended:
    """What the `after` hook is shown."""

    state: Literal["succeeded", "failed"]
    value: object = None
    error: BaseException | None = None


class InitFailed(Exception):
    """A worker could not be made ready, for `error`. `instance` is None if there is none yet."""

    def __init__(self, instance: Any, error: BaseException) -> None:
        super().__init__()
        self.instance = instance
        self.error = error


class Home(Port, Protocol):
    """Where an attempt runs: more than the job itself has to do with."""

    def succeeded(self, job: Assignment, mode: SuccessMode, value: object, run_ms: int) -> None:
        """Ask the mode once the success is in the log."""


class Attempt:
    """One run of one job: what the steps read and note down.

    `misfit` is set where the job has not run because its worker could not be made ready.
    """

    __slots__ = (
        "clock",
        "context",
        "instance",
        "is_parting",
        "job",
        "misfit",
        "port",
        "started",
        "stop",
        "thread_id",
        "timer",
        "work",
    )

    def __init__(self, job: Assignment, work: Work, port: Home, clock: Clock) -> None:
        self.job = job
        self.work = work
        self.port = port
        self.clock = clock
        self.context = JobContext(job, port)
        self.misfit: InitFailed | None = None
        self.is_parting = False  # its on_shutdown was asked
        self.started = clock.monotonic()
        self.instance: Any = _NO_INSTANCE
        self.stop = Stop.NO
        self.thread_id: int | None = None
        self.timer: TimerHandle | None = None

    def run_ms(self) -> int:
        return int((self.clock.monotonic() - self.started) * 1000)

    @property
    def has_instance(self) -> bool:
        return self.instance is not _NO_INSTANCE

    def again(self) -> None:
        """In another slot: nothing has run yet."""
        self.misfit = None
        self.started = self.clock.monotonic()


def making(work: Work, queue: str, slot: Slot) -> Generator[Any, Any, Any]:
    """An instance for the slot, made ready; that of an earlier try is tried again.

    Errors: InitFailed.
    """
    broken = slot.broken.get(work.key)
    instance = None if broken is None else broken.instance
    try:
        if instance is None:
            instance = yield work.fresh()
        if work.initialise is not None:
            yield work.initialise(instance, queue)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the worker is not ready
        raise InitFailed(instance, error) from None
    slot.instances[work.key] = instance
    return instance


def steps(attempt: Attempt, slot: Slot) -> Generator[Any, Any, Outcome]:
    """The pipeline from a resolved task to an outcome."""
    work, context = attempt.work, attempt.context
    failure: BaseException | None = None
    enter(context)
    try:
        args, kwargs = decode_call(attempt.job.payload)
        instance = slot.instances.get(work.key, _NO_INSTANCE)
        if instance is _NO_INSTANCE:
            instance = yield from making(work, attempt.job.queue, slot)
        attempt.instance = instance
        if work.before is not None:
            yield work.before(instance, context)
        value = yield work.runnable.run(instance, args, kwargs)
        ended = Ended("succeeded", value) if work.after is not None else None
        outcome = succeeded(attempt, value)
    except BaseException as error:  # noqa: BLE001 - it is the job's own, and is told to the node
        slot.instances.pop(work.key, None)
        failure, ended = error, Ended("failed", error=error)
        outcome = judge(attempt, error)
    if work.after is not None and ended is not None:
        yield from _after(attempt, context, ended)
    if failure is not None and attempt.misfit is None:
        forget(failure)
    return outcome


def forget(error: BaseException | None) -> None:
    """Let go of the frames that an error came through, once it is told.

    They hold the worker, and this error again: thousands of failures would wait for the
    collector, with all that their workers are connected to.
    """
    for _ in range(CHAIN_MAX):
        if error is None:
            return
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _after(attempt: Attempt, context: JobContext, ended: Ended) -> Generator[Any, Any, None]:
    if attempt.work.after is None or attempt.instance is _NO_INSTANCE:
        return
    if attempt.stop is Stop.HAND_BACK:
        return  # it has not ended: another node goes on
    try:
        yield attempt.work.after(attempt.instance, context, ended)
    except BaseException as error:  # noqa: BLE001 - the job has ended; the node logs this
        attempt.port.note(attempt.job, f"its after hook raised {in_one_line(error_row(error))}")


# --- outcomes --------------------------------------------------------------------------------


def succeeded(attempt: Attempt, value: object) -> Outcome:
    job = attempt.job
    kept = None if value is None else _encoded(value)
    run_ms = attempt.run_ms()
    mode = attempt.work.success_mode(job.queue)
    if mode is not None:
        attempt.port.succeeded(job, mode, value, run_ms)
    return Word.DONE, (job.id, job.fence, kept, run_ms)


def _encoded(value: object) -> bytes:
    """The encoded value, or the mark that says why there is none."""
    try:
        data = encode_value(value)
    except Exception as error:  # noqa: BLE001 - any object may come; the job succeeded all the same
        return VALUE_NOT_SERIALISABLE + clean(_reason(error)).encode()
    return data if len(data) <= limits.RESULT_BYTES_MAX else VALUE_TOO_LARGE


def _reason(error: Exception) -> str:
    return error_row(error)[1][:REASON_CHARS_MAX] or type(error).__name__


def judge(attempt: Attempt, error: BaseException) -> Outcome:
    """What becomes of an attempt that raised."""
    if isinstance(error, InitFailed):
        if attempt.stop is Stop.NO:
            attempt.misfit = error
            return Word.RETURNED, [attempt.job.id, attempt.job.fence]
        error = error.error
    if attempt.stop is Stop.HAND_BACK:
        return Word.RETURNED, [attempt.job.id, attempt.job.fence]
    if attempt.stop is Stop.TIMEOUT:
        error = timeout_of(attempt.job).with_traceback(error.__traceback__)
    if attempt.stop is Stop.CANCEL and isinstance(error, asyncio.CancelledError):
        error = JobCancelled("cancelled while it ran").with_traceback(error.__traceback__)
    return Word.FAILED, failed_row(attempt, error, error_row(error))


def failed_row(attempt: Attempt, error: BaseException, texts: list[str]) -> list[object]:
    """A row of FAILED, with the decision of the task's failure mode."""
    job = attempt.job
    if attempt.stop is Stop.CANCEL:
        return [job.id, job.fence, ["failed"], texts, attempt.run_ms()]
    try:
        raw = attempt.work.runnable.decide(job.attempt, job.retries, error)
        decision = check_decision(raw)
    except BaseException as worse:  # noqa: BLE001 - user code; both errors are told
        decision, texts = ["failed"], _both(texts, error_row(worse))
    return [job.id, job.fence, decision, texts, attempt.run_ms()]


def timeout_of(job: Assignment) -> JobTimeout:
    return JobTimeout(f"ran longer than its timeout of {job.timeout_ms} ms")


def _both(first: list[str], second: list[str]) -> list[str]:
    message = f"its failure mode raised {in_one_line(second)}, after the job's own: {first[1]}"
    trace = f"{first[2]}\nAnd its failure mode raised:\n{second[2]}"
    return [first[0], cut_message(message), cut_traceback(trace)]


def in_one_line(texts: list[str]) -> str:
    return f"{texts[0]}: {texts[1]}"[:REASON_CHARS_MAX]


# --- drivers ---------------------------------------------------------------------------------

# Runs a coroutine on the child's loop and waits for it, from a thread.
Bridge = Callable[[Coroutine[Any, Any, Any]], object]


def run_in_thread(attempt: Attempt, slot: Slot, bridge: Bridge) -> Outcome:
    """The attempt of a `def` task, in the calling thread."""
    outcome: Outcome = drive(steps(attempt, slot), bridge)
    return outcome


async def run_on_loop(attempt: Attempt, slot: Slot) -> Outcome:
    """The attempt of an `async def` task, in the calling asyncio task."""
    outcome: Outcome = await adrive(steps(attempt, slot))
    return outcome


def drive(pipeline: Generator[Any, Any, Any], bridge: Bridge) -> Any:
    """Go through the steps in the calling thread. Errors: what they raise."""
    try:
        step = next(pipeline)
        while True:
            if type(step) is not CoroutineType:
                step = pipeline.send(step)
                continue
            try:
                value = bridge(step)
            except BaseException as error:  # noqa: BLE001 - the pipeline judges it
                step = pipeline.throw(error)
            else:
                step = pipeline.send(value)
    except StopIteration as end:
        return end.value


async def adrive(pipeline: Generator[Any, Any, Any]) -> Any:
    """Go through the steps in the calling asyncio task. Errors: what they raise."""
    try:
        step = next(pipeline)
        while True:
            try:
                is_awaitable = type(step) is CoroutineType or inspect.isawaitable(step)
                value = await step if is_awaitable else step
            except BaseException as error:  # noqa: BLE001 - the pipeline judges it
                step = pipeline.throw(error)
            else:
                step = pipeline.send(value)
    except StopIteration as end:
        return end.value
