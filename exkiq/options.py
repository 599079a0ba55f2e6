"""What can be said about a job besides its arguments, and what is refused before it is sent.

    Options   of a worker class or task function: where its jobs go and how long they are tried
    Wish      of one call: when, under which id, and what to do if that id is taken

Each option is checked once, where it is written; `given` names it and shows the value.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from exkiq.asked import Place
from exkiq.config.plugins import load_plugin
from exkiq.declarations import INIT_RETRY_MS
from exkiq.failure_modes import FailureMode
from exkiq.machine import limits
from exkiq.success_modes import SuccessMode

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

Seconds = float | datetime.timedelta

# The wait before the next run, a rule (failures, error) -> wait, or the whole rule.
Backoff = Seconds | Callable[[int, BaseException], Seconds | None] | FailureMode

# Where a job runs: in a thread or on the loop of a child that others use too, or in one of its
# own.
ISOLATIONS = ("thread", "process")

UNITS = ("weeks", "days", "hours", "minutes", "seconds", "milliseconds")


class ClassOptions(TypedDict, total=False):
    """The keywords of a class statement and of `@task`."""

    queue: str | Place
    retries: int
    result_ttl: Seconds
    max_lost: int
    timeout: Seconds | None
    priority: int
    backoff: Backoff | None
    isolation: str
    init_retry_seconds: Seconds
    success_mode: object


class CallOptions(TypedDict, total=False):
    """The keywords of `set()`."""

    queue: str | Place
    retries: int
    priority: int
    delay: Seconds
    id: str
    unique: str | None
    result_ttl: Seconds
    timeout: Seconds | None


@dataclass(frozen=True, slots=True)
class Options:
    """Of a class or function. Times in milliseconds; a timeout of 0 is none.

    `has_own_rule` where retries or backoff were written, which a failure mode of the queue sets
    aside.
    """

    queue: str | Place = "default"
    retries: int = 5
    result_ttl_ms: int = 600_000
    max_lost: int = 3
    timeout_ms: int = 0
    priority: int = 0
    backoff: Backoff | None = None
    isolation: str = "thread"
    init_retry_ms: int = INIT_RETRY_MS
    success_mode: SuccessMode | None = None
    has_own_rule: bool = False

    def given(self, owner: str, changes: Mapping[str, Any]) -> Options:
        """These with the changes; TypeError for an unknown keyword, ValueError for a bad value."""
        refuse_unknown(owner, changes, ClassOptions.__annotations__)
        return self.replaced(changes)

    def replaced(self, changes: Mapping[str, Any]) -> Options:
        """These with the changes that are theirs; ValueError for a bad value."""
        replaced = _replaced(self, changes)
        mode, queue = replaced.backoff, replaced.queue
        if isinstance(mode, FailureMode) and isinstance(queue, str) and mode.can_move_to(queue):
            raise ValueError(f"backoff: {mode!r} would move a job to the queue it is in")
        if "retries" not in changes and "backoff" not in changes:
            return replaced
        return dataclasses.replace(replaced, has_own_rule=True)


@dataclass(frozen=True, slots=True)
class Wish:
    """Of one call. `run_at_ms` above 0 is an absolute time and wins over `delay_ms`."""

    delay_ms: int = 0
    run_at_ms: int = 0
    id: str | None = None
    is_unique: bool = False

    def replaced(self, changes: Mapping[str, Any]) -> Wish:
        """This with the changes that are its own; ValueError for a bad value."""
        return _replaced(self, changes)


def refuse_unknown(owner: str, changes: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """TypeError that names the first keyword which is no option, and those that are."""
    for name in changes:
        if name not in known:
            raise TypeError(f"{owner}: unknown option {name!r}; there are {', '.join(known)}")


def check_queue_name(value: object) -> str:
    """The value, if a queue can be called that; else ValueError."""
    if not isinstance(value, str) or not value.isprintable() or value != value.strip():
        raise ValueError(f"queue must be a printable name, not {value!r}")
    if value in limits.RESERVED_QUEUE_NAMES:
        raise ValueError(f"queue must not be the name of a state or count, as {value!r} is")
    if not 1 <= len(value.encode()) <= limits.QUEUE_NAME_BYTES_MAX:
        raise ValueError(f"queue must have 1 to {limits.QUEUE_NAME_BYTES_MAX} bytes, not {value!r}")
    return value


def check_queue(value: object) -> str | Place:
    """The value, if it is the name of a queue, or a queue of another kind; else ValueError."""
    if isinstance(value, Place):
        value.declare()
        return value
    if not isinstance(value, str):
        raise ValueError(f"queue must be a printable name, or a Local('name'), not {value!r}")  # noqa: TRY004
    return check_queue_name(value)


def check_id(value: object) -> str:
    """The value, if a job can be called that; else ValueError."""
    if not isinstance(value, str) or not 1 <= len(value) <= limits.ID_CHARS_MAX:
        raise ValueError(
            f"id must be a str of 1 to {limits.ID_CHARS_MAX} characters, not {value!r}"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"id must be text that UTF-8 can carry, not {value!r}") from error
    return value


def check_duration(name: str, value: object, most_ms: int = limits.DELAY_MS_MAX) -> int:
    """Seconds or a timedelta, 0 or more, as milliseconds rounded up; else ValueError."""
    if isinstance(value, datetime.timedelta):
        ms = milliseconds(value)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be seconds or a timedelta, not {value!r}")  # noqa: TRY004
    elif not math.isfinite(value):
        raise ValueError(f"{name} must be finite, not {value!r}")
    else:
        ms = math.ceil(value * 1000)
    if ms < 0:
        raise ValueError(f"{name} must be 0 or more, not {value!r}")
    if ms > most_ms:
        raise ValueError(f"{name} must be at most {most_ms // limits.DAY_MS} days, not {value!r}")
    return ms


def check_wait(value: object) -> float | None:
    """The `timeout` of a call or a result: None, or seconds from 0 on; else ValueError."""
    return None if value is None else check_duration("timeout", value) / 1000


def milliseconds(duration: datetime.timedelta) -> int:
    """Rounded up, so that nothing is early."""
    return -(-duration // datetime.timedelta(microseconds=1000))


def take_delay(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, tuple[Any, ...]]:
    """The wait of `perform_in` in milliseconds, and the job's own positional arguments.

    Takes the unit keywords out of `kwargs`.
    """
    units = {name: kwargs.pop(name) for name in UNITS if name in kwargs}
    if units:
        return check_duration("perform_in", _sum(units)), args
    if args and isinstance(args[0], datetime.timedelta):
        return check_duration("perform_in", args[0]), args[1:]
    raise TypeError(
        "perform_in needs a unit: perform_in(minutes=10), or a timedelta as first argument;"
        f" units are {', '.join(UNITS)}"
    )


def _sum(units: Mapping[str, Any]) -> datetime.timedelta:
    for name, value in units.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(
                f"perform_in: {name} must be a number, not {value!r}; write perform_in(minutes=10)"
            )
    try:
        return datetime.timedelta(**units)
    except (OverflowError, ValueError) as error:
        raise ValueError(f"perform_in: no such duration: {units}") from error


def check_moment(value: object) -> int:
    """An aware datetime as milliseconds since 1970, at least 1."""
    if not isinstance(value, datetime.datetime):
        raise TypeError(f"perform_at needs a datetime, not {value!r}")
    if value.utcoffset() is None:
        raise ValueError(
            f"perform_at needs an aware datetime, {value!r} has no time zone;"
            " write datetime(..., tzinfo=timezone.utc)"
        )
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return max(1, milliseconds(value - epoch))  # what lies before 1970 is due as well


def _check_int(name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} must be an int from {least} to {most}, not {value!r}")
    return value


def _timeout(value: object) -> int:
    if value is None:
        return 0
    ms = check_duration("timeout", value, limits.TIMEOUT_MS_MAX)
    if ms == 0:
        raise ValueError("timeout must be more than 0 seconds, or None for no limit")
    return ms


def _backoff(value: object) -> object:
    if isinstance(value, int | float | datetime.timedelta) and not isinstance(value, bool):
        check_duration("backoff", value)
    elif isinstance(value, type) and issubclass(value, FailureMode):
        raise ValueError(f"backoff must be an instance: {value.__name__}(...)")  # noqa: TRY004
    elif isinstance(value, type) or not (
        value is None or isinstance(value, FailureMode) or callable(value)
    ):
        raise ValueError(f"backoff must be seconds, a callable or a FailureMode, not {value!r}")
    return value


def _isolation(value: object) -> str:
    if value not in ISOLATIONS:
        raise ValueError(f"isolation must be {' or '.join(map(repr, ISOLATIONS))}, not {value!r}")
    return str(value)


def _success_mode(value: object) -> SuccessMode | None:
    if value is None:
        return None
    return load_plugin("success_mode", value, SuccessMode)  # type: ignore[type-abstract]


def _is_unique(value: object) -> bool:
    if value not in (None, "error"):
        raise ValueError(f"unique must be 'error' or None, not {value!r}")
    return value is not None


# option -> (the field it sets, the check that gives the field's value)
_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "queue": ("queue", check_queue),
    "retries": ("retries", lambda value: _check_int("retries", value, 0, limits.RETRIES_MAX)),
    "result_ttl": (
        "result_ttl_ms",
        lambda value: check_duration("result_ttl", value, limits.RESULT_TTL_MS_MAX),
    ),
    "max_lost": ("max_lost", lambda value: _check_int("max_lost", value, 0, limits.LOST_MAX)),
    "timeout": ("timeout_ms", _timeout),
    "priority": (
        "priority",
        lambda value: _check_int("priority", value, -limits.PRIORITY_MAX, limits.PRIORITY_MAX),
    ),
    "backoff": ("backoff", _backoff),
    "isolation": ("isolation", _isolation),
    "init_retry_seconds": (
        "init_retry_ms",
        lambda value: check_duration("init_retry_seconds", value, limits.TIMEOUT_MS_MAX),
    ),
    "success_mode": ("success_mode", _success_mode),
    "delay": ("delay_ms", lambda value: check_duration("delay", value)),
    "id": ("id", check_id),
    "unique": ("is_unique", _is_unique),
}


def _replaced(target: T, changes: Mapping[str, Any]) -> T:
    own = {field.name for field in dataclasses.fields(target)}
    checked = [(*_FIELDS[name], value) for name, value in changes.items()]
    return dataclasses.replace(
        target, **{field: check(value) for field, check, value in checked if field in own}
    )
