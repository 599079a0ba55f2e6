"""Jobs run in place: no cluster, but the same journey of arguments and value."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest

import exkiq
from exkiq import Worker, errors
from tests.api.api_app import Add, Riak, Wait, send


class Seen(Worker, queue="seen"):
    log: list[Any] = []  # noqa: RUF012 - of the test

    def before(self, job: Any) -> None:
        self.log.append(("before", job.id == self.job.id))

    def after(self, job: Any, outcome: Any) -> None:
        self.log.append(("after", outcome.state, outcome.value, outcome.error))
        raise LookupError("only logged")

    def perform(self, value: Any) -> Any:
        job = exkiq.current_job()
        assert job is not None
        assert job is not self.job or job.id == self.job.id
        assert (
            job.attempt,
            job.queue,
            job.checkpoint,
            self.is_stopping,
        ) == (1, "seen", None, False)
        self.checkpoint({"so": "far"})
        if value == "boom":
            raise LookupError(value)
        return value


class Late(Worker):
    async def init(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def perform(self) -> bool:
        return self.state is asyncio.get_running_loop()


class Mixed(Worker):
    async def init(self) -> str:
        return "ready"

    def perform(self) -> Any:
        return self.state


def test_it_runs_here_and_gives_its_value() -> None:
    """The value of a run in place is another than that of a job."""
    assert Add.perform_inline(1, second=2) == 3
    assert Add.set(queue="x").perform_inline(1, 2) == 3
    assert "a: b" == send.perform_inline("a", "b") == send("a", "b")
    assert Riak.put.perform_inline("b", "k", (1, 2)) == ["b", "k", [1, 2]]
    made = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    assert made == Riak.get.perform_inline("b", "made")
    assert Mixed.perform_inline() == "ready"


def test_async_jobs_run_in_place_too() -> None:
    """An async worker cannot be tried out, or loses its loop between `init` and `perform`."""
    assert Wait.perform_inline((1,)) == [1]
    assert Late.perform_inline() is True

    async def main() -> list[Any]:
        return [
            await Wait.aperform_inline(1),
            await Late.aperform_inline(),
            await Add.aperform_inline(1, 2),
            await Mixed.aperform_inline(),
        ]

    assert asyncio.run(main()) == [1, True, 3, "ready"]


def test_an_async_one_on_a_running_loop_says_what_to_write() -> None:
    """The error is one of asyncio's, about loops the user did not make."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match="await aperform_inline"):
            Wait.perform_inline(1)
        assert Add.perform_inline(1, 2) == 3

    asyncio.run(main())


def test_its_own_exception_comes_out() -> None:
    """A failing job in place raises something else than itself."""
    Seen.log.clear()
    with pytest.raises(LookupError, match="boom") as caught:
        Seen.perform_inline("boom")
    assert Seen.log[1] == ("after", "failed", None, caught.value)
    with pytest.raises(TypeError, match="positional"):
        Add.perform_inline()  # type: ignore[call-arg]


def test_hooks_and_context_are_there(caplog: pytest.LogCaptureFixture) -> None:
    """A worker that uses its job or its hooks cannot be tried out in place."""
    Seen.log.clear()
    assert Seen.perform_inline(7) == 7
    assert Seen.log == [("before", True), ("after", "succeeded", 7, None)]
    assert "its after hook raised" in caplog.text
    assert exkiq.current_job() is None
    with pytest.raises(RuntimeError, match=r"Seen\.job: no job runs here"):
        _ = Seen().job


def test_what_could_not_travel_is_refused_here_too() -> None:
    """A job that works in place fails as soon as it is enqueued."""
    with pytest.raises(errors.SerializationError, match="first"):
        Add.perform_inline({1})
    with pytest.raises(errors.SerializationError, match="set"):
        Set.perform_inline()
    with pytest.raises(errors.ResultTooLarge):
        Wait.perform_inline("x" * 300_000)


class Set(Worker):
    def perform(self) -> Any:
        return {1}
