"""The tasks of this process by name: those at an import path, and those that are nowhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from exkiq.errors import SerializationError
from exkiq.machine.limits import TASK_CHARS_MAX
from exkiq.pool.loading import import_module
from exkiq.runnable import Runnable, walk
from exkiq.task import App

YOUNG_MAX = 1_000
"""Tasks without a path made between two looks at which of them jobs still need."""


class TaskTable:
    """What the slots of a household ask for tasks, as they ask an APP.

    A lambda has a number behind its name. A program may make a new one for each job, so they are
    forgotten again: at the second look after their last enqueue, unless a job still needs them.

    `needed` gives the names that jobs need; it is only called by `look`.
    """

    queues: tuple[str, ...] = ()

    def __init__(self, needed: Callable[[], set[str]]) -> None:
        self._needed = needed
        self._lock = threading.Lock()
        self._found: dict[str, Runnable] = {}  # at an import path
        self._young: dict[str, Runnable] = {}
        self._old: dict[str, Runnable] = {}
        self._names: dict[Runnable, str] = {}  # of the young and the old
        self._count = 0

    @property
    def is_look_due(self) -> bool:
        """Are there so many new ones that `look` should be called?"""
        return len(self._young) > max(YOUNG_MAX, len(self._old))

    def name_of(self, runnable: Runnable) -> str:
        """The name by which jobs find this task, from now on."""
        if _leads_back(runnable):
            self._found[runnable.name] = runnable
            return runnable.name
        with self._lock:
            name = self._names.get(runnable)
            if name is None:
                self._count += 1
                name = f"{runnable.name[: TASK_CHARS_MAX - 24]}#{self._count}"
                self._names[runnable] = name
            self._young[name] = runnable
            return name

    def has(self, name: str) -> bool:
        """Whether that is a task that cannot be imported."""
        return name in self._young or name in self._old

    def resolve(self, name: str) -> Runnable:
        """The task of that name. Errors: LookupError; what importing its module raises."""
        found = self._found.get(name) or self._young.get(name) or self._old.get(name)
        return replace(found or _imported(name), is_local=True)

    def look(self) -> None:
        """Forget the old ones that no job needs."""
        needed = self._needed()
        with self._lock:
            kept = {name: task for name, task in self._old.items() if name in needed}
            self._old, self._young = {**kept, **self._young}, {}
            self._names = {task: name for name, task in self._old.items()}


def check_outlives(runnable: Runnable, where: object) -> None:
    """SerializationError unless the same program finds this task again when it is started anew."""
    if not _leads_back(runnable):
        raise SerializationError(
            f"{runnable.name} cannot be kept in {where}: after a restart nothing leads to it;"
            " move it to the top of its module"
        )


def _imported(name: str) -> Runnable:
    """A task of a job from before a restart."""
    module = name.partition(":")[0]
    if module not in sys.modules:
        import_module(module, str(Path.cwd()))
    return App(()).resolve(name)


def _leads_back(runnable: Runnable) -> bool:
    module, _, qualname = runnable.path.partition(":")
    if "<" in qualname or len(runnable.name) > TASK_CHARS_MAX:
        return False
    try:
        return walk(sys.modules[module], qualname) is runnable.place
    except LookupError:
        return False
