"""What an APP declares of its queues and pools while it is imported.

`exkiq.queue(name, weight=3)` and `exkiq.pool(queue, Worker)` fill `declared`; what of it the
node has to know goes there as `Declarations`, while the modes stay in the process that asks them.
Everything is checked before it is kept: a declaration that is refused leaves no trace.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any, TypedDict, TypeVar

from exkiq.config.plugins import Row, load_plugin, row_of, shown
from exkiq.declarations import (
    DECLARED_MAX,
    REPLICATED,
    WARNINGS_MAX,
    Declarations,
    PoolTerms,
    QueueTerms,
    check_paused,
    check_weight,
)
from exkiq.dispatchers import Dispatcher
from exkiq.errors import AlreadyStarted, ConfigError, UnsupportedOperation
from exkiq.failure_modes import FailureMode
from exkiq.queues.backend import Queue
from exkiq.success_modes import SuccessMode

T = TypeVar("T")

__all__ = ["Declarations", "Declared", "DeclaredPool", "DeclaredQueue", "QueueOptions", "declared"]


class QueueOptions(TypedDict, total=False):
    """The keywords of `exkiq.queue` that declare one."""

    backend: object
    dispatcher: object
    failure_mode: object
    success_mode: object
    weight: int
    paused: bool


@dataclass(frozen=True, slots=True)
class DeclaredQueue:
    """A declared queue, with its modes. `given` is what was written, to show."""

    terms: QueueTerms
    given: Mapping[str, Any]
    failure_mode: FailureMode | None = None
    success_mode: SuccessMode | None = None

    def __str__(self) -> str:
        return ", ".join(f"{name}={shown(value)}" for name, value in self.given.items())

    @property
    def effect(self) -> tuple[object, ...]:
        """What it comes to, in whatever way it was written."""
        terms = replace(self.terms, failure_mode="", success_mode="")  # an address may be in them
        return terms, self.failure_mode, self.success_mode


@dataclass(frozen=True, slots=True)
class DeclaredPool:
    """A declared pool, with what its workers are made from."""

    worker: type
    init_args: tuple[Any, ...]
    terms: PoolTerms

    def __str__(self) -> str:
        terms = self.terms
        return (
            f"{self.worker.__qualname__}, init_args={shown(self.init_args)}, slots={terms.slots},"
            f" init_retry_seconds={terms.init_retry_ms / 1000:g},"
            f" shutdown={terms.shutdown_ms / 1000:g}"
        )


class Declared:
    """The declarations of one process. Safe in threads: modules may be imported in any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.queues: Mapping[str, DeclaredQueue] = MappingProxyType({})
        self.pools: Mapping[str, DeclaredPool] = MappingProxyType({})

    def queue(self, name: str, given: Mapping[str, Any]) -> None:
        """Declare a queue, whose name is checked already.

        Errors: TypeError for an unknown option, ValueError for a bad value, AlreadyStarted for
                a second declaration that says something else.
        """
        made = _declared_queue(name, given)
        with self._lock:
            before = self.queues.get(name)
            if before is not None and not _alike(before.effect, made.effect):
                raise AlreadyStarted(f"queue {name!r} is declared already: {before}; now: {made}")
            self.queues = _with(self.queues, name, made)

    def pool(self, queue: str, made: DeclaredPool) -> None:
        """Declare a pool; AlreadyStarted for a second one of the queue that differs."""
        with self._lock:
            before = self.pools.get(queue)
            if before is not None and not _alike(before, made):
                raise AlreadyStarted(
                    f"the pool of queue {queue!r} is declared already: {before}; now: {made}"
                )
            self.pools = _with(self.pools, queue, made)

    def override(self, table: Mapping[str, Mapping[str, Any]]) -> None:
        """Put what the settings say of a queue in place of what was declared.

        Errors: ConfigError with every part that cannot be made, all at once; nothing is changed.
        """
        faults: list[str] = []
        queues = dict(self.queues)
        for name, given in table.items():
            faults += _faults_of(name, given)
        if faults:
            raise ConfigError(*faults)
        for name, given in table.items():
            before = queues.get(name)
            kept = {} if before is None else before.given
            queues[name] = _declared_queue(name, {**kept, **given})
        with self._lock:
            self.queues = MappingProxyType(queues)

    def failure_mode(self, queue: str) -> FailureMode | None:
        """The one declared for the queue."""
        found = self.queues.get(queue)
        return None if found is None else found.failure_mode

    def success_mode(self, queue: str) -> SuccessMode | None:
        """The one declared for the queue."""
        found = self.queues.get(queue)
        return None if found is None else found.success_mode

    def pool_of(self, worker: type, queue: str) -> DeclaredPool | None:
        """The pool by whose terms a worker is made: that of the queue, else any of the class."""
        found = self.pools.get(queue)
        if found is not None and found.worker is worker:
            return found
        return next((pool for pool in self.pools.values() if pool.worker is worker), None)

    def told(self, warnings: Sequence[str] = ()) -> Declarations:
        """What the node is told."""
        return Declarations(
            {name: queue.terms for name, queue in self.queues.items()},
            {queue: pool.terms for queue, pool in self.pools.items()},
            tuple(warnings[:WARNINGS_MAX]),
        )

    def forget(self) -> None:
        """Start anew, as tests do."""
        with self._lock:
            self.queues, self.pools = MappingProxyType({}), MappingProxyType({})


declared = Declared()
"""Of this process."""


def _with(kept: Mapping[str, T], name: str, made: T) -> Mapping[str, T]:
    if len(kept) >= DECLARED_MAX and name not in kept:
        raise ValueError(f"queue {name!r}: {DECLARED_MAX} are declared, the limit of an APP")
    return MappingProxyType({**kept, name: made})


# --- one queue -------------------------------------------------------------------------------


def _declared_queue(name: str, given: Mapping[str, Any], where: str = "") -> DeclaredQueue:
    known = QueueOptions.__annotations__
    for option in given:
        if option not in known:
            raise TypeError(
                f"queue {name!r}: unknown option {option!r}; there are {', '.join(known)}"
            )
    failure_mode = success_mode = None
    if given.get("failure_mode") is not None:
        mode = given["failure_mode"]
        failure_mode = load_plugin(f"{where}failure_mode", mode, FailureMode)  # type: ignore[type-abstract]
        if failure_mode.can_move_to(name):
            told = shown(failure_mode)
            raise ConfigError(f"{where}failure_mode: {told} would move a job to the queue it is in")
    if given.get("success_mode") is not None:
        mode = given["success_mode"]
        success_mode = load_plugin(f"{where}success_mode", mode, SuccessMode)  # type: ignore[type-abstract]
    terms = QueueTerms(
        check_weight(given.get("weight", 1)),
        check_paused(given.get("paused", False)),
        _dispatcher(f"{where}dispatcher", given.get("dispatcher")),
        _backend(name, given.get("backend")),
        "" if failure_mode is None else shown(failure_mode),
        "" if success_mode is None else shown(success_mode),
    )
    return DeclaredQueue(terms, dict(given), failure_mode, success_mode)


def _faults_of(name: str, given: Mapping[str, Any]) -> list[str]:
    """Of each option by itself, so that one does not hide another."""
    faults: list[str] = []
    for option, value in given.items():
        try:
            _declared_queue(name, {option: value}, f"queues.{name}.")
        except ConfigError as error:
            faults += error.faults
    return faults


def _dispatcher(what: str, given: object) -> Row | None:
    if given is None:
        return None
    load_plugin(what, given, Dispatcher)  # type: ignore[type-abstract]
    return row_of(what, given)


def _backend(name: str, given: object) -> str:
    if given is None or (isinstance(given, str) and given == REPLICATED):
        return REPLICATED
    made = load_plugin("backend", given, Queue)  # type: ignore[type-abstract]
    raise UnsupportedOperation(
        f"backend: nodes do not serve a queue of kind {shown(made)}, as {name!r} would be; leave"
        " it out for the replicated one, or give a Local where the queue's name is"
    )


def _alike(one: object, other: object) -> bool:
    """Whether two things were written alike: a module may be imported twice."""
    if one == other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if _path(one) != _path(other):
        return False
    mine, others = _state(one), _state(other)
    return mine is not None and _alike(mine, others)


def _path(thing: object) -> tuple[str, str]:
    """Of a class or a function its own, of anything else that of its class."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return str(named.__module__), str(named.__qualname__)


def _state(thing: object) -> dict[str, Any] | None:
    """What tells two of one class apart; None if that cannot be known."""
    if isinstance(thing, type):
        return {}
    if hasattr(thing, "__code__"):
        return {"code": thing.__code__}
    if is_dataclass(thing):
        return {each.name: getattr(thing, each.name) for each in fields(thing)}
    return dict(vars(thing)) if hasattr(thing, "__dict__") else None
