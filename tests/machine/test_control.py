"""Cancel, clear, and the failed set: retry and delete."""

from __future__ import annotations

import pytest

from exkiq.machine import Refused, State, commands, limits
from tests.machine.driver import MAIL, Driver


def test_cancel_answers():
    """HD-T8: ok before the start, in_progress when running, not_found after or never."""
    driver = Driver()
    session = driver.begin()
    driver.add("queued", "retry", "running")
    driver.add("scheduled", delay_ms=1_000)
    driver.take(session, "retry", "running")
    driver.fail_one(session, "retry", "retry", 1_000)
    for job_id in ("queued", "retry", "scheduled"):
        assert driver.cancel(job_id) == "ok"
        assert [record.id for record in driver.applied.ended] == [job_id]
        assert driver.state(job_id) is State.CANCELLED
        assert driver.cancel(job_id) == "not_found"
    assert driver.cancel("running") == "in_progress"
    assert driver.cancel("unknown") == "not_found"
    driver.fail_one(session, "running", "failed")
    assert driver.cancel("running") == "not_found"
    driver.tick(5_000)
    assert driver.waiting() == []
    assert driver.count("cancelled", "queued", "scheduled", "retry") == [3, 0, 0, 0]


def test_a_due_retry_can_be_cancelled():
    """It stands in a lane though its state is retry."""
    driver = Driver()
    session = driver.begin()
    driver.add("a")
    driver.take(session, "a")
    driver.fail_one(session, "a", "retry", 1)
    driver.tick(1)
    assert driver.cancel("a") == "ok"
    assert driver.waiting() == []


def test_a_repeated_cancel_gets_its_first_answer():
    """The caller who cancelled must not hear that there is no such job."""
    driver = Driver()
    driver.add("a")
    op = commands.cancel(driver.pid(), "a")
    assert driver.entry(op) == ["ok"]
    assert driver.entry(op) == ["ok"]
    assert driver.count("cancelled") == [1]


def test_clear_cancels_what_has_not_started():
    """EX-17: running jobs stay, other queues stay, the number is told."""
    driver = Driver()
    session = driver.begin()
    driver.add("running", "retry", "queued")
    driver.add("scheduled", delay_ms=9)
    driver.add("other", spec=MAIL._replace(queue="other"))
    driver.take(session, "running", "retry")
    driver.fail_one(session, "retry", "retry", 5)
    op = commands.clear(driver.pid(), "mail")
    assert driver.entry(op) == [3]
    assert [record.id for record in driver.applied.ended] == ["queued", "scheduled", "retry"]
    assert driver.entry(op) == [3]
    assert driver.clear("mail") == 0
    assert driver.clear("unknown") == 0
    assert driver.count("running", "queued", "cancelled") == [1, 1, 3]


def test_a_clear_is_bounded(monkeypatch):
    """A million jobs in one apply would stall every node; the caller asks again."""
    monkeypatch.setattr(limits, "CLEAR_JOBS_MAX", 2)
    driver = Driver()
    driver.add("a", "b", "c")
    assert [driver.clear("mail"), driver.clear("mail")] == [2, 1]


def failed(*ids: str, **spec: object) -> tuple[Driver, int]:
    """A driver with these jobs in the failed set."""
    driver = Driver()
    session = driver.begin()
    driver.add(*ids, spec=MAIL._replace(**spec))
    driver.take(session, *ids)
    for job_id in ids:
        driver.fail_one(session, job_id, "failed")
    return driver, session


def test_a_retry_from_the_failed_set_keeps_the_id_and_gets_a_fresh_budget():
    """EX-15."""
    driver, session = failed("a", "b", max_lost=0)
    op = commands.retry(driver.pid(), ["a", "unknown", "a"])
    assert driver.entry(op) == [1]
    assert driver.entry(op) == [1]
    record = driver.job("a")
    assert (record.state, record.failures, record.lost) == ("queued", 0, 0)
    assert (record.completed_ms, record.retries_left) == (0, 5)
    assert record.errors
    assert driver.waiting() == ["a"]
    assert driver.count("failed", "queued") == [1, 1]
    driver.complete(session, ["a"], [driver.take(session, "a")])
    assert driver.count("succeeded", "enqueued_total") == [1, 2]


@pytest.mark.parametrize("verb", ["retry", "delete"])
def test_a_selection_is_by_ids_by_queue_or_everything(verb):
    """None means any."""
    driver, session = failed("a", "b")
    driver.add("x", spec=MAIL._replace(queue="other"))
    driver.take(session, "x")
    driver.fail_one(session, "x", "failed")
    act = getattr(driver, verb)
    assert act(["a", "x"], "other") == 1
    assert list(driver.machine.failed) == ["a", "b"]
    assert act(None, "other") == 0
    assert act([], None) == 0
    assert act(None, None) == 2
    assert list(driver.machine.failed) == []


def test_delete_forgets_failed_jobs_alone():
    """Their ids stay taken for a minute, and the books balance."""
    driver, _ = failed("a")
    driver.add("b")
    assert driver.delete(["a", "b"]) == 1
    assert list(driver.machine.jobs) == ["b"]
    assert driver.add("a") == [0, [0]]
    assert driver.count("failed", "deleted", "queued") == [0, 1, 1]


def test_a_job_that_fails_and_is_retried_in_one_entry_has_not_ended():
    """Waiters must not be told of an end that was taken back."""
    driver = Driver()
    session = driver.begin()
    driver.add("a")
    fence = driver.take(session, "a")
    fail = commands.fail(driver.pid(), session, [["a", fence, ["failed"], ["E", "", ""], 0]])
    retry = commands.retry(driver.pid())
    cancel = commands.cancel(driver.pid(), "a")
    assert driver.entry(fail, retry) == [1, 1]
    assert driver.applied.ended == []
    assert driver.machine.tombstone("a") is None
    fence = driver.take(session, "a")
    fail = commands.fail(driver.pid(), session, [["a", fence, ["failed"], ["E", "", ""], 0]])
    assert driver.entry(fail, commands.retry(driver.pid()), cancel) == [1, 1, "ok"]
    assert [record.state for record in driver.applied.ended] == ["cancelled"]


def test_an_id_stays_taken_for_a_minute_after_the_last_end():
    """A job that failed, was retried and succeeded has two ends; the later one counts."""
    driver, session = failed("a")
    driver.tick(50_000)
    driver.retry(["a"])
    driver.complete(session, ["a"], [driver.take(session, "a")])
    driver.tick(20_000)
    assert driver.machine.tombstone("a").ended_ms == driver.now_ms - 20_000
    driver.tick(40_000)
    assert driver.machine.tombstone("a") is None


@pytest.mark.parametrize("name", ["", 1, None, "queued", "q" * 256])
def test_names_that_no_queue_can_have_are_refused(name):
    """The same rule at every door."""
    driver = Driver()
    for build in (driver.pause, driver.resume, driver.clear):
        assert isinstance(build(name), Refused)


@pytest.mark.parametrize("first", ["pause", "resume"])
def test_a_repeat_that_comes_after_the_opposite_undoes_nothing(first):
    """A resend would stop a queue for ever that somebody has set going again."""
    driver = Driver()
    if first == "resume":
        driver.pause("mail")
    op = getattr(commands, first)(driver.pid(), "mail")
    opposite = commands.resume if first == "pause" else commands.pause
    driver.entry(op, opposite(driver.pid(), "mail"))
    before = driver.machine.queues["mail"].paused
    assert driver.entry(op) == [True]
    assert driver.machine.queues["mail"].paused is before
