"""One attempt at a job, as a pipeline of small steps.

    resolve -> decode -> make -> before -> run -> judge -> after -> outcome

`steps` is the pipeline, written once. It yields whatever may have to be awaited and is sent
what came of it; the two drivers at the end differ only in how they wait. They are total:
whatever user code raises, SystemExit and KeyboardInterrupt included, an outcome comes out.
Telling the node is left to the caller.
"""

from __future__ import annotations

import inspect
from asyncio import TimerHandle
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from enum import Enum
from types import CoroutineType
from typing import Any, Literal

from exkiq.clock import Clock
from exkiq.failure_modes import check_decision, decide_by_default
from exkiq.machine import limits
from exkiq.pool.assignment import Assignment, chance_of
from exkiq.pool.context import JobContext, Port, enter
from exkiq.pool.error_text import clean, cut_message, cut_traceback, error_row
from exkiq.pool.report import VALUE_NOT_SERIALISABLE, VALUE_TOO_LARGE
from exkiq.pool.words import Word
from exkiq.pool.work import JobTimeout, Slot, Work
from exkiq.wire.codec import decode_call, encode_value

# What is to be said to the node: a word, and one row of it.
Outcome = tuple[Word, Any]

# Why a value could not be encoded: a sentence, not the value.
REASON_CHARS_MAX = 1000

_NO_INSTANCE = object()


class Stop(Enum):
    """Why an attempt is stopped from outside."""

    NO = "no"
    TIMEOUT = "timeout"  # it fails
    HAND_BACK = "hand back"  # it goes to another node, uncounted


@dataclass(frozen=True, slots=True)
class Ended:
    """What the `after` hook is shown."""

    state: Literal["succeeded", "failed"]
    value: object = None
    error: BaseException | None = None


class Attempt:
    """One run of one job: what the steps read and note down."""

    __slots__ = (
        "clock",
        "instance",
        "job",
        "port",
        "started",
        "stop",
        "thread_id",
        "timer",
        "work",
    )

    def __init__(self, job: Assignment, work: Work, port: Port, clock: Clock) -> None:
        self.job = job
        self.work = work
        self.port = port
        self.clock = clock
        self.started = clock.monotonic()
        self.instance: Any = _NO_INSTANCE
        self.stop = Stop.NO
        self.thread_id: int | None = None
        self.timer: TimerHandle | None = None

    def run_ms(self) -> int:
        return int((self.clock.monotonic() - self.started) * 1000)


def steps(attempt: Attempt, slot: Slot) -> Generator[Any, Any, Outcome]:
    """The pipeline from a resolved task to an outcome."""
    work, context = attempt.work, JobContext(attempt.job, attempt.port)
    enter(context)
    try:
        args, kwargs = decode_call(attempt.job.payload)
        if work.key not in slot.instances:
            slot.instances[work.key] = yield work.runnable.make()
        instance = attempt.instance = slot.instances[work.key]
        if work.before is not None:
            yield work.before(instance, context)
        value = yield work.runnable.run(instance, args, kwargs)
        ended = Ended("succeeded", value) if work.after is not None else None
        outcome = succeeded(attempt, value)
    except BaseException as error:  # noqa: BLE001 - it is the job's own, and is told to the node
        slot.instances.pop(work.key, None)
        ended = Ended("failed", error=error)
        outcome = judge(attempt, error)
    if work.after is not None and ended is not None:
        yield from _after(attempt, context, ended)
    return outcome


def _after(attempt: Attempt, context: JobContext, ended: Ended) -> Generator[Any, Any, None]:
    if attempt.work.after is None or attempt.instance is _NO_INSTANCE:
        return
    if attempt.stop is Stop.HAND_BACK:
        return  # it has not ended: another node goes on
    try:
        yield attempt.work.after(attempt.instance, context, ended)
    except BaseException as error:  # noqa: BLE001 - the job has ended; the node logs this
        attempt.port.note(attempt.job, f"its after hook raised {_in_one_line(error_row(error))}")


# --- outcomes --------------------------------------------------------------------------------


def succeeded(attempt: Attempt, value: object) -> Outcome:
    job = attempt.job
    kept = None if value is None else _encoded(value)
    return Word.DONE, (job.id, job.fence, kept, attempt.run_ms())


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
    if attempt.stop is Stop.HAND_BACK:
        return Word.RETURNED, [attempt.job.id, attempt.job.fence]
    if attempt.stop is Stop.TIMEOUT:
        error = timeout_of(attempt.job).with_traceback(error.__traceback__)
    return Word.FAILED, failed_row(attempt, error, error_row(error))


def failed_row(attempt: Attempt, error: BaseException, texts: list[str]) -> list[object]:
    """A row of FAILED, with the decision of the task's failure mode."""
    job = attempt.job
    try:
        raw = attempt.work.runnable.decide(job.attempt, job.retries, error)
        decision = check_decision(raw)
    except BaseException as worse:  # noqa: BLE001 - user code; both errors are told
        decision, texts = ["failed"], _both(texts, error_row(worse))
    return [job.id, job.fence, decision, texts, attempt.run_ms()]


def unresolved_row(job: Assignment, error: BaseException) -> list[object]:
    """A row of FAILED for a task that does not resolve: it has no failure mode to ask."""
    decision = decide_by_default(job.attempt, job.retries, chance_of(job))
    return [job.id, job.fence, decision, error_row(error), 0]


def timeout_of(job: Assignment) -> JobTimeout:
    return JobTimeout(f"ran longer than its timeout of {job.timeout_ms} ms")


def _both(first: list[str], second: list[str]) -> list[str]:
    message = f"its failure mode raised {_in_one_line(second)}, after the job's own: {first[1]}"
    trace = f"{first[2]}\nAnd its failure mode raised:\n{second[2]}"
    return [first[0], cut_message(message), cut_traceback(trace)]


def _in_one_line(texts: list[str]) -> str:
    return f"{texts[0]}: {texts[1]}"[:REASON_CHARS_MAX]


# --- drivers ---------------------------------------------------------------------------------

# Runs a coroutine on the child's loop and waits for it, from a thread.
Bridge = Callable[[Coroutine[Any, Any, Any]], object]


def run_in_thread(attempt: Attempt, slot: Slot, bridge: Bridge) -> Outcome:
    """The attempt of a `def` task, in the calling thread."""
    pipeline = steps(attempt, slot)
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
        outcome: Outcome = end.value
        return outcome


async def run_on_loop(attempt: Attempt, slot: Slot) -> Outcome:
    """The attempt of an `async def` task, in the calling asyncio task."""
    pipeline = steps(attempt, slot)
    try:
        step = next(pipeline)
        while True:
            try:
                value = await step if inspect.isawaitable(step) else step
            except BaseException as error:  # noqa: BLE001 - the pipeline judges it
                step = pipeline.throw(error)
            else:
                step = pipeline.send(value)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome
