"""Claims, fences, completions, failures and what was decided about them."""

from __future__ import annotations

import pytest

from exkiq.machine import Refused, State, commands, limits
from tests.machine.driver import MAIL, Driver


def running(*ids: str) -> tuple[Driver, int, int]:
    """A driver with these jobs running: it, the session and the fence."""
    driver = Driver()
    session = driver.begin()
    driver.add(*ids)
    return driver, session, driver.take(session, *ids)


def test_a_claim_is_for_a_current_session_and_for_waiting_jobs_only():
    """P3: at most one claim of a job is live."""
    driver = Driver()
    session = driver.begin()
    driver.add("a")
    driver.add("scheduled", delay_ms=1_000)
    for node, number in (("n1", session + 1), ("n1", 0), ("n2", session)):
        assert driver.claim([(node, number, ["a"])]) == 0
    assert driver.claim([("n1", session, ["unknown", "scheduled", "a", "a"])]) == 1
    assert driver.claim([("n1", session, ["a"])]) == 0
    record = driver.job("a")
    assert (record.node, record.session, record.started_ms) == ("n1", session, driver.now_ms)
    assert list(driver.machine.sessions["n1"].running) == ["a"]
    assert driver.machine.sessions["n1"].claimed_total == 1
    assert driver.applied.claimed == []


def test_fences_grow_with_every_start():
    """HD-20: an old run can always be told from the present one."""
    driver, session, first = running("a")
    driver.hand_back(session, ["a"], [first])
    second = driver.take(session, "a")
    assert second > first
    assert driver.complete(session, ["a"], [first]) == 0
    assert driver.count("stale_completions") == [1]
    assert driver.state("a") is State.RUNNING
    assert driver.complete(session, ["a"], [second]) == 1


def test_a_job_is_not_claimed_twice_in_one_entry():
    """Both claims would have the same fence, and a late report of the first would count."""
    driver = Driver()
    session = driver.begin()
    driver.add("a")
    claim = commands.claim(driver.pid(), [("n1", session, ["a"])])
    back = commands.hand_back(driver.pid(), session, ["a"], [driver.machine.index + 1])
    assert driver.entry(claim, back, claim) == [1, 1, 0]
    assert driver.waiting() == ["a"]
    assert driver.claim([("n1", session, ["a"])]) == 1


@pytest.mark.parametrize("wrong", ["session", "fence", "id"])
def test_stale_reports_are_refused_and_counted(wrong):
    """HD-20: a stale or second completion changes nothing."""
    driver, session, fence = running("a")
    number = session + 1 if wrong == "session" else session
    job_id = "b" if wrong == "id" else "a"
    old = fence - 1 if wrong == "fence" else fence
    failure = [job_id, old, ["failed"], ["E", "m", "t"], 1]
    assert driver.complete(number, [job_id], [old]) == 0
    assert driver.fail(number, [failure]) == 0
    assert driver.hand_back(number, [job_id], [old]) == 0
    assert driver.checkpoint(number, job_id, old, b"c") is False
    assert driver.count("stale_completions", "running") == [2, 1]


def test_a_second_completion_is_stale():
    """P2: a job ends once."""
    driver, session, fence = running("a", "b")
    assert driver.complete(session, ["a"], [fence], [b"1"]) == 1
    assert driver.complete(session, ["a", "b"], [fence, fence], [b"2", b"3"]) == 1
    assert driver.job("a").result == b"1"
    assert driver.count("succeeded", "stale_completions") == [2, 1]


def test_a_completion_ends_the_job_and_keeps_its_value():
    """Waiters read everything from the record."""
    driver, session, fence = running("a", "b")
    driver.tick(70)
    assert driver.complete(session, ["a", "b"], [fence] * 2, [b"value", None], [60, 5]) == 2
    a, b = driver.applied.ended
    assert (a.id, a.state, a.result, a.completed_ms) == ("a", "succeeded", b"value", driver.now_ms)
    assert (b.id, b.state, b.result) == ("b", "succeeded", None)
    queue = driver.machine.queues["mail"]
    assert (queue.running, queue.succeeded_total, queue.run_ms_total) == (0, 2, 65)
    assert driver.machine.sessions["n1"].running == {}


def test_a_value_that_cannot_be_kept_does_not_fail_the_job():
    """HA-02: the job succeeded; asking for its result says why it is not there."""
    driver, session, fence = running("large", "odd")
    values = [bytes(limits.RESULT_BYTES_MAX + 1), ("SerializationError", "a set")]
    assert driver.complete(session, ["large", "odd"], [fence] * 2, values) == 2
    assert driver.job("large").result.kind == "ResultTooLarge"
    assert driver.job("odd").result == Refused("SerializationError", "a set")
    assert driver.count("succeeded") == [2]


@pytest.mark.parametrize(
    ("values", "run_ms"),
    [([], None), ([b"a", b"b"], None), (["text"], None), ([["one"]], None), (None, [1, 2])],
)
def test_a_completion_with_bad_columns_is_refused_as_a_whole(values, run_ms):
    """Columns of other lengths would give one job another's value."""
    driver, session, fence = running("a")
    assert isinstance(driver.complete(session, ["a"], [fence], values, run_ms), Refused)
    assert driver.state("a") is State.RUNNING


def test_odd_run_times_are_bounded_rather_than_refused():
    """A node's odd clock must not keep its jobs from ending."""
    driver, session, fence = running("a", "b")
    driver.complete(session, ["a", "b"], [fence] * 2, None, [-5, 2**62])
    assert driver.machine.queues["mail"].run_ms_total == limits.RUN_MS_MAX


def test_a_failure_with_retry_waits_for_its_time():
    """EX-14: to `retry` with a due time, counted as a failure."""
    driver, session, _ = running("a")
    assert driver.fail_one(session, "a", "retry", 3_000) == 1
    record = driver.job("a")
    assert (record.state, record.failures, record.attempt) == ("retry", 1, 2)
    assert (record.run_at_ms, record.retries_left) == (driver.now_ms + 3_000, 4)
    assert (record.started_ms, record.session, record.node) == (0, 0, "n1")
    assert record.errors == (("ValueError", "bad a", "line 1", driver.now_ms),)
    assert driver.machine.next_deadline_ms() == driver.now_ms + 3_000
    assert driver.machine.queues["mail"].retried_total == 1


def test_a_retry_without_delay_waits_in_its_lane_at_once():
    """No DUE is needed for what is due."""
    driver, session, _ = running("a")
    driver.add("b")
    driver.fail_one(session, "a", "retry", 0)
    assert driver.waiting() == ["b", "a"]
    assert driver.state("a") is State.RETRY


def test_a_final_failure_goes_into_the_failed_set():
    """EX-15: error, attempts and last node are kept."""
    driver, session, _ = running("a")
    driver.fail_one(session, "a", "failed")
    record = driver.job("a")
    assert driver.applied.ended == [record]
    assert list(driver.machine.failed) == ["a"]
    assert (record.state, record.node, record.completed_ms) == ("failed", "n1", driver.now_ms)
    assert driver.count("failed", "running") == [1, 0]


def test_an_abandoned_job_is_failed_but_not_in_the_set():
    """HL-05: its error is readable for the lifetime of a result."""
    driver, session, _ = running("a")
    driver.fail_one(session, "a", "abandon")
    assert driver.state("a") is State.FAILED
    assert driver.count("failed", "abandoned") == [0, 1]
    assert driver.retry(["a"]) == 0
    driver.tick(MAIL.result_ttl_ms)
    assert "a" not in driver.machine.jobs


def test_requeue_goes_to_the_tail_at_once():
    """HD-25: same queue, tail, counted as a failure."""
    driver, session, _ = running("a")
    driver.add("b")
    driver.fail_one(session, "a", "requeue")
    assert driver.waiting() == ["b", "a"]
    assert (driver.state("a"), driver.job("a").failures) == ("queued", 1)


def test_move_changes_the_queue_and_nothing_of_the_identity():
    """HL-06: one step, same id, fresh budget."""
    driver, session, _ = running("a")
    driver.fail_one(session, "a", "move", "other")
    record = driver.job("a")
    assert (record.spec.queue, record.spec.task, record.failures) == ("other", "app:Mail", 0)
    assert driver.waiting("other") == ["a"]
    assert driver.machine.queues["mail"].running == 0


@pytest.mark.parametrize("target", ["mail", "failed", "", "q" * 300, "third"])
def test_a_move_that_cannot_be_ends_in_the_failed_set(target, monkeypatch):
    """HL-20: never left in running."""
    monkeypatch.setattr(limits, "QUEUES_MAX", 1)
    driver, session, _ = running("a")
    assert driver.fail_one(session, "a", "move", target) == 1
    assert driver.state("a") is State.FAILED
    assert [error[0] for error in driver.job("a").errors] == ["ValueError", "Refused"]


@pytest.mark.parametrize(
    "decision",
    [[], ["no"], ["retry"], ["retry", -1], ["retry", True], ["retry", 1.5], ["move"], ["move", 1]],
)
def test_an_unknown_decision_is_refused(decision):
    """The node has a bug; the job stays its own until the session is over."""
    driver, session, _ = running("a")
    assert isinstance(driver.fail_one(session, "a", *decision), Refused)
    assert driver.state("a") is State.RUNNING


def test_a_retry_in_ten_thousand_years_is_bounded():
    """Powers of two reach any time; msgpack and calendars do not."""
    driver, session, _ = running("a")
    assert driver.fail_one(session, "a", "retry", 2**63 - 1) == 1
    assert driver.job("a").run_at_ms == driver.now_ms + limits.DELAY_MS_MAX


def test_errors_are_bounded_in_length_and_number():
    """EX-15: at most 8 KiB of traceback, the last lines of it."""
    driver, session, _ = running("a")
    for attempt in range(limits.ERRORS_MAX + 2):
        fence = driver.job("a").fence
        error = ["E" * 999, f"{attempt:05}" * 9_999, "é" * 9_999 + "the end"]
        driver.fail(session, [["a", fence, ["requeue"], error, 1]])
        driver.take(session, "a")
    errors = driver.job("a").errors
    assert [message[:5] for _, message, _, _ in errors] == [f"{n:05}" for n in range(2, 12)]
    kind, message, traceback, _ = errors[-1]
    assert (len(kind), len(message)) == (255, 10_000)
    assert 8 * 1024 - 2 <= len(traceback.encode()) <= 8 * 1024
    assert traceback.endswith("the end")
    assert errors[0][2] is errors[1][2]


def test_lost_jobs_come_back_and_are_failed_after_max_lost():
    """EX-23: `max_lost` redeliveries, not charged to retries, then the failed set."""
    driver = Driver()
    driver.add("a", spec=MAIL._replace(max_lost=2))
    session = driver.begin()
    for lost in (1, 2):
        fence = driver.take(session, "a")
        assert driver.hand_back(session, ["a"], [fence], is_lost=True) == 1
        assert (driver.state("a"), driver.job("a").lost) == ("queued", lost)
    driver.hand_back(session, ["a"], [driver.take(session, "a")], is_lost=True)
    record = driver.job("a")
    assert (record.state, record.failures, record.errors[-1][0]) == ("failed", 0, "JobLost")
    assert driver.applied.ended == [record]
    assert driver.count("lost_total", "failed") == [3, 1]


def test_a_checkpoint_is_there_for_the_next_start():
    """HA-08: given while running or with the hand-back; gone when the job succeeds."""
    driver, session, fence = running("a", "b")
    assert driver.checkpoint(session, "a", fence, b"half") is True
    driver.hand_back(session, ["a", "b"], [fence] * 2, [None, b"done"])
    assert [driver.job(job_id).checkpoint for job_id in "ab"] == [b"half", b"done"]
    fence = driver.take(session, "a", "b")
    driver.complete(session, ["a"], [fence])
    assert driver.job("a").checkpoint is None
    driver.fail_one(session, "b", "retry", 1)
    assert driver.job("b").checkpoint == b"done"


def test_a_checkpoint_that_is_too_large_is_refused():
    """It would be copied to every replica."""
    driver, session, fence = running("a")
    large = bytes(limits.CHECKPOINT_BYTES_MAX + 1)
    assert driver.checkpoint(session, "a", fence, large).kind == "JobTooLarge"
    assert driver.hand_back(session, ["a"], [fence], [large]).kind == "JobTooLarge"
    assert isinstance(driver.checkpoint(session, "a", fence, "text"), Refused)
    assert isinstance(driver.hand_back(session, ["a"], [fence], ["text"]), Refused)
