"""How a node finds tasks by name, makes their instances and judges their failures."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from exkiq import Worker, errors
from exkiq.failure_modes import Abandon, FailureMode, Retry
from exkiq.pool.work import Work
from exkiq.task import load_app
from exkiq.worker import handle_of
from tests.api import api_app
from tests.api.api_app import Add, Copy, Riak, Wait

APP = "tests.api.api_app"


def judged(backoff: Any, failures: int, retries: int = 3) -> Any:
    worker: Any = type("Judged", (Worker,), {"perform": lambda self: None}, backoff=backoff)
    return handle_of(worker).runnable.decide(failures, retries, ValueError("broken"))


def test_an_app_knows_its_queues_and_tasks() -> None:
    """A node does not serve a queue that its APP declares, or cannot run one of its tasks."""
    app = load_app([APP])
    assert {"sums", "default", "my_pool", "reads", "copies", "emails"} == set(app.queues)
    for name in ("Add", "Wait", "Riak.get", "Copy.put", "send", "bare"):
        assert f"{APP}:{name}" == app.resolve(f"{APP}:{name}").name
    assert f"{APP}:Add" == app.resolve(f"{APP}:Add.perform").name


@pytest.mark.parametrize(
    "name",
    [
        f"{APP}:Gone",
        f"{APP}:Riak",
        f"{APP}:Nothing",
        f"{APP}:Riak.init",
        f"{APP}:datetime",
        f"{APP}:Worker",
        f"{APP}:",
        f"{APP}.gone:Add",
        APP,
        "",
        ":",
        "os:system",
        "antigravity:x",
        "exkiq.worker:handle_of",
    ],
)
def test_what_is_no_task_is_not_found(name: str) -> None:
    """A job that names any function of this machine runs it."""
    with pytest.raises(LookupError):
        load_app([APP]).resolve(name)
    assert "antigravity" not in sys.modules


def test_modules_of_the_same_package_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task in a module that APP does not import waits for ever."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "__init__.py").write_text("from exkiq import task\n@task\ndef one(): ...\n")
    (folder / "late.py").write_text("from exkiq import task\n@task\ndef two(): ...\n")
    (folder / "broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    app = load_app(["shop"])
    assert app.resolve("shop.late:two").name == "shop.late:two"
    with pytest.raises(ZeroDivisionError):
        app.resolve("shop.broken:two")


def test_all_that_is_wrong_with_an_app_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong APP starts a node that does nothing, or is corrected one start after another."""
    (tmp_path / "exkiq_test_broken.py").write_text("1 / 0")
    (tmp_path / "exkiq_test_exits.py").write_text("raise SystemExit(3)")
    (tmp_path / "exkiq_test_empty.py").write_text("from exkiq import Worker, task")
    monkeypatch.syspath_prepend(tmp_path)
    names = ["exkiq_test_broken", "exkiq_test_exits", "exkiq_test_empty", "exkiq_test_missing"]
    with pytest.raises(errors.ConfigError) as caught:
        load_app([*names, APP])
    assert len(caught.value.faults) == 4
    for name, fault in zip(names, caught.value.faults, strict=True):
        assert name in fault
    assert "division by zero" in caught.value.faults[0]


def test_an_imported_worker_counts() -> None:
    """An APP that only gathers the workers of other modules is refused."""
    assert "sums" in load_app(["tests.api.test_api_app"]).queues


def test_methods_share_the_instance_of_their_worker() -> None:
    """`init` runs once for each method rather than once for each slot."""
    app = load_app([APP])
    put, get, copy = (app.resolve(f"{APP}:{name}") for name in ("Riak.put", "Riak.get", "Copy.get"))
    assert Work.of(put).key == Work.of(get).key == Riak
    assert Copy is Work.of(copy).key
    instance = put.make()
    assert isinstance(instance, Riak)
    assert {"made"} == set(instance.state)
    assert put.run(instance, ["a", "b"], {"value": 1}) == ["a", "b", 1]
    assert instance.put("a", "b", 2) == ["a", "b", 2]
    assert isinstance(copy.make(), Copy)
    assert None is Add().state
    assert None is app.resolve(f"{APP}:send").make()


def test_async_jobs_are_told_from_others() -> None:
    """A coroutine is run in a thread and never awaited, or a blocking job stalls the loop."""
    app = load_app([APP])
    wait = app.resolve(f"{APP}:Wait")
    assert [app.resolve(f"{APP}:{name}").is_async for name in ("Wait", "Add", "send")] == [
        True,
        False,
        False,
    ]
    assert asyncio.run(wait.run(wait.make(), [5], {})) == 5


def test_the_hooks_of_a_worker_are_found() -> None:
    """A pool runs the job without its hooks."""

    class Hooked(Worker):
        def before(self, job: Any) -> None: ...

        def perform(self) -> None: ...

    work = Work.of(handle_of(Hooked).runnable)
    assert (Hooked.before, None) == (work.before, work.after)


def test_the_default_rule_waits_longer_each_time() -> None:
    """A failed job comes back at once, for ever, or never."""
    for failures, seconds in ((1, 1), (2, 3), (3, 7)):
        verb, delay_ms = judged(None, failures)
        assert verb == "retry"
        assert seconds * 1000 <= delay_ms <= seconds * 1100
    assert judged(None, 4) == ["failed"]
    assert judged(None, 1, retries=0) == ["failed"]


class Odd(FailureMode):
    def decide(self, job: Any, error: Any, failures: int, chance: float) -> Any:
        return ["move", f"{job.queue}-{failures}"]


def test_backoff_is_seconds_a_callable_or_a_mode() -> None:
    """One form of `backoff` is ignored, or outlives the budget of retries."""
    assert judged(1.5, 3) == ["retry", 1_500]
    assert judged(1.5, 4) == ["failed"]
    assert judged(lambda n, error: n * len(str(error)) / 6, 2) == ["retry", 2_000]
    assert judged(lambda n, error: None, 1) == ["failed"]
    assert judged(lambda n, error: 0, 4) == ["failed"]
    assert judged(Abandon(), 1) == ["abandon"]
    assert judged(Retry(times=9, delay=5), 8, retries=0) == ["retry", 5_000]
    assert judged(Odd(), 1) == ["move", "-1"]


@pytest.mark.parametrize("answer", ["soon", -1, True, [1]])
def test_a_rule_that_answers_nonsense_raises(answer: Any) -> None:
    """A broken rule is taken for a wait, and the job is lost in it."""
    with pytest.raises((TypeError, ValueError)):
        judged(lambda n, error: answer, 1)


def test_a_method_takes_the_backoff_of_its_class() -> None:
    """A task method falls back to the default rule."""

    class Calm(Worker, backoff=60):
        @api_app.task
        def one(self) -> None: ...

        @api_app.task(backoff=1)
        def other(self) -> None: ...

    assert Calm.one.runnable.decide(1, 5, ValueError()) == ["retry", 60_000]
    assert Calm.other.runnable.decide(1, 5, ValueError()) == ["retry", 1_000]
    assert Wait.exkiq_options.backoff is None
