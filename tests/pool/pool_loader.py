"""A loader for the tests: an APP is a module with TASKS and QUEUES."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from exkiq.failure_modes import decide_by_default


@dataclass
class TestTask:
    """One function as a task; `make`, `decide` and the hooks can be given."""

    __test__ = False

    name: str
    run_it: Callable[..., Any]
    is_async: bool = False
    make: Callable[[], Any] = lambda: None
    decide_it: Callable[[int, int, BaseException], Any] | None = None
    before: Callable[..., Any] | None = None
    after: Callable[..., Any] | None = None
    initialise: Callable[[Any, str], Any] | None = None
    failed_init: Callable[..., Any] | None = None
    on_shutdown: Callable[..., Any] | None = None
    success_mode: Callable[[str], Any] | None = None
    retry_ms: int = 5_000

    def run(self, instance: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if instance is not None:
            return self.run_it(instance, *args, **kwargs)
        return self.run_it(*args, **kwargs)

    def init_retry_ms(self, queue: str) -> int:
        return self.retry_ms

    def decide(self, attempt: int, retries: int, error: BaseException) -> Any:
        if self.decide_it is not None:
            return self.decide_it(attempt, retries, error)
        return decide_by_default(attempt, retries, 0.0)


@dataclass
class TestApp:
    __test__ = False

    queues: tuple[str, ...]
    tasks: dict[str, TestTask]

    def resolve(self, name: str) -> TestTask:
        return self.tasks[name]


def load_app(modules: Sequence[str]) -> TestApp:
    queues: list[str] = []
    tasks: dict[str, TestTask] = {}
    for name in modules:
        module = importlib.import_module(name)
        queues += getattr(module, "QUEUES", ())
        tasks |= {task.name: task for task in getattr(module, "TASKS", ())}
    return TestApp(tuple(queues), tasks)
