"""What a node tells about jobs and queues, as values with types."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from exkiq.machine import State
from exkiq.wire.codec import decode_call, decode_value


class AttemptError(NamedTuple):
    """The error of one attempt, as text: its class may not exist here."""

    type: str
    message: str
    traceback: str


class Outcome(NamedTuple):
    """How a job ended, as a value.

    Shapes: `state` is succeeded, failed or cancelled, None where nobody knows (any more);
            `value` what `perform` returned; `error` what `result` would raise, None when it
            would return.
    """

    state: State | None
    value: Any
    error: Exception | None


class Step(NamedTuple):
    """One step in the life of a job.

    Shapes: `name` is started, retrying, handed_back, lost, moved, succeeded, failed or cancelled;
            a watcher who comes while the job waits is first told queued or scheduled. `error`
            is that of the last failed attempt, where one failed; `node` the last that took it.
    Units:  `delay` in seconds from the failure to the next attempt, for retrying only;
            `attempt` counts from 1.
    """

    name: str
    queue: str
    attempt: int
    node: str | None = None
    error: AttemptError | None = None
    delay: float | None = None

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Step:
        """From the map that a node sends."""
        error, delay_ms = told["error"], told["delay_ms"]
        return cls(
            name=told["name"],
            queue=told["queue"],
            attempt=told["attempt"],
            node=told["by"],
            error=None if error is None else AttemptError(*error[:3]),
            delay=None if delay_ms is None else delay_ms / 1000,
        )


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job as it was when a node answered.

    Shapes: `by` is the last node that took it, None before; `error` is that of the last failed
            attempt, `errors` those of all that are remembered. `progress` is what the job said
            last while it runs, None before that.
    Units:  moments are aware datetimes in UTC, None where it has not come that far; `attempt`
            counts from 1; `fence` grows with every start.
    """

    id: str
    state: State
    queue: str
    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    attempt: int
    retries: int
    retries_left: int
    lost: int
    fence: int
    enqueued_at: datetime.datetime | None
    run_at: datetime.datetime | None
    started_at: datetime.datetime | None
    completed_at: datetime.datetime | None
    by: str | None
    error: AttemptError | None
    errors: tuple[AttemptError, ...]
    progress: Any = None

    @classmethod
    def of(cls, told: Mapping[Any, Any]) -> JobStatus:
        """From the map that a node sends."""
        args, kwargs = _call(told["args"])
        errors = tuple(AttemptError(*each[:3]) for each in told["errors"])
        return cls(
            id=told["id"],
            state=State(told["state"]),
            queue=told["queue"],
            task=told["task"],
            args=args,
            kwargs=kwargs,
            attempt=told["attempt"],
            retries=told["retries"],
            retries_left=told["retries_left"],
            lost=told["lost"],
            fence=told["fence"],
            enqueued_at=_moment(told["enqueued_at"]),
            run_at=_moment(told["run_at"]),
            started_at=_moment(told["started_at"]),
            completed_at=_moment(told["completed_at"]),
            by=told["by"],
            error=None if told["error"] is None else AttemptError(*told["error"][:3]),
            errors=errors,
            progress=decoded(told.get("progress")),
        )


@dataclass(frozen=True, slots=True)
class Times:
    """Of many jobs: how many were measured, and how long they took, in milliseconds."""

    count: int = 0
    mean_ms: float = 0.0
    p50_ms: int = 0
    p95_ms: int = 0
    max_ms: int = 0


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One queue: its jobs by state, and what it has done since it came into being.

    Shapes: `waited` is from when a job could have started until it did, `ran` how long attempts
            took, whether they succeeded or failed.
    Units:  `latency_ms` is how long its oldest waiting job has waited; `per_second_1m` and `_5m`
            are jobs that ended, each second of the last 1 and 5 minutes.
    """

    name: str
    queued: int = 0
    running: int = 0
    scheduled: int = 0
    retry: int = 0
    failed: int = 0
    paused: bool = False
    latency_ms: int = 0
    enqueued_total: int = 0
    succeeded_total: int = 0
    failed_total: int = 0
    retried_total: int = 0
    cancelled_total: int = 0
    lost_total: int = 0
    waited: Times = Times()
    ran: Times = Times()
    per_second_1m: float = 0.0
    per_second_5m: float = 0.0

    @classmethod
    def of(cls, name: str, told: Mapping[str, Any]) -> QueueStats:
        """From the map that a node sends; what it adds in a later version is left out."""
        known = {key: told[key] for key in cls.__dataclass_fields__ if key in told}
        for key in ("waited", "ran"):
            times = told.get(key, {})
            parts = {part: times[part] for part in Times.__dataclass_fields__ if part in times}
            known[key] = Times(**parts)
        return cls(**{**known, "name": name})


def decoded(value: bytes | None) -> Any:
    """What a job said, if it said something."""
    return None if value is None else decode_value(value)


def _call(payload: bytes | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not payload:
        return (), {}  # of a job that ended, large arguments are not kept
    args, kwargs = decode_call(payload)
    return tuple(args), kwargs


def _moment(ms: int | None) -> datetime.datetime | None:
    if ms is None:
        return None
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return epoch + datetime.timedelta(milliseconds=ms)
