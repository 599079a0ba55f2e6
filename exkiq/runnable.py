"""What a job runs: found by its path, made once for each slot, run, and judged when it fails."""

from __future__ import annotations

import datetime
import inspect
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exkiq.client import chance
from exkiq.declared import declared
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
from exkiq.options import Backoff, Options
from exkiq.pool.context import current_job
from exkiq.success_modes import SuccessMode

MAIN_MODULES = ("__main__", "__mp_main__")
NO_OPTIONS = Options()


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
    options: Options = NO_OPTIONS
    owner: type | None = None
    attribute: str = ""
    is_local: bool = False  # for a queue of one process: what is declared of others is not its own

    @classmethod
    def of_method(
        cls, owner: type, attribute: str, function: Callable[..., Any], options: Options
    ) -> Runnable:
        """A worker's method. Its `perform` goes by the name of the class alone."""
        path = f"{owner.__module__}:{owner.__qualname__}"
        name = path if attribute == "perform" else f"{path}.{attribute}"
        return cls(name, path, owner, function, options, owner, attribute)

    @classmethod
    def of_function(cls, function: Callable[..., Any], place: object, options: Options) -> Runnable:
        """A plain function, found at `place`, the object that stands for it."""
        path = f"{function.__module__}:{function.__qualname__}"
        return cls(path, path, place, function, options)

    @property
    def backoff(self) -> Backoff | None:
        """The rule of its class or function for what failed, where it has one."""
        return self.options.backoff

    def success_mode(self, queue: str) -> SuccessMode | None:
        """What is done about a success on this queue: the queue's mode before the class's."""
        mode = None if self.is_local else declared.success_mode(queue)
        return mode or self.options.success_mode

    @property
    def instance_key(self) -> Hashable:
        """Tasks with equal keys share the instance of a slot; functions have none."""
        return "" if self.owner is None else self.owner

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

    @property
    def failed_init(self) -> Callable[..., Any] | None:
        """The worker's hook behind an `init` that failed: failed_init(instance, error)."""
        return getattr(self.owner, "failed_init", None)

    @property
    def on_shutdown(self) -> Callable[..., Any] | None:
        """The worker's hook for a job that a drain stops: on_shutdown(instance)."""
        return getattr(self.owner, "on_shutdown", None)

    def fresh(self) -> Any:
        """What lives with the slot: an instance of the worker, or None."""
        return None if self.owner is None else self.owner()

    def initialise(self, instance: Any, queue: str = "") -> Any:
        """Run the worker's `init`, with the arguments of the pool that it belongs to.

        Shapes: an awaitable where `init` is async.
        """
        init = getattr(instance, "init", None)
        if init is None or self.owner is None:
            return None
        pool = declared.pool_of(self.owner, queue)
        state = init() if pool is None else init(*pool.init_args)
        if inspect.isawaitable(state):
            return _initialised_later(instance, state)
        instance.state = state
        return None

    def init_retry_ms(self, queue: str) -> int:
        """How long after an `init` that failed it is tried again."""
        pool = None if self.owner is None else declared.pool_of(self.owner, queue)
        return self.options.init_retry_ms if pool is None else pool.terms.init_retry_ms

    def make(self) -> Any:
        """An instance of the worker whose `init` has run, or None.

        Shapes: an awaitable of the instance where `init` is async.
        """
        instance = self.fresh()
        later = self.initialise(instance)
        return instance if later is None else _made_later(instance, later)

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
        job = _failed_job()
        rule = (None if self.is_local else declared.failure_mode(job.queue)) or self.backoff
        if rule is None:
            return decide_by_default(failures, retries, chance())
        if isinstance(rule, FailureMode):
            return check_decision(rule.decide(job, error, failures, chance()))
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


async def _initialised_later(instance: Any, state: Any) -> None:
    instance.state = await state


async def _made_later(instance: Any, later: Any) -> Any:
    await later
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
