"""`@task`: functions as jobs, and methods of a worker; and how a node finds them by name."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import MethodType, ModuleType
from typing import Any, Concatenate, ParamSpec, Unpack, overload

from exkiq.config.plugins import shown
from exkiq.declarations import TASKS_MAX, Declarations
from exkiq.declared import declared
from exkiq.errors import ConfigError
from exkiq.handle import Handle
from exkiq.options import ClassOptions, Options
from exkiq.pool.loading import import_module
from exkiq.runnable import Runnable, walk
from exkiq.worker import Worker, handle_of

P = ParamSpec("P")
Q = ParamSpec("Q")


class Task(Handle[P]):
    """A function that can be enqueued, and still be called as it is.

    Above a method of a worker it gives the class a handle: `Riak.get.perform_async(...)`.
    """

    def __init__(self, function: Callable[P, Any], changes: ClassOptions) -> None:
        if not inspect.isfunction(function):
            raise TypeError(f"@task belongs above a function, not {function!r}")
        options = Options().given(f"@task {function.__qualname__}", changes)
        super().__init__(Runnable.of_function(function, self, options), options)
        functools.update_wrapper(self, function)
        self._function = function
        self._changes = changes
        self._handles: dict[type, Handle[Any]] = {}

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the function itself."""
        return self._function(*args, **kwargs)

    def __set_name__(self, owner: type, name: str) -> None:
        if not issubclass(owner, Worker):
            raise TypeError(f"@task belongs above a method of a Worker, {owner!r} is none")
        self._attribute = name

    @overload
    def __get__(self: Task[Concatenate[Any, Q]], instance: None, owner: type) -> Handle[Q]: ...
    @overload
    def __get__(
        self: Task[Concatenate[Any, Q]], instance: object, owner: type
    ) -> Callable[Q, Any]: ...
    def __get__(self, instance: object, owner: type) -> Any:
        if instance is not None:
            return MethodType(self._function, instance)
        if owner not in self._handles:
            self._handles[owner] = self._handle_in(owner)
        return self._handles[owner]

    def _handle_in(self, owner: Any) -> Handle[Any]:
        """A subclass enqueues under its own name, with its own options."""
        options = owner.exkiq_options.replaced(self._changes)
        runnable = Runnable.of_method(owner, self._attribute, self._function, options)
        return Handle(runnable, options)


@overload
def task(function: Callable[P, Any], /) -> Task[P]: ...
@overload
def task(**options: Unpack[ClassOptions]) -> Callable[[Callable[P, Any]], Task[P]]: ...
def task(function: Any = None, /, **options: Unpack[ClassOptions]) -> Any:
    """Make a function, or a method of a worker, something to enqueue.

        @exkiq.task(queue="emails", retries=5)
        def send(to, subject): ...

        send.perform_async("a@example.org", "hello")

    Options are those of a worker class; a method has those of its class unless it says other.
    """
    if function is not None:
        return Task(function, options)
    return lambda function: Task(function, options)


class App:
    """The tasks of some modules, as a pool asks for them.

    Also found are those of other modules in the same packages, and of modules that these
    import; what else is installed here is not to be run because somebody names it.
    """

    def __init__(self, modules: Sequence[ModuleType]) -> None:
        self._packages = {module.__name__.partition(".")[0] for module in modules}
        found = [handle for module in modules for handle in _handles_around(module)]
        self._handles = list(dict.fromkeys(found))
        of_log = [handle.queue for handle in found if handle.place is None]
        self.queues: tuple[str, ...] = tuple(dict.fromkeys(of_log))

    @property
    def has_tasks(self) -> bool:
        """Whether there is any, if only for local queues."""
        return bool(self._handles)

    @property
    def declarations(self) -> Declarations:
        """What its modules have and declared of their queues and pools, for the node."""
        names = sorted(handle.runnable.name for handle in self._handles)
        told = declared.told([*_set_aside(self._handles)])
        places = (handle.place for handle in self._handles)
        local = dict.fromkeys((place.name, place.node or "") for place in places if place)
        return replace(told, tasks=tuple(names[:TASKS_MAX]), local_queues=tuple(local))

    def resolve(self, name: str) -> Runnable:
        """The task of that name. Errors: LookupError; what importing its module raises."""
        module, _, path = name.partition(":")
        found = walk(self._module(module), path.removesuffix(".perform"))
        if isinstance(found, Handle):
            return found.runnable
        if _is_worker(found) and hasattr(found, "perform"):
            return handle_of(found).runnable
        raise LookupError(f"{name} is neither a worker nor a task")

    def _module(self, name: str) -> ModuleType:
        if name not in sys.modules and name.partition(".")[0] in self._packages:
            try:
                return importlib.import_module(name)
            except ModuleNotFoundError as error:
                raise LookupError(f"{name} cannot be imported: {error}") from error
        if name not in sys.modules:
            raise LookupError(f"{name} belongs to none of {', '.join(sorted(self._packages))}")
        return sys.modules[name]


def load_app(modules: Sequence[str]) -> App:
    """Import the modules that define workers.

    Errors: ConfigError with each module that cannot be imported or defines none.
    """
    loaded: list[ModuleType] = []
    faults: list[str] = []
    for name in modules:
        try:
            loaded.append(_load(name))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(*faults)
    return App(loaded)


def _load(name: str) -> ModuleType:
    module = import_module(name, os.getcwd())  # noqa: PTH109 - plain text for an error
    if next(_handles_around(module), None) is None:
        raise ConfigError(f"{name!r} defines no worker and no task")
    return module


def _handles_around(module: ModuleType) -> Iterator[Handle[Any]]:
    """Of what the module and those below it define, or have imported by name."""
    below = module.__name__ + "."
    around = [each for name, each in list(sys.modules.items()) if name.startswith(below)]
    for each in [module, *around]:
        for thing in list(vars(each).values()):
            yield from _handles_in(thing)


def _handles_in(thing: object) -> Iterator[Handle[Any]]:
    if isinstance(thing, Handle):
        yield thing
    elif _is_worker(thing):
        if hasattr(thing, "perform"):
            yield handle_of(thing)
        for name in dir(thing):
            method = inspect.getattr_static(thing, name)
            if isinstance(method, Task):
                yield getattr(thing, name)


def _set_aside(handles: Sequence[Handle[Any]]) -> Iterator[str]:
    """A line for each whose own rule for what failed never counts."""
    for handle in handles:
        mode = None if handle.place is not None else declared.failure_mode(handle.queue)
        if mode is not None and handle.runnable.options.has_own_rule:
            yield (
                f"queue {handle.queue!r} has the failure mode {shown(mode)}, which wins over"
                f" retries and backoff of {handle.runnable.name}"
            )


def _is_worker(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, Worker) and thing is not Worker
