"""Jobs of a test that run where they are enqueued."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterator

import pytest

import exkiq
from exkiq import client as clients
from exkiq import errors
from exkiq.testing import inline
from tests.testing.shop import (
    AsyncCaller,
    Caller,
    Cart,
    Chain,
    Fetch,
    Shaky,
    Store,
    Welcome,
    ran,
    whoami,
)


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    ran.clear()
    with inline():
        yield


def test_a_job_has_run_when_it_is_enqueued() -> None:
    """A test would have to wait for what its code only starts."""
    job = Welcome.perform_async(("Ada",))
    assert ran == [["Ada"]]  # a tuple arrives as a list: it made the journey
    assert job.status().state == "succeeded"
    assert job.result(timeout=0) == "Welcome, ['Ada']!"
    with pytest.raises(errors.SerializationError):
        Welcome.perform_async(object())


def test_every_verb_runs_at_once_whatever_its_time() -> None:
    """A reminder would never come in a test."""
    Welcome.perform_in(1, minutes=10)
    Welcome.perform_at(datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC), 2)
    Welcome.set(delay=5).perform_async(3)
    jobs = Welcome.perform_bulk([(4,), (5,)])
    assert ran == [1, 2, 3, 4, 5]
    assert [job.result(0) for job in jobs] == ["Welcome, 4!", "Welcome, 5!"]
    assert Store.put.call("key", 1) == ["key", 1]
    assert whoami.call()[1] == 1
    assert Fetch.call("x") == "X"
    assert Caller.call("Ada") == "WELCOME, ADA!"


def test_jobs_of_jobs_run_inside_them() -> None:
    """A chain would end at its first link."""
    Chain.perform_async(2)
    assert ran == [2, 1, 0]


def test_the_handle_has_the_outcome_retries_included() -> None:
    """Code under test would meet an error that no cluster gives it."""
    assert Shaky.perform_async(3).result() == 3
    assert ran == [1, 2, 3]
    failed = Shaky.perform_async(9)
    assert failed.status().state == "failed"
    with pytest.raises(errors.JobFailed, match="attempt 4"):
        failed.result()
    assert [status.id for status in exkiq.failed.jobs()] == [failed.id]


def test_async_code_has_the_same() -> None:
    """An async application could not be tested."""

    async def test() -> None:
        assert await (await Fetch.aperform_async("x")).aresult(0) == "X"
        assert await AsyncCaller.acall("Ada") == "WELCOME, ADA!"
        assert [await job.aresult(0) for job in await Fetch.aperform_bulk([("y",)])] == ["Y"]
        assert Fetch.perform_async("in a running loop").result(0) == "IN A RUNNING LOOP"

    asyncio.run(test())


def test_session_jobs_run_step_by_step() -> None:
    """A test of a session job would need a node."""
    assert Cart.start("cart-1") == {"items": []}
    assert Cart.update("cart-1", "apple") == {"items": ["apple"]}
    assert Cart.finish("cart-1") == {"items": ["apple"]}


def test_an_id_that_is_taken_runs_once() -> None:
    """A test would run twice what a cluster runs once."""
    for _ in range(2):
        Welcome.set(id="welcome").perform_async("Ada")
    assert ran == ["Ada"]


@inline()
def test_it_is_a_decorator_too() -> None:
    """The shortest way to say it would not work."""
    assert Welcome.perform_async("Ada").result(0) == "Welcome, Ada!"
    assert clients.default() is not None
