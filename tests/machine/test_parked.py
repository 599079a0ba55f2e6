"""Jobs that no node can run: put aside so that others pass, and back to where they stood."""

from __future__ import annotations

import pytest

from exkiq.machine import Machine, Refused, State, check_invariants, commands, encode_snapshot
from exkiq.machine.record import Record
from tests.machine.driver import MAIL, Driver

OTHER = MAIL._replace(task="app:Other")
LOG = MAIL._replace(queue="log")


def aside(*ids: str) -> Driver:
    """Jobs a to e of one task wait, with o of another among them; these are put aside."""
    driver = Driver()
    driver.add("a", "b", "c")
    driver.add("o", spec=OTHER)
    driver.add("d", "e")
    assert driver.park("app:Mail", ids) == len(ids)
    assert check_invariants(driver.machine) == []
    return driver


def counted(driver):
    """How many jobs of each task were put aside."""
    return {task: len(lane) for task, lane in driver.machine.parked.items()}


def test_others_pass_and_nothing_else_is_changed():
    """HA-04: one unknown task must not hold up a queue, nor its jobs be lost from sight."""
    driver = aside("a", "b")
    assert driver.waiting() == ["c", "o", "d", "e"]
    assert driver.machine.waiting_count("mail") == 4
    assert driver.count("queued", "unknown_task") == [6, 2]
    assert counted(driver) == {"app:Mail": 2}
    assert [record.id for record in driver.machine.parked_jobs("mail")] == ["a", "b"]
    assert list(driver.machine.parked_jobs("log")) == []
    assert driver.state("a") is State.QUEUED


def test_they_come_back_to_where_they_stood():
    """HD-21: they came first, so they start first, however many come back at a time."""
    driver = aside("b", "a", "c", "d")
    for count, waiting in ((1, "aoe"), (2, "abcoe"), (1, "abcode")):
        assert driver.unpark("app:Mail", count) == count
        assert driver.waiting() == list(waiting)
    assert driver.unpark("app:Mail", 1_000) == 0
    assert counted(driver) == driver.machine.parked == {}
    assert check_invariants(driver.machine) == []


def test_a_thousand_at_a_time_keep_their_order_and_what_was_handed_back_its_place():
    """Batches come back while earlier ones still wait, behind what is in front of all."""
    driver = Driver()
    ids = [f"j{number:04}" for number in range(2_500)]
    for start in range(0, 2_500, 500):
        driver.add(*ids[start : start + 500])
    session = driver.begin()
    fence = driver.take(session, ids[7])
    driver.hand_back(session, [ids[7]], [fence])
    rest = [job_id for job_id in ids if job_id != ids[7]]
    for start in (1_000, 2_000, 0):
        driver.park("app:Mail", rest[start : start + 1_000])
    assert driver.waiting() == [ids[7]]
    driver.add("young")
    driver.unpark("app:Mail", 1_000)
    driver.park("app:Mail", [ids[7], rest[3]])
    while driver.unpark("app:Mail", 1_000):
        assert check_invariants(driver.machine) == []
    assert driver.waiting() == [ids[7], *rest, "young"]


def test_lanes_of_many_queues_and_priorities_each_get_their_own_back():
    """A task may be used in many queues."""
    driver = Driver()
    driver.add("low", "low2")
    driver.add("log", "log2", spec=LOG)
    driver.add("high", spec=MAIL._replace(priority=5))
    ids = ["high", "low", "log", "low2"]
    assert driver.park("app:Mail", ids) == 4
    assert counted(driver) == {"app:Mail": 4}
    assert driver.unpark("app:Mail", 2) == 2
    assert (driver.waiting("mail"), driver.waiting("log")) == (["low", "low2"], ["log2"])
    assert driver.unpark("app:Mail", 2) == 2
    assert driver.waiting("mail") == ["high", "low", "low2"]
    assert driver.waiting("log") == ["log", "log2"]


def test_what_does_not_wait_or_is_of_another_task_is_passed_over():
    """The leader knew an older state."""
    driver = Driver()
    session = driver.begin()
    driver.add("runs", "done", "a")
    driver.add("later", delay_ms=1_000)
    driver.add("o", spec=OTHER)
    fence = driver.take(session, "runs", "done")
    driver.complete(session, ["done"], [fence])
    ids = ["runs", "done", "later", "o", "unknown", "a", "a"]
    assert driver.park("app:Mail", ids) == 1
    assert driver.park("app:Mail", ["a"]) == 0
    assert driver.unpark("app:Other", 5) == 0
    assert driver.waiting() == ["o"]


def test_a_job_that_was_put_aside_is_not_claimed():
    """Two entries of one leader may cross: the claim was said before."""
    driver = aside("a")
    session = driver.begin()
    assert driver.claim([("n1", session, ["a", "b"])]) == 1
    assert [record.id for record in driver.applied.claimed[0].records] == ["b"]
    assert counted(driver) == {"app:Mail": 1}


def test_a_retry_stays_one():
    """Its count would go wrong, and its budget be forgotten."""
    driver = Driver()
    session = driver.begin()
    driver.add("a")
    driver.take(session, "a")
    driver.fail_one(session, "a", "retry", 0)
    assert driver.park("app:Mail", ["a"]) == 1
    assert driver.count("retry", "queued", "unknown_task") == [1, 0, 1]
    driver.tick(1_000)
    assert driver.unpark("app:Mail", 1) == 1
    assert (driver.state("a"), driver.waiting()) == (State.RETRY, ["a"])


def test_they_can_be_cancelled_cleared_and_moved():
    """People must get rid of what nobody can run."""
    driver = aside("a", "b", "c", "d")
    assert driver.cancel("a") == "ok"
    assert driver.move("b", "log") == "ok"
    assert driver.waiting("log") == ["b"]
    assert driver.job("b").timer == 0
    assert driver.park("app:Mail", ["b"]) == 1
    assert driver.clear("mail") == 4
    assert [record.id for record in driver.applied.ended] == ["o", "e", "c", "d"]
    assert counted(driver) == {"app:Mail": 1}
    assert driver.clear("log") == 1
    assert driver.machine.parked == {}
    assert check_invariants(driver.machine) == []


def test_a_pause_and_a_lost_node_leave_them_where_they_are():
    """Neither is about them, and a paused queue must not start what comes back."""
    driver = aside("a")
    session = driver.begin()
    driver.take(session, "b")
    driver.pause("mail")
    driver.session_over("n1", session, is_orderly=False)
    assert counted(driver) == {"app:Mail": 1}
    assert driver.unpark("app:Mail", 1) == 1
    assert driver.waiting() == []
    driver.resume("mail")
    assert driver.waiting() == ["b", "a", "c", "o", "d", "e"]


def test_a_snapshot_has_them_and_their_order():
    """A node that came later would hand out what nobody can run."""
    driver = aside("d", "a")
    driver.add("x", spec=LOG)
    driver.park("app:Mail", ["x"])
    data = encode_snapshot(driver.machine.capture())
    driver.machine = Machine.restore(data)
    assert check_invariants(driver.machine) == []
    assert encode_snapshot(driver.machine.capture()) == data
    assert list(driver.machine.parked["app:Mail"]) == ["a", "d", "x"]
    assert driver.waiting() == ["b", "c", "o", "e"]
    driver.unpark("app:Mail", 2)
    assert driver.waiting() == ["a", "b", "c", "o", "d", "e"]


def test_a_snapshot_in_which_all_were_put_aside():
    """Jobs of one kind that simply wait are read in a quicker way."""
    driver = Driver()
    driver.add("a", "b")
    driver.park("app:Mail", ["a", "b"])
    restored = Machine.restore(encode_snapshot(driver.machine.capture()))
    assert check_invariants(restored) == []
    assert list(restored.waiting("mail")) == []
    assert restored.counts() == driver.machine.counts()


def test_a_capture_does_not_see_them_come_and_go():
    """The snapshot is written while the machine goes on."""
    driver = aside("a")
    capture = driver.machine.capture()
    data = encode_snapshot(capture)
    driver.park("app:Mail", ["b"])
    driver.unpark("app:Mail", 1)
    assert encode_snapshot(capture) == data


@pytest.mark.parametrize("verb", ["park", "unpark"])
def test_only_the_present_leader_may_say_it(verb):
    """A former one would put aside what a node can run by now."""
    driver = aside("a")
    driver.term = 2
    driver.add("f")
    driver.term = 1
    argument = ["b"] if verb == "park" else 1
    answer = getattr(driver, verb)("app:Mail", argument)
    assert isinstance(answer, Refused)
    assert "stale_term" in answer.text
    assert counted(driver) == {"app:Mail": 1}


def test_there_is_a_limit_of_jobs_at_once():
    """One entry must not hold up a node."""
    driver = Driver()
    answer = driver.park("app:Mail", [f"j{number}" for number in range(1_001)])
    assert isinstance(answer, Refused)
    assert isinstance(driver.unpark("app:Mail", 1_001), Refused)
    assert commands.Op.PARK not in commands.CLIENT_OPS


def test_what_was_let_go_leaves_nothing_behind():
    """A machine that was replaced must give its memory back."""
    driver = aside("a", "b")
    parked: list[Record] = list(driver.machine.parked_jobs("mail"))
    driver.machine.let_go(lambda: None)
    assert not any(record.segment.records for record in parked)
