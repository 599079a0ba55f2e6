"""What the pool asks of an APP, and the instances that run it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol

from exkiq.errors import JobError
from exkiq.pool.context import JobContext

# before(instance, job), after(instance, job, outcome); each may be `async def`.
Before = Callable[[Any, JobContext], object]
After = Callable[[Any, JobContext, object], object]


class Runnable(Protocol):
    """One task of an APP.

    Beside these it may have: `instance_key`, hashable (tasks with equal keys share the instance
    of a slot; else each task has its own), and the hooks `before` and `after`, each None or a
    function as above.
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

    @classmethod
    def of(cls, runnable: Runnable) -> Work:
        return cls(
            runnable=runnable,
            is_async=runnable.is_async,
            key=getattr(runnable, "instance_key", runnable.name),
            before=getattr(runnable, "before", None),
            after=getattr(runnable, "after", None),
        )


class Catalog:
    """The APP's tasks by name, each resolved once."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._works: dict[str, Work] = {}

    def find(self, name: str) -> Work:
        """Errors: UnknownTask, or whatever the APP raises."""
        work = self._works.get(name)
        if work is None:
            work = self._works[name] = Work.of(self._resolve(name))
        return work

    def _resolve(self, name: str) -> Runnable:
        try:
            return self._app.resolve(name)
        except LookupError:
            raise UnknownTask(f"no task is called {name!r} in this node's APP") from None


class Slot:
    """A place for one job at a time, with the instances made for it, one a key."""

    __slots__ = ("instances",)

    def __init__(self) -> None:
        self.instances: dict[Hashable, Any] = {}
