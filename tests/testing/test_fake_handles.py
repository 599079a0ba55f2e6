"""Handles, assertions and waits on jobs that a test keeps."""

from __future__ import annotations

import asyncio
import datetime
import threading
from unittest import mock

import pytest

import exkiq
from exkiq import client as clients
from exkiq import errors
from exkiq.testing import Fake, fake
from tests.testing import shop
from tests.testing.shop import (
    AsyncCaller,
    Caller,
    Cancelled,
    Cart,
    Counter,
    Detour,
    Fetch,
    NotReady,
    Shaky,
    Tells,
    Told,
    Welcome,
    ran,
    whoami,
)

START = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


# ---- waiting for a result ------------------------------------------------------------------------


def test_who_waits_for_a_result_has_the_jobs_run(kept: Fake) -> None:
    """Code under test that calls a job would never get an answer."""
    assert Welcome.call("Ada") == "Welcome, Ada!"
    assert Caller.call("Ada") == "WELCOME, ADA!"
    assert Detour.call() == "X"
    job = Fetch.perform_async("x")
    with pytest.raises(TimeoutError):
        job.result(timeout=0)  # asks once
    assert job.result() == "X"
    assert kept.clock.now == START


def test_a_wait_takes_no_longer_than_its_timeout_on_the_clock(kept: Fake) -> None:
    """A wait for something that comes later would hang, or come back too early."""
    later = Welcome.perform_in("Ada", seconds=8)
    with pytest.raises(TimeoutError) as caught:
        later.result(timeout=5)
    assert caught.value.job == later  # type: ignore[attr-defined]
    assert kept.clock.now == START + datetime.timedelta(seconds=5)
    assert later.result(timeout=5) == "Welcome, Ada!"
    assert kept.clock.now == START + datetime.timedelta(seconds=8)
    exkiq.queue("emails").pause()
    with pytest.raises(TimeoutError):
        Welcome.perform_async("never").result(timeout=None)
    with pytest.raises(errors.NoSuchJob):
        exkiq.job("unknown").result()


def test_many_results_have_one_limit(kept: Fake) -> None:
    """Code that gathers results could not be tested."""
    jobs = [Welcome.perform_async("Ada"), Shaky.perform_async(9), Welcome.perform_in("x", hours=1)]
    outcomes = exkiq.result_many([*jobs, "unknown"], timeout=60)
    assert [None if each is None else each.state for each in outcomes] == [
        "succeeded",
        "failed",
        None,
        None,
    ]
    assert kept.clock.now == START + datetime.timedelta(seconds=60)


def test_handles_of_jobs_and_queues_do_what_they_do_on_a_cluster(kept: Fake) -> None:
    """Code that cancels, pauses or counts could not be tested."""
    first, again = (Welcome.set(id="w").perform_async(name) for name in ("Ada", "Grace"))
    assert first == again
    with pytest.raises(errors.JobAlreadyExists):
        Welcome.set(id="w", unique="error").perform_async("Ada")
    assert first.cancel() == "ok"
    with pytest.raises(errors.JobCancelled):
        first.result()
    emails = exkiq.queue("emails")
    assert emails.pause()
    Welcome.perform_async("Grace")
    assert kept.drain() == []
    assert (emails.stats().queued, exkiq.stats()["queued"]) == (1, 1)
    assert exkiq.stats(consistent=True)["emails"] == 1
    assert [status.args for status in emails.jobs(state="queued")] == [("Grace",)]
    assert emails.clear() == 1
    assert emails.resume()
    with pytest.raises(errors.UnsupportedOperation, match="no cluster"):
        clients.default().request("cluster_leave")


def test_a_watch_has_the_job_run_step_by_step(kept: Fake) -> None:
    """Code that follows a job could not be tested."""
    job = Shaky.perform_async(2)
    steps = job.watch()
    assert next(steps).name == "queued"
    assert ran == []
    assert [step.name for step in steps] == ["started", "retrying", "started", "succeeded"]
    exkiq.queue("emails").pause()
    never = Welcome.perform_async("never")
    assert [step.name for step in never.watch()] == ["queued"]
    with pytest.raises(errors.NoSuchJob):
        next(exkiq.job("unknown").watch())

    async def test() -> None:
        job = await Fetch.aperform_async("x")
        assert [step.name async for step in job.awatch()] == ["queued", "started", "succeeded"]

    asyncio.run(test())


def test_a_running_job_can_be_cancelled(kept: Fake) -> None:
    """A job that looks whether it shall stop could not be tested."""
    job = Cancelled.perform_async()
    assert [status.state for status in kept.drain()] == ["cancelled"]
    assert ran == [("stopping", True)]
    with pytest.raises(errors.JobCancelled):
        job.result()


def test_progress_is_seen_while_the_job_runs(kept: Fake) -> None:
    """A job that says how far it is would fail in a test."""
    job = Tells.perform_async()
    assert job.progress is None
    kept.drain()
    assert ran == [{"page": 2}]
    assert job.progress is None
    assert job.status().state == "succeeded"


def test_a_job_can_be_moved(kept: Fake) -> None:
    """Code that moves jobs could not be tested."""
    job = Welcome.perform_async("Ada")
    assert exkiq.queue("emails").move(job, "letters") == job
    kept.assert_enqueued(Welcome, "Ada", queue="letters", times=1)
    assert len(kept.drain("letters")) == 1
    copy = exkiq.queue("letters").move(job, "emails")
    assert copy != job
    kept.assert_enqueued(Welcome, "Ada", queue="emails")


def test_success_modes_are_asked(kept: Fake) -> None:
    """What a mode does would be missing in a test."""
    Told.perform_in(7, seconds=5)
    kept.clock.advance(6)
    kept.drain()
    assert ran == [(7, 6_000)]  # the value, and the milliseconds from enqueue to start


def test_an_init_that_raises_raises_in_the_test(kept: Fake) -> None:
    """On a node the job would wait for ever, and the test with it."""
    job = NotReady.perform_async()
    with pytest.raises(RuntimeError, match="no database"):
        kept.drain()
    assert job.status().state == "queued"


def test_session_jobs_go_from_step_to_step(kept: Fake) -> None:
    """A test of a session job would need a node."""
    assert Cart.start("cart-1") == {"items": []}
    assert Cart.update("cart-1", "apple") == {"items": ["apple"]}
    with pytest.raises(errors.JobAlreadyExists):
        Cart.start("cart-1")
    assert Cart.finish("cart-1") == {"items": ["apple"]}
    with pytest.raises(errors.NoSuchJob):
        Cart.update("cart-1", "pear")


def test_async_twins_run_on_the_loop_of_the_test(kept: Fake) -> None:
    """An async application could not be tested."""

    async def test() -> None:
        job = await Fetch.aperform_async("x")
        assert await job.aresult() == "X"
        assert await AsyncCaller.acall("Ada") == "WELCOME, ADA!"
        await Fetch.aperform_in("y", seconds=3)
        jobs = await Fetch.aperform_bulk([("z",), ("zz",)])
        ended = await kept.adrain()
        assert [status.id for status in ended] == [job.id for job in jobs]
        assert (await exkiq.queue("default").astats()).scheduled == 1
        assert await jobs[0].acancel() == "not_found"
        assert Fetch.call("in a running loop") == "IN A RUNNING LOOP"

    asyncio.run(test())


def test_a_job_may_be_enqueued_from_any_thread(kept: Fake) -> None:
    """Code under test that has threads would damage the queue."""

    def enqueue() -> None:
        for number in range(50):
            Welcome.perform_async(number)

    threads = [threading.Thread(target=enqueue) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept.enqueued(Welcome)) == 200
    assert len(kept.drain()) == 200


# ---- assertions ----------------------------------------------------------------------------------


def test_assertions_name_worker_arguments_queue_and_times(kept: Fake) -> None:
    """A test could not say what it expects."""
    Welcome.perform_async("Ada", greeting="Hi")
    Welcome.set(queue="slow").perform_async(("a", ("b",)))
    whoami.perform_async()
    kept.assert_enqueued(Welcome)
    kept.assert_enqueued(Welcome, "Ada", greeting="Hi")
    kept.assert_enqueued(Welcome, mock.ANY, greeting="Hi")
    kept.assert_enqueued(Welcome, ("a", ["b"]), queue="slow", times=1)
    kept.assert_enqueued(Welcome, times=2)
    kept.assert_enqueued(Welcome, "Ada", times=0)  # not without its greeting
    kept.assert_enqueued(Fetch, times=0)
    (found,) = kept.assert_enqueued(whoami)
    assert found.queue == "functions"
    assert kept.enqueued(Welcome.set(queue="slow")) == kept.enqueued(Welcome)
    with pytest.raises(TypeError, match="a Worker class, a task or a handle"):
        kept.assert_enqueued("Welcome")


def test_a_failed_assertion_says_what_there_is(kept: Fake) -> None:
    """Whoever reads the failure would have to debug the test."""
    with pytest.raises(AssertionError) as caught:
        kept.assert_enqueued(Welcome, "Ada", queue="slow")
    assert str(caught.value).splitlines() == [
        "tests.testing.shop:Welcome('Ada') in queue 'slow' should wait at least once, "
        "and waits 0 times; what waits:",
        "  no job waits at all",
    ]
    Welcome.perform_async("Ada", greeting="Hi")
    Fetch.perform_in("x", hours=1)
    with pytest.raises(AssertionError) as caught:
        kept.assert_enqueued(Welcome, times=2)
    assert str(caught.value).splitlines() == [
        "a job of tests.testing.shop:Welcome should wait 2 times, and waits once; what waits:",
        "  tests.testing.shop:Welcome('Ada', greeting='Hi') in 'emails', queued",
        "  tests.testing.shop:Fetch('x') in 'default', scheduled at 2030-01-01 01:00:00",
    ]
    Fetch.perform_bulk([(str(number),) for number in range(30)])
    with pytest.raises(AssertionError, match="and 12 more"):
        kept.assert_enqueued(Counter)


def test_clear_forgets_everything_but_the_time(kept: Fake) -> None:
    """A test could not begin anew."""
    done = Welcome.perform_async("Ada")
    kept.drain()
    Welcome.perform_async("Grace")
    exkiq.queue("emails").pause()
    kept.clock.advance(5)
    kept.clear()
    assert kept.jobs == []
    assert kept.clock.now == START + datetime.timedelta(seconds=5)
    with pytest.raises(errors.NoSuchJob):
        done.result()
    Welcome.perform_async("again")
    assert len(kept.drain()) == 1
    assert set(exkiq.stats().values()) == {0, 1}


def test_nothing_is_left_behind() -> None:
    """A test would change those that come after it."""
    threads = threading.active_count()
    outer = clients.use(None)
    try:
        with fake() as first, fake() as second:
            Fetch.call("x")
            Welcome.perform_async("Ada")
            assert (len(first.jobs), len(second.jobs)) == (0, 1)
        assert clients.use(None) is None
    finally:
        clients.use(outer)
    assert threading.active_count() == threads
    assert shop.ran
