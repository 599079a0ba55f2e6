"""What a node says of its jobs becomes operations: ended, failed, handed back, half done.

As in `parsing.py`: everything is checked that can be known without the state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exkiq.machine import checks, limits
from exkiq.machine.checks import Rejected
from exkiq.machine.commands import Verdict
from exkiq.machine.outcomes import Refused
from exkiq.machine.requests import Checkpoint, Complete, Fail, Failure, HandBack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exkiq.machine.checks import Items


def complete(items: Items) -> Complete:
    session, ids, fences, values, run_ms = checks.fields(items, 5)
    ids = checks.job_ids(ids)
    return Complete(
        checks.number(session),
        ids,
        checks.wholes(fences, len(ids), "fences"),
        _values(values, len(ids)),
        _run_times(run_ms, len(ids)),
    )


def _values(value: object, length: int) -> Sequence[bytes | Refused | None] | None:
    if value is None:
        return None
    values = checks.sized(checks.items(value, "values"), length, "values")
    if set(map(type, values)) == {bytes} and max(map(len, values)) <= limits.RESULT_BYTES_MAX:  # type: ignore[arg-type]
        return values  # type: ignore[return-value]
    return [_value(item) for item in values]


def _value(value: object) -> bytes | Refused | None:
    """A result, or why it is not kept: the job has succeeded all the same."""
    if value is None:
        return None
    if type(value) is bytes:
        if len(value) <= limits.RESULT_BYTES_MAX:
            return value
        text = f"a result of {len(value)} bytes is over {limits.RESULT_BYTES_MAX}"
        return Refused("ResultTooLarge", text)
    reason = checks.texts(value, "values")
    if len(reason) != 2:
        raise Rejected("a value that is not kept needs its kind and text")
    kind, text = reason
    return Refused(
        checks.text(kind, limits.ERROR_TYPE_CHARS_MAX, "the kind"),
        text[: limits.ERROR_MESSAGE_CHARS_MAX],
    )


def _run_times(value: object, length: int) -> list[int] | None:
    if value is None:
        return None
    times = checks.wholes(value, length, "run times")
    if times and (min(times) < 0 or max(times) > limits.RUN_MS_MAX):
        return [_run_time(ms) for ms in times]
    return times


def _run_time(ms: int) -> int:
    """Bounded rather than refused: an odd clock must not keep a job from ending."""
    return min(max(ms, 0), limits.RUN_MS_MAX)


def fail(items: Items) -> Fail:
    session, failures = checks.fields(items, 2)
    return Fail(
        checks.number(session), [_failure(item) for item in checks.items(failures, "failures")]
    )


def _failure(value: object) -> Failure:
    fields = checks.items(value, "a failure")
    if len(fields) != 5:
        raise Rejected("a failure is not id, fence, decision, error and run time")
    job_id, fence, decision, error, run_ms = fields
    verdict, delay_ms, queue = _decision(decision)
    return Failure(
        checks.job_id(job_id),
        checks.number(fence),
        verdict,
        delay_ms,
        queue,
        _error(error),
        _run_time(checks.whole(run_ms, -limits.INT_MAX, limits.INT_MAX, "the run time")),
    )


def _decision(value: object) -> tuple[Verdict, int, str]:
    decision = checks.items(value, "a decision")
    match decision:
        case ["retry", delay]:
            delay_ms = checks.whole(delay, 0, limits.INT_MAX, "the delay")
            return Verdict.RETRY, min(delay_ms, limits.DELAY_MS_MAX), ""
        case ["move", queue]:
            return Verdict.MOVE, 0, checks.any_text(queue, "a queue's name")
        case ["failed" | "abandon" | "requeue" as word]:
            return Verdict(str(word)), 0, ""
        case _:
            raise Rejected("a decision is not known")


def _error(value: object) -> tuple[str, str, str]:
    lines = checks.texts(value, "errors")
    if len(lines) != 3:
        raise Rejected("an error is not type, message and traceback")
    kind, message, traceback = lines
    return (
        kind[: limits.ERROR_TYPE_CHARS_MAX],
        message[: limits.ERROR_MESSAGE_CHARS_MAX],
        _last_bytes(traceback, limits.TRACEBACK_BYTES_MAX),
    )


def _last_bytes(text: str, bytes_max: int) -> str:
    if len(text) * 4 <= bytes_max:
        return text
    return text.encode()[-bytes_max:].decode(errors="ignore")


def hand_back(items: Items) -> HandBack:
    session, ids, fences, checkpoints, is_lost = checks.fields(items, 5)
    ids = checks.job_ids(ids)
    kept = checks.blobs_or_none(checkpoints, len(ids), "checkpoints")
    for checkpoint in kept or ():
        _check_checkpoint(checkpoint or b"")
    return HandBack(
        checks.number(session),
        ids,
        checks.wholes(fences, len(ids), "fences"),
        kept,
        checks.flag(is_lost, "is_lost"),
    )


def checkpoint(items: Items) -> Checkpoint:
    session, job_id, fence, value = checks.fields(items, 4)
    if type(value) is not bytes:
        raise Rejected("a checkpoint is not bytes")
    _check_checkpoint(value)
    return Checkpoint(checks.number(session), checks.job_id(job_id), checks.number(fence), value)


def _check_checkpoint(value: bytes) -> None:
    if len(value) > limits.CHECKPOINT_BYTES_MAX:
        text = f"a checkpoint of {len(value)} bytes is over {limits.CHECKPOINT_BYTES_MAX}"
        raise Rejected(text, "JobTooLarge")
