"""Who is handed out next: FIFO, priority, hand-backs, due jobs, paused queues."""

from __future__ import annotations

from exkiq.machine import Refused, Spec, State, commands
from tests.machine.driver import MAIL, Driver


def test_first_in_first_out_within_a_priority_and_higher_priority_first():
    """Else a job could wait behind younger or less urgent ones."""
    driver = Driver()
    driver.add("a", "b")
    driver.add("urgent", spec=MAIL._replace(priority=5))
    driver.add("later", spec=MAIL._replace(priority=-5))
    driver.add("c")
    assert driver.waiting() == ["urgent", "a", "b", "c", "later"]
    assert driver.machine.waiting_count("mail") == 5


def test_jobs_handed_back_stand_in_front_in_their_former_order():
    """Else a drain would shuffle the queue, or send its jobs to the end."""
    driver = Driver()
    driver.add("a", "b", "c", "d")
    session = driver.begin()
    fence = driver.take(session, "a", "b", "c")
    assert driver.hand_back(session, ["c", "a"], [fence, fence]) == 2
    assert driver.waiting() == ["a", "c", "d"]
    assert driver.hand_back(session, ["b"], [fence]) == 1
    assert driver.waiting() == ["b", "a", "c", "d"]
    assert driver.job("a").lost == 0
    assert driver.job("a").failures == 0
    assert driver.state("a") is State.QUEUED


def test_order_survives_being_handed_back_again_and_again():
    """Jobs from the front go back to the front before jobs from behind them."""
    driver = Driver()
    driver.add("a", "b", "c", "d")
    session = driver.begin()
    for _ in range(3):
        ids = driver.waiting()[:3]
        fence = driver.take(session, *ids)
        driver.hand_back(session, ids[::-1], [fence] * 3)
        assert driver.waiting() == ["a", "b", "c", "d"]


def test_lost_jobs_stand_in_front_each_in_its_own_queue():
    """A lost node must not cost its jobs their place."""
    driver = Driver()
    driver.add("a", "b")
    driver.add("x", "y", spec=Spec("app:Log", "log"))
    session = driver.begin()
    driver.take(session, "a", "x")
    assert driver.session_over("n1", session, is_orderly=False) == 2
    assert driver.waiting("mail") == ["a", "b"]
    assert driver.waiting("log") == ["x", "y"]


def test_scheduled_jobs_are_never_in_the_way_and_come_in_order_of_time_then_number():
    """HL-01: due jobs are promoted by (run_at, sequence), not by when they were enqueued."""
    driver = Driver()
    driver.add("late", delay_ms=3_000)
    driver.add("early", delay_ms=1_000)
    driver.add("late2", run_at_ms=driver.now_ms + 3_000)
    driver.add("now")
    assert driver.waiting() == ["now"]
    assert driver.machine.next_deadline_ms() == driver.now_ms + 1_000
    driver.tick(3_000)
    assert driver.waiting() == ["now", "early", "late", "late2"]
    assert driver.count("queued", "scheduled") == [4, 0]
    assert driver.machine.next_deadline_ms() is None


def test_nothing_is_due_before_its_time_and_a_clock_that_steps_back_undoes_nothing():
    """P5: time in the log never runs backwards."""
    driver = Driver()
    driver.add("a", delay_ms=1_000)
    driver.tick(999)
    assert driver.state("a") is State.SCHEDULED
    driver.tick(-500_000)
    assert driver.machine.now_ms == driver.now_ms + 500_000
    assert driver.state("a") is State.SCHEDULED
    driver.tick(500_001)
    assert driver.state("a") is State.QUEUED
    driver.tick(-900_000)
    driver.add("b")
    assert driver.waiting() == ["a", "b"]


def test_a_time_that_is_past_means_now():
    """A past `run_at` must not jump the queue."""
    driver = Driver()
    driver.add("a")
    driver.add("b", run_at_ms=1)
    assert driver.waiting() == ["a", "b"]
    assert driver.job("b").run_at_ms == driver.now_ms


def test_a_due_retry_stays_a_retry_until_it_is_claimed():
    """EX-20: it is counted as retry, and waits in its lane."""
    driver = Driver()
    driver.add("a", "b", "c")
    session = driver.begin()
    driver.take(session, "a")
    driver.fail_one(session, "a", "retry", 2_000)
    assert driver.waiting() == ["b", "c"]
    assert driver.count("queued", "retry") == [2, 1]
    assert driver.claim([("n1", session, ["a"])]) == 0
    driver.tick(2_000)
    assert driver.waiting() == ["b", "c", "a"]
    assert driver.count("queued", "retry") == [2, 1]
    assert driver.state("a") is State.RETRY
    driver.take(session, "a")
    assert driver.count("queued", "retry", "running") == [2, 0, 1]
    assert driver.job("a").attempt == 2


def test_a_paused_queue_hands_out_nothing_and_takes_everything_in():
    """HD-T4: no new starts, running jobs finish, enqueues are accepted."""
    driver = Driver()
    driver.add("a", "b")
    session = driver.begin()
    fence = driver.take(session, "a")
    assert driver.pause("mail") is True
    assert driver.pause("mail") is False
    driver.add("c")
    assert driver.waiting() == []
    assert driver.machine.waiting_count("mail") == 0
    assert driver.claim([("n1", session, ["b"])]) == 0
    assert driver.complete(session, ["a"], [fence]) == 1
    assert driver.resume("mail") is True
    assert driver.resume("mail") is False
    assert driver.waiting() == ["b", "c"]


def test_a_queue_can_be_paused_before_it_is_used():
    """Else its first jobs would slip through."""
    driver = Driver()
    assert driver.resume("mail") is False
    assert driver.pause("mail") is True
    driver.add("a")
    assert driver.waiting() == []


def test_declared_queues_are_there_with_nothing_in_them():
    """Statistics show each configured queue."""
    driver = Driver()
    assert driver.declare(["mail", "log", "mail"]) == 2
    assert driver.declare(["mail"]) == 0
    assert list(driver.machine.queues) == ["mail", "log"]
    assert driver.waiting("mail") == driver.waiting("unknown") == []
    assert isinstance(driver.declare(["ok", "failed"]), Refused)
    assert "ok" not in driver.machine.queues


def test_a_claim_may_ride_in_the_entry_of_its_enqueue():
    """D8: one commit from enqueue to start."""
    driver = Driver()
    session = driver.begin()
    enqueue = commands.enqueue(driver.pid(), MAIL, ["a"], [b"call"])
    claim = commands.claim(driver.pid(), [("n1", session, ["a"])])
    assert driver.entry(enqueue, claim) == [[1, []], 1]
    (claimed,) = driver.applied.claimed
    assert (claimed.node, claimed.session) == ("n1", session)
    assert claimed.fence == driver.machine.index == driver.job("a").fence
    assert [record.payload for record in claimed.records] == [b"call"]


def test_latency_is_the_age_of_the_longest_waiting_head():
    """`exkiq status` shows how far a queue is behind."""
    driver = Driver()
    queue_of = driver.machine.queues
    driver.declare(["mail"])
    assert queue_of["mail"].latency_ms(driver.now_ms) == 0
    driver.add("a")
    driver.tick(700)
    driver.add("b", spec=MAIL._replace(priority=9))
    assert queue_of["mail"].latency_ms(driver.now_ms) == 700


def test_many_priorities_leave_no_empty_lanes_behind():
    """A queue must not grow with priorities that were used once."""
    driver = Driver()
    session = driver.begin()
    for priority in range(50):
        driver.add(f"j{priority}", spec=MAIL._replace(priority=priority))
        driver.take(session, f"j{priority}")
    assert len(driver.machine.queues["mail"].lanes) < 20
