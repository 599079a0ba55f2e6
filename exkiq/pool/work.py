"""What the pool asks of an APP, and the instances that run it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from exkiq.declarations import INIT_RETRY_MS
from exkiq.errors import JobError
from exkiq.pool.context import JobContext
from exkiq.success_modes import SuccessMode

if TYPE_CHECKING:
    from exkiq.pool.ability import Broken

# before(instance, job), after(instance, job, outcome); each may be `async def`.
Before = Callable[[Any, JobContext], object]
After = Callable[[Any, JobContext, object], object]


class Runnable(Protocol):
    """One task of an APP.

    Beside these it may have:
    `instance_key`, hashable: tasks with equal keys share the instance of a slot; else each task
    has its own;
    `fresh()` and `initialise(instance, queue)`, the two steps of making one, so that the second
    can be tried again, and `init_retry_ms(queue)`, how long after;
    the hooks `before`, `after`, `failed_init(instance, error)` and `on_shutdown(instance)`, each
    None or a function;
    `success_mode(queue)`, a mode or None.
    """

    @property
    def name(self) -> str: ...

    @property
    def is_async(self) -> bool: ...

    def make(self) -> Any:
        """A fresh instance for a slot; awaited if it is awaitable and the task is async."""

    def run(self, instance: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """The task's value, or an awaitable of it if `is_async`."""

    def decide(self, attempt: int, retries: int, error: BaseException) -> object:
        """A decision; `current_job()` is the job. `attempt` counts failures, this included."""


class App(Protocol):
    """What a loader returns."""

    @property
    def queues(self) -> tuple[str, ...]: ...

    def resolve(self, name: str) -> Runnable:
        """The task of that name. Errors: LookupError."""


# A program may make tasks without end: lambdas, for local queues.
WORKS_MAX = 10_000


class UnknownTask(JobError):
    """No task of this name in the APP of this node."""


class JobTimeout(JobError):
    """The attempt ran longer than the job's timeout."""


@dataclass(frozen=True, slots=True)
class Work:
    """A resolved task, with what it may leave out filled in."""

    runnable: Runnable
    is_async: bool
    key: Hashable
    before: Before | None
    after: After | None
    fresh: Callable[[], Any]
    initialise: Callable[[Any, str], object] | None
    init_retry_ms: Callable[[str], int]
    failed_init: Callable[[Any, BaseException], object] | None
    on_shutdown: Callable[[Any], object] | None
    _mode_of: Callable[[str], SuccessMode | None] | None
    _modes: dict[str, SuccessMode | None] = field(default_factory=dict)

    @classmethod
    def of(cls, runnable: Runnable) -> Work:
        return cls(
            runnable=runnable,
            is_async=runnable.is_async,
            key=getattr(runnable, "instance_key", runnable.name),
            before=getattr(runnable, "before", None),
            after=getattr(runnable, "after", None),
            fresh=getattr(runnable, "fresh", runnable.make),
            initialise=getattr(runnable, "initialise", None),
            init_retry_ms=getattr(runnable, "init_retry_ms", _init_retry_ms),
            failed_init=getattr(runnable, "failed_init", None),
            on_shutdown=getattr(runnable, "on_shutdown", None),
            _mode_of=getattr(runnable, "success_mode", None),
        )

    def success_mode(self, queue: str) -> SuccessMode | None:
        """What is done about a success on this queue; asked of the task once a queue."""
        if self._mode_of is None:
            return None
        if queue not in self._modes:
            self._modes[queue] = self._mode_of(queue)
        return self._modes[queue]


def _init_retry_ms(queue: str) -> int:  # noqa: ARG001 - the same for all
    return INIT_RETRY_MS


class Catalog:
    """The APP's tasks by name, each resolved once."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._works: dict[str, Work] = {}

    def find(self, name: str) -> Work:
        """Errors: UnknownTask, or whatever the APP raises."""
        work = self._works.get(name)
        if work is None:
            if len(self._works) >= WORKS_MAX:
                self._works.clear()
            work = self._works[name] = Work.of(self._resolve(name))
        return work

    def names_of(self, key: Hashable) -> list[str]:
        """The tasks that share an instance, as far as they were asked for."""
        return [name for name, work in list(self._works.items()) if work.key == key]

    def _resolve(self, name: str) -> Runnable:
        try:
            return self._app.resolve(name)
        except LookupError:
            raise UnknownTask(f"no task is called {name!r} in this node's APP") from None


class Slot:
    """A place for one job at a time, with the instances made for it, one a key.

    `broken` are those that could not be initialised.
    """

    __slots__ = ("broken", "instances", "name")

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.instances: dict[Hashable, Any] = {}
        self.broken: dict[Hashable, Broken] = {}
