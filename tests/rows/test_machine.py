"""Rows of order, completion and moves, on the state machine that every node has."""

from __future__ import annotations

from typing import Any

from exkiq.machine import Machine, Refused, State, check_invariants, encode_snapshot
from exkiq.queues.waiters import Waiters
from tests.machine.driver import MAIL, Driver
from tests.sim.trial import Trial
from tests.sim.trial import run as run_trial


def _elect(driver: Driver) -> None:
    """Another node leads from now on, with what it took in as a snapshot."""
    driver.machine = Machine.restore(encode_snapshot(driver.machine.capture()))
    driver.term += 1


def _starts(driver: Driver, session: int) -> list[str]:
    """What would start next, one after the other, a new leader between any two."""
    order = []
    while ids := driver.waiting()[:1]:
        driver.take(session, *ids)
        order += ids
        _elect(driver)
    return order


def test_HD_21_first_in_first_out_by_the_log_and_higher_priority_first() -> None:
    """Jobs overtake each other, at the latest when the leader changes."""
    driver = Driver()
    session = driver.begin()
    for number in range(6):
        priority = 5 if number % 3 == 2 else 0
        driver.add(f"j{number}", spec=MAIL._replace(priority=priority))
        _elect(driver)
    driver.add("urgent", spec=MAIL._replace(priority=9))
    driver.add("whenever", spec=MAIL._replace(priority=-1))
    assert _starts(driver, session) == ["urgent", "j2", "j5", "j0", "j1", "j3", "j4", "whenever"]


def test_HD_21_retries_go_to_the_tail_and_hand_backs_to_the_front() -> None:
    """A failing job holds up all behind it, or a drain sends its jobs to the end."""
    driver = Driver()
    session = driver.begin()
    ids = ["a", "b", "c", "d", "e"]
    driver.add(*ids)
    fence = driver.take(session, *ids[:4])
    driver.fail_one(session, "a", "retry", 0)
    driver.hand_back(session, ["d", "b"], [fence, fence])
    driver.hand_back(session, ["c"], [fence], is_lost=True)
    assert _starts(driver, session) == ["c", "b", "d", "e", "a"]


def test_HD_21_what_waited_for_a_node_that_can_run_it_has_kept_its_place() -> None:
    """Jobs that were put aside start behind younger ones of their own task."""
    driver = Driver()
    session = driver.begin()
    driver.add("a", "b")
    driver.park("app:Mail", ["a", "b"])
    driver.add("c")
    driver.unpark("app:Mail", 1)
    driver.unpark("app:Mail", 1)
    assert _starts(driver, session) == ["a", "b", "c"]


def test_HD_21_order_holds_in_whole_clusters_whose_leaders_die() -> None:
    """What the leader hands out is checked entry by entry, in seconds of virtual time."""
    result = run_trial(Trial(5, seconds=3.0, nodes=3, faults=("crash",)))
    assert result.kind == "", result.text
    assert result.outcome is not None
    assert result.outcome.leadings > 1
    assert result.outcome.jobs > 20


def _waiting(driver: Driver, job_id: str, heard: list[Any]) -> Waiters:
    """Somebody who waits for a job, on the node that has this machine."""
    waiters = Waiters(lambda: driver.machine, lambda *_: None)  # type: ignore[arg-type]
    waiters.wait(job_id, None, lambda _, outcome: heard.append(outcome))
    return waiters


def test_HD_20_one_command_ends_the_job_keeps_the_value_and_wakes_who_waits() -> None:
    """A crash between two commands would leave a job that ended without its value."""
    driver = Driver()
    session = driver.begin()
    driver.add("a")
    heard: list[Any] = []
    waiters = _waiting(driver, "a", heard)
    fence = driver.take(session, "a")
    waiters.applied(driver.applied)
    assert heard == []
    assert driver.complete(session, ["a"], [fence], [b"v"], [5]) == 1
    waiters.applied(driver.applied)
    assert heard == [["succeeded", b"v"]]
    assert (driver.state("a"), driver.job("a").result) == (State.SUCCEEDED, b"v")


def test_HD_20_the_fence_is_the_logs_index_and_grows_with_every_start() -> None:
    """Two starts under one fence could not be told apart."""
    driver = Driver()
    session = driver.begin()
    driver.add("a")
    fences = []
    for again in (["retry", 0], ["requeue"], None, ["failed"]):
        fences.append(driver.take(session, "a"))
        assert driver.job("a").fence == driver.machine.index
        if again is None:
            driver.hand_back(session, ["a"], fences[-1:])
        else:
            driver.fail_one(session, "a", *again)
    driver.retry(["a"])
    fences.append(driver.take(session, "a"))
    assert fences == sorted(set(fences))


def test_HD_20_a_stale_or_second_completion_is_refused_and_counted() -> None:
    """A run that was given up would overwrite the value of the one that counts."""
    driver = Driver()
    former = driver.begin()
    driver.add("a")
    old = driver.take(former, "a")
    session = driver.begin(run_id="again")
    fence = driver.take(session, "a")
    assert driver.complete(former, ["a"], [old], [b"old"]) == 0
    assert driver.complete(session, ["a"], [old], [b"old"]) == 0
    assert driver.complete(session, ["a"], [fence], [b"new"]) == 1
    assert driver.complete(session, ["a"], [fence], [b"again"]) == 0
    assert driver.fail(session, [["a", fence, ["failed"], ["E", "m", "t"], 1]]) == 0
    assert driver.count("stale_completions") == [4]
    assert (driver.state("a"), driver.job("a").result) == (State.SUCCEEDED, b"new")


def test_HD_20_neither_a_caller_nor_a_child_that_is_gone_changes_the_end() -> None:
    """A job that is done would be tried again, because its child died a moment later."""
    driver = Driver()
    session = driver.begin()
    driver.add("a", spec=MAIL._replace(max_lost=0))
    heard: list[Any] = []
    waiters = _waiting(driver, "a", heard)
    fence = driver.take(session, "a")
    waiters.drop(waiters._waiting["a"][0])
    driver.complete(session, ["a"], [fence], [b"v"])
    waiters.applied(driver.applied)
    assert driver.hand_back(session, ["a"], [fence], is_lost=True) == 0
    assert driver.session_over("n1", session, is_orderly=False) == 0
    assert (heard, driver.state("a"), driver.job("a").lost) == ([], State.SUCCEEDED, 0)
    assert driver.count("lost_total", "failed") == [0, 0]


def test_HL_06_move_is_one_step_with_the_same_id_and_a_fresh_budget() -> None:
    """Between two steps a job would be in no queue, or in both."""
    driver = Driver()
    session = driver.begin()
    driver.add("a", spec=MAIL._replace(retries=1))
    heard: list[Any] = []
    waiters = _waiting(driver, "a", heard)
    for decision in (["retry", 0], ["move", "elsewhere"]):
        driver.take(session, "a")
        driver.fail_one(session, "a", *decision)
        waiters.applied(driver.applied)
    assert [record.id for record in driver.applied.moved] == ["a"]
    assert (driver.waiting("mail"), driver.waiting("elsewhere")) == ([], ["a"])
    assert (driver.job("a").failures, driver.job("a").retries_left) == (0, 1)
    assert heard == []
    fence = driver.take(session, "a")
    driver.complete(session, ["a"], [fence], [b"there"])
    waiters.applied(driver.applied)
    assert heard == [["succeeded", b"there"]]
    assert check_invariants(driver.machine) == []


def test_HL_06_an_unknown_target_comes_into_being_and_the_origin_is_none() -> None:
    """A job would be moved for ever, or be lost because nobody declared its target."""
    driver = Driver()
    session = driver.begin()
    driver.add("a", "b")
    assert "new" not in driver.machine.queues
    assert driver.move("a", "new") == "ok"
    assert driver.machine.queues["new"].queued == 1
    refused = driver.move("b", "mail")
    assert isinstance(refused, Refused)
    assert "'mail'" in refused.text
    driver.take(session, "b")
    driver.fail_one(session, "b", "move", "mail")
    assert driver.state("b") is State.FAILED
    assert driver.job("b").errors[-1][1] == "cannot move to 'mail', the job is there"
