"""What a node tells about jobs and queues, as values with types."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from exkiq.machine import State
from exkiq.wire.codec import decode_call


class AttemptError(NamedTuple):
    """The error of one attempt, as text: its class may not exist here."""

    type: str
    message: str
    traceback: str


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job as it was when a node answered.

    Shapes: `by` is the last node that took it, None before; `error` is that of the last failed
            attempt, `errors` those of all that are remembered.
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

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> JobStatus:
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
        )


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Jobs of one queue by state. `latency_ms` is how long its oldest waiting job has waited."""

    name: str
    queued: int = 0
    running: int = 0
    scheduled: int = 0
    retry: int = 0
    failed: int = 0
    paused: bool = False
    latency_ms: int = 0

    @classmethod
    def of(cls, name: str, told: Mapping[str, Any]) -> QueueStats:
        """From the map that a node sends; what it adds in a later version is left out."""
        known = {key: told[key] for key in cls.__dataclass_fields__ if key in told}
        return cls(**{**known, "name": name})


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
