"""What a job runs: found by its path, made once for each slot, run, and judged when it fails."""

from __future__ import annotations

import datetime
import inspect
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exkiq.client import chance
from exkiq.errors import SerializationError
from exkiq.failure_modes import (
    Decision,
    FailedJob,
    FailureMode,
    check_decision,
    decide_by_default,
)
from exkiq.failure_modes.decision import retry_after
from exkiq.machine.limits import TASK_CHARS_MAX
from exkiq.options import Backoff
from exkiq.pool.context import current_job

MAIN_MODULES = ("__main__", "__mp_main__")


@dataclass(frozen=True, slots=True, eq=False)
class Runnable:
    """One function that jobs run: a worker's method, or a plain function.

    `owner` is the worker class of a method, None for a function; `place` is the object that
    `path`, the front of its name, must lead back to.
    """

    name: str
    path: str
    place: object
    function: Callable[..., Any]
    backoff: Backoff | None = None
    owner: type | None = None
    attribute: str = ""

    @classmethod
    def of_method(
        cls, owner: type, attribute: str, function: Callable[..., Any], backoff: Backoff | None
    ) -> Runnable:
        """A worker's method. Its `perform` goes by the name of the class alone."""
        path = f"{owner.__module__}:{owner.__qualname__}"
        name = path if attribute == "perform" else f"{path}.{attribute}"
        return cls(name, path, owner, function, backoff, owner, attribute)

    @classmethod
    def of_function(
        cls, function: Callable[..., Any], place: object, backoff: Backoff | None
    ) -> Runnable:
        """A plain function, found at `place`, the object that stands for it."""
        path = f"{function.__module__}:{function.__qualname__}"
        return cls(path, path, place, function, backoff)

    @property
    def instance_key(self) -> Hashable:
        """Tasks with equal keys share the instance of a slot."""
        return self.name if self.owner is None else self.owner

    @property
    def before(self) -> Callable[..., Any] | None:
        """The worker's hook ahead of every attempt: before(instance, job)."""
        return getattr(self.owner, "before", None)

    @property
    def after(self) -> Callable[..., Any] | None:
        """The worker's hook behind every attempt: after(instance, job, outcome)."""
        return getattr(self.owner, "after", None)

    @property
    def parameters(self) -> Sequence[str]:
        """Names of the positional parameters, for errors about arguments."""
        code = getattr(self.function, "__code__", None)
        if code is None:
            return ()
        names: tuple[str, ...] = code.co_varnames[: code.co_argcount]
        return names if self.owner is None else names[1:]

    @property
    def is_async(self) -> bool:
        """Whether it belongs on a child's loop rather than in a thread."""
        return inspect.iscoroutinefunction(self.function)

    def make(self) -> Any:
        """What lives with the slot: an instance of the worker whose `init` has run, or None.

        Shapes: an awaitable of the instance where `init` is async.
        """
        if self.owner is None:
            return None
        instance = self.owner()
        init = getattr(instance, "init", None)
        state = None if init is None else init()
        if inspect.isawaitable(state):
            return _made_later(instance, state)
        instance.state = state
        return instance

    def run(self, instance: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call it; an awaitable comes back from an async one."""
        if self.owner is None:
            return self.function(*args, **kwargs)
        return getattr(instance, self.attribute)(*args, **kwargs)

    def decide(self, failures: int, retries: int, error: BaseException) -> Decision:
        """What becomes of the job that failed with `error`; called in the job's context.

        Units:  failures counts from 1, this one included.
        Errors: whatever the user's rule raises, or TypeError or ValueError for what it returns.
        """
        rule = self.backoff
        if rule is None:
            return decide_by_default(failures, retries, chance())
        if isinstance(rule, FailureMode):
            return check_decision(rule.decide(_failed_job(), error, failures, chance()))
        if failures > retries:
            return ["failed"]
        wait = rule(failures, error) if callable(rule) else rule
        if isinstance(wait, datetime.timedelta):
            wait = wait.total_seconds()
        return ["failed"] if wait is None else retry_after(wait)

    def check_path(self) -> None:
        """SerializationError that names it, unless a node that imports its path finds it."""
        reason = _why_not(self.path, self.place)
        if len(self.name) > TASK_CHARS_MAX:
            reason = f"its path is longer than {TASK_CHARS_MAX} characters"
        if reason is not None:
            raise SerializationError(f"{self.name} cannot be sent: {reason}")


async def _made_later(instance: Any, state: Any) -> Any:
    instance.state = await state
    return instance


@dataclass(frozen=True, slots=True)
class _Anonymous:
    """Stands for the job where there is no context to ask."""

    id: str = ""
    queue: str = ""


def _failed_job() -> FailedJob:
    return current_job() or _Anonymous()


def _why_not(path: str, place: object) -> str | None:
    module, _, qualname = path.partition(":")
    if module in MAIN_MODULES:
        return "no node can import __main__; move it to a module of its own"
    if "<" in qualname:
        return "it is defined inside a function; move it to the top of its module"
    try:
        found = walk(sys.modules[module], qualname)
    except LookupError:
        return f"{path} leads nowhere"
    return None if found is place else f"{path} leads to something else"


def walk(module: object, qualname: str) -> Any:
    """The object at a dotted path in a module; LookupError naming what lacks."""
    found = module
    for part in qualname.split("."):
        if not hasattr(found, part):
            raise LookupError(f"there is no {qualname} in {module!r}")
        found = getattr(found, part)
    return found
