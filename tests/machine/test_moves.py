"""A job that has not started goes to another queue, as the same job."""

from __future__ import annotations

from exkiq.machine import Refused, State, check_invariants, commands, limits
from tests.machine.driver import MAIL, Driver


def test_a_waiting_job_goes_to_the_tail_of_the_target():
    """It came last there; its id, arguments and budget are its own."""
    driver = Driver()
    session = driver.begin()
    driver.add("a", "b")
    driver.add("x", spec=MAIL._replace(queue="log"))
    driver.take(session, "a")
    driver.fail_one(session, "a", "retry", 0)
    assert driver.move("a", "log") == "ok"
    assert [record.id for record in driver.applied.moved] == ["a"]
    assert driver.applied.ended == []
    assert (driver.waiting("mail"), driver.waiting("log")) == (["b"], ["x", "a"])
    job = driver.job("a")
    assert (job.state, job.failures, job.spec) == (State.RETRY, 1, MAIL._replace(queue="log"))
    assert driver.machine.queues["log"].retry == 1
    assert check_invariants(driver.machine) == []


def test_what_is_due_later_keeps_its_time():
    """HL-01: a job must not start early because it was moved."""
    driver = Driver()
    driver.add("a", "b", delay_ms=500)
    at_ms = driver.job("a").run_at_ms
    assert driver.move("a", "log") == "ok"
    assert (driver.job("a").run_at_ms, driver.state("a")) == (at_ms, State.SCHEDULED)
    assert driver.machine.next_deadline_ms() == at_ms
    driver.tick(499)
    assert driver.waiting("log") == []
    driver.tick(1)
    assert (driver.waiting("mail"), driver.waiting("log")) == (["b"], ["a"])
    assert check_invariants(driver.machine) == []


def test_a_job_that_started_stays():
    """Whoever asked is told that it is too late, or that there is none."""
    driver = Driver()
    session = driver.begin()
    driver.add("runs", "done", "failed")
    fence = driver.take(session, "runs", "done", "failed")
    driver.complete(session, ["done"], [fence])
    driver.fail_one(session, "failed", "failed")
    for job_id in ("runs", "done", "failed"):
        assert driver.move(job_id, "log") == "started"
    assert driver.move("never", "log") == "not_found"
    assert "log" not in driver.machine.queues
    assert not driver.applied.moved


def test_a_target_that_cannot_be_changes_nothing(monkeypatch):
    """HL-06: the origin itself, a name that no queue can have, one queue too many."""
    driver = Driver()
    driver.add("a")
    refused = driver.move("a", "mail")
    assert isinstance(refused, Refused)
    assert refused.text == "cannot move to 'mail', the job is there"
    assert isinstance(driver.move("a", "failed"), Refused)
    monkeypatch.setattr(limits, "QUEUES_MAX", 1)
    full = driver.move("a", "log")
    assert isinstance(full, Refused)
    assert full.text == "cannot move to 'log', the cluster has 1 queues, its limit"
    assert driver.waiting() == ["a"]


def test_a_repeated_move_gets_its_first_answer():
    """By then the job may have been moved back, or run."""
    driver = Driver()
    driver.add("a")
    op = commands.move(driver.pid(), "a", "log")
    assert driver.entry(op) == ["ok"]
    assert driver.move("a", "mail") == "ok"
    assert driver.entry(op) == ["ok"]
    assert driver.waiting("mail") == ["a"]


def test_a_move_into_a_paused_queue_waits_there():
    """Parking a job by hand: nothing starts until somebody resumes it."""
    driver = Driver()
    driver.pause("log")
    driver.add("a")
    assert driver.move("a", "log") == "ok"
    assert driver.waiting("log") == []
    driver.resume("log")
    assert driver.waiting("log") == ["a"]
