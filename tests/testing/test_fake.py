"""What a user's test suite is given keeps jobs as a cluster does, without one."""

from __future__ import annotations

import datetime

import pytest

import exkiq
from exkiq import errors
from exkiq.testing import Fake, ManualClock, fake
from tests.testing.shop import (
    Chain,
    Counter,
    Endless,
    Fetch,
    Hooked,
    Leaves,
    Odd,
    Saves,
    Shaky,
    Store,
    Welcome,
    ran,
    whoami,
)

START = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def test_jobs_are_kept_until_they_are_run(kept: Fake) -> None:
    """A test would send mail, or wait for a node."""
    job = Welcome.perform_async("Ada", greeting="Hi")
    assert ran == []
    assert [(j.id, j.task, j.args, j.queue) for j in kept.jobs] == [
        (job.id, "tests.testing.shop:Welcome", ("Ada",), "emails")
    ]
    assert job.status().state == "queued"
    assert [ended.id for ended in kept.drain()] == [job.id]
    assert ran == ["Ada"]
    assert kept.jobs == []
    assert job.result(timeout=0) == "Hi, Ada!"
    assert job.status().state == "succeeded"


def test_jobs_run_in_the_order_in_which_they_came(kept: Fake) -> None:
    """An order would hold in a test and not on a cluster."""
    Welcome.perform_async("a")
    Fetch.perform_async("b")
    Welcome.set(priority=1).perform_async("first of its queue")
    Welcome.perform_bulk([("c",), ("d",)])
    kept.drain()
    assert ran == ["b", "first of its queue", "a", "c", "d"]


def test_every_kind_of_handle_is_kept(kept: Fake) -> None:
    """A task or method would try to reach a node."""
    jobs = [
        Store.put.perform_async("key", (1, 2)),
        whoami.perform_async(),
        whoami.set(queue="other").perform_async(),
        Fetch.perform_async("x"),
    ]
    kept.drain()
    assert [job.result() for job in jobs] == [
        ["key", [1, 2]],
        [jobs[1].id, 1, "functions"],
        [jobs[2].id, 1, "other"],
        "X",
    ]


def test_jobs_that_jobs_enqueue_are_run_too(kept: Fake) -> None:
    """A chain of jobs would stop at its first link."""
    Chain.perform_async(3)
    assert len(kept.drain()) == 4
    assert ran == [3, 2, 1, 0]


def test_a_drain_without_end_is_an_error(kept: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test would hang."""
    monkeypatch.setattr("exkiq.testing.turns.RUNS_MAX", 50)
    Endless.perform_async()
    with pytest.raises(RuntimeError, match=r"50 jobs ran and tests\.testing\.shop:Endless still"):
        kept.drain()


def test_one_queue_can_be_drained_alone(kept: Fake) -> None:
    """A test of one part would run all the others."""
    Welcome.perform_async("Ada")
    Chain.perform_async(1)
    kept.drain("chains")
    assert ran == [1, 0]
    assert [job.queue for job in kept.jobs] == ["emails"]


# ---- time ----------------------------------------------------------------------------------------


def test_a_later_job_runs_once_the_clock_has_passed_its_time(kept: Fake) -> None:
    """A test of a reminder would have to wait for it."""
    job = Welcome.perform_in("Ada", minutes=10)
    at = Welcome.perform_at(START + datetime.timedelta(minutes=20), "Grace")
    kept.clock.advance(599.999)
    kept.drain()
    assert (ran, job.status().state) == ([], "scheduled")
    kept.clock.advance(0.001)
    assert job.status().state == "queued"
    kept.drain()
    assert ran == ["Ada"]
    kept.clock.advance(datetime.timedelta(minutes=10))
    kept.drain()
    assert ran == ["Ada", "Grace"]
    assert at.status().started_at == kept.clock.now == START + datetime.timedelta(minutes=20)


def test_the_clock_goes_on_by_hand_alone(kept: Fake) -> None:
    """Real time would come into a test."""
    Welcome.perform_async("Ada")
    Fetch.perform_async("x")
    kept.drain()
    assert kept.clock.now == START
    for wrong in (-1, float("nan"), True, "1"):
        with pytest.raises(ValueError, match="advance"):
            kept.clock.advance(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="time zone"):
        ManualClock(datetime.datetime(2030, 1, 1))  # noqa: DTZ001, RUF100


def test_a_clock_of_its_own_begins_now() -> None:
    """`perform_at(datetime.now() + ...)` would be due at once, or never."""
    before = datetime.datetime.now(datetime.UTC)
    with fake() as kept:
        assert abs(kept.clock.now - before) < datetime.timedelta(seconds=10)


# ---- failures ------------------------------------------------------------------------------------


def test_a_drain_runs_the_retries_and_the_clock_goes_on_for_them(kept: Fake) -> None:
    """What happens after a failure could not be tested without its waits."""
    job = Shaky.perform_async(3)
    other = Welcome.perform_in("meanwhile", seconds=2)
    kept.drain()
    assert ran == [1, 2, "meanwhile", 3]
    assert job.result() == 3
    assert other.status().state == "succeeded"
    waited = (kept.clock.now - START).total_seconds()
    assert 4 <= waited <= 4.4 + 0.002  # 1 and 3 seconds, and their jitter


def test_without_retries_what_failed_waits(kept: Fake) -> None:
    """A test of the first attempt would run all of them."""
    job = Shaky.perform_async(2)
    assert kept.drain(retries=False) == []
    assert (ran, job.status().state, kept.clock.now) == ([1], "retry", START)
    kept.assert_enqueued(Shaky, 2)
    kept.clock.advance(1.2)
    assert [status.state for status in kept.drain(retries=False)] == ["succeeded"]


def test_a_job_without_retries_left_has_its_error(kept: Fake) -> None:
    """A failure would pass unseen, or end the drain."""
    job, last = Shaky.perform_async(9), Welcome.perform_async("after")
    ended = kept.drain()
    assert ran == [1, "after", 2, 3, 4]
    assert {status.id: status.state for status in ended} == {job.id: "failed", last.id: "succeeded"}
    assert [status.error.message for status in exkiq.failed.jobs() if status.error] == ["attempt 4"]
    with pytest.raises(errors.JobFailed) as caught:
        job.result()
    assert "ValueError: attempt 4" in str(caught.value)
    assert job.status().error is not None
    assert "shop.py" in job.status().error.traceback  # type: ignore[union-attr]
    assert exkiq.failed.retry_all() == 1
    kept.assert_enqueued(Shaky, 9, times=1)
    assert [status.id for status in kept.drain()] == [job.id]  # it ended once more


def test_what_ends_an_interpreter_ends_no_test(kept: Fake) -> None:
    """A job that calls sys.exit() would end the test run."""
    job = Leaves.perform_async()
    kept.drain()
    with pytest.raises(errors.JobFailed, match="SystemExit"):
        job.result()


def test_checkpoints_state_and_hooks_are_those_of_a_node(kept: Fake) -> None:
    """A test would pass for a job that fails on a node."""
    job = Saves.perform_async()
    kept.drain()
    assert job.result() == {"page": 7}
    numbers = [Counter.perform_async() for _ in range(2)]
    bad = Counter.set(retries=0).perform_async(True)
    numbers.append(Counter.perform_async())
    kept.drain()
    assert [number.result() for number in numbers] == [1, 2, 1]
    assert bad.status().state == "failed"
    ran.clear()
    Hooked.call()
    assert ran == ["before", "perform", "succeeded"]


def test_values_and_arguments_make_the_journey(kept: Fake) -> None:
    """What a cluster refuses would pass in tests."""
    with pytest.raises(errors.SerializationError, match="argument 1 \\(`name`\\)"):
        Welcome.perform_async(object())
    assert kept.jobs == []
    job = Odd.perform_async()
    kept.drain()
    with pytest.raises(errors.SerializationError, match="cannot be kept"):
        job.result()
