"""A running job that somebody cancelled, and what else is told of jobs that do not simply end."""

from __future__ import annotations

import pytest

from exkiq.machine import Machine, State, check_invariants, encode_snapshot
from tests.machine.driver import MAIL, Driver

DECISIONS = (["retry", 0], ["retry", 500], ["requeue"], ["move", "log"], ["failed"], ["abandon"])


def stopping() -> tuple[Driver, int]:
    """Job a runs and was cancelled, b runs and was not."""
    driver = Driver()
    session = driver.begin()
    driver.add("a", "b", spec=MAIL._replace(max_lost=0))
    driver.take(session, "a", "b")
    assert driver.cancel("a", running=True) == "stopping"
    assert [record.id for record in driver.applied.stopping] == ["a"]
    return driver, session


def test_a_running_job_goes_on_until_its_node_has_stopped_it():
    """The word is for the node: what runs is still running."""
    driver, session = stopping()
    assert driver.state("a") is State.RUNNING
    assert list(driver.machine.sessions_by_id[session].stopping) == ["a"]
    assert driver.cancel("a") == "in_progress"
    assert driver.cancel("b") == "in_progress"
    assert not driver.applied.stopping
    assert driver.cancel("a", running=True) == "stopping"
    assert [record.id for record in driver.applied.stopping] == ["a"]


def test_what_has_not_started_is_cancelled_as_ever():
    """Whoever asks does not know whether it runs."""
    driver = Driver()
    driver.add("a")
    assert driver.cancel("a", running=True) == "ok"
    assert driver.cancel("a", running=True) == "not_found"
    assert not driver.applied.stopping


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda decision: "-".join(map(str, decision)))
def test_whatever_was_decided_it_ends_cancelled_when_it_fails(decision):
    """A failure mode that tries again would start what somebody cancelled."""
    driver, session = stopping()
    driver.fail_one(session, "a", *decision)
    assert driver.state("a") is State.CANCELLED
    assert [record.id for record in driver.applied.ended] == ["a"]
    assert not any((driver.applied.retried, driver.applied.moved))
    assert [line[1] for line in driver.job("a").errors] == ["bad a"]
    assert driver.count("cancelled", "failed", "retry", "retried_total") == [1, 0, 0, 0]
    assert "log" not in driver.machine.queues
    driver.fail_one(session, "b", *decision)
    assert driver.state("b") is not State.CANCELLED
    assert check_invariants(driver.machine) == []


def test_one_that_succeeds_has_succeeded():
    """It was done before it heard of it."""
    driver, session = stopping()
    driver.complete(session, ["a"], [driver.job("a").fence], [b"v"])
    assert driver.state("a") is State.SUCCEEDED
    assert driver.machine.sessions_by_id[session].stopping == {}
    assert check_invariants(driver.machine) == []


@pytest.mark.parametrize("is_lost", [False, True])
def test_one_that_is_handed_back_or_lost_does_not_start_again(is_lost):
    """Its node is drained, or its child died of it."""
    driver, session = stopping()
    fence = driver.job("a").fence
    assert driver.hand_back(session, ["a", "b"], [fence] * 2, is_lost=is_lost) == 2
    assert driver.state("a") is State.CANCELLED
    assert driver.state("b") is (State.FAILED if is_lost else State.QUEUED)
    assert driver.job("a").lost == is_lost
    assert driver.count("lost_total") == [2 * is_lost]
    told = driver.applied.lost if is_lost else driver.applied.returned
    assert [record.id for record in told] == ["b"]
    assert check_invariants(driver.machine) == []


@pytest.mark.parametrize("is_orderly", [False, True])
def test_a_session_that_is_over_takes_its_stopping_jobs_with_it(is_orderly):
    """Another node would start them."""
    driver, session = stopping()
    assert driver.session_over("n1", session, is_orderly=is_orderly) == 2
    assert driver.state("a") is State.CANCELLED
    assert {record.id for record in driver.applied.ended} >= {"a"}
    assert check_invariants(driver.machine) == []


def test_a_snapshot_knows_which_jobs_are_to_stop():
    """A node that came later would let them be tried again."""
    driver, session = stopping()
    driver.machine = Machine.restore(encode_snapshot(driver.machine.capture()))
    assert list(driver.machine.sessions_by_id[session].stopping) == ["a"]
    driver.fail_one(session, "a", "retry", 0)
    assert driver.state("a") is State.CANCELLED


def test_attempts_that_come_back_are_told_with_how_they_came_back():
    """HL-02: whoever watches a job hears of each of its steps."""
    driver = Driver()
    session = driver.begin()
    ids = ("retry", "requeue", "move", "back", "lost", "gone", "failed")
    driver.add(*ids, spec=MAIL._replace(max_lost=1))
    fence = driver.take(session, *ids)
    heard = {}
    for job_id, decision in (("retry", ["retry", 9]), ("requeue", ["requeue"]), ("failed", None)):
        driver.fail_one(session, job_id, *(decision or ["failed"]))
        heard[job_id] = [record.id for record in driver.applied.retried]
    driver.fail_one(session, "move", "move", "log")
    heard["move"] = [record.id for record in driver.applied.moved]
    driver.hand_back(session, ["back"], [fence])
    heard["back"] = [record.id for record in driver.applied.returned]
    driver.hand_back(session, ["lost"], [fence], is_lost=True)
    heard["lost"] = [record.id for record in driver.applied.lost]
    driver.session_over("n1", session, is_orderly=False)
    heard["gone"] = [record.id for record in driver.applied.lost]
    assert heard == {job_id: [job_id] for job_id in ids} | {"failed": []}
