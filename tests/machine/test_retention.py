"""How long ended jobs, their results and their ids are kept, and how many of them."""

from __future__ import annotations

from exkiq.machine import Refused, check_invariants, limits
from tests.machine.driver import MAIL, Driver


def finish(driver: Driver, *ids: str, value: bytes | None = None, **spec: object) -> None:
    """Run jobs to their success, one entry each."""
    session = driver.begin()
    for job_id in ids:
        driver.add(job_id, spec=MAIL._replace(**spec))
        driver.complete(session, [job_id], [driver.take(session, job_id)], [value])
    assert check_invariants(driver.machine) == []


def test_the_last_thousand_successes_are_kept_and_counted_exactly():
    """EX-16."""
    driver = Driver()
    session = driver.begin()
    ids = [f"j{n}" for n in range(1_000)]
    driver.add(*ids)
    fence = driver.take(session, *ids)
    driver.complete(session, ids, [fence] * 1_000)
    assert len(driver.machine.jobs) == 1_000
    finish(driver, "x", "y")
    assert list(driver.machine.jobs)[:1] == ["j2"]
    assert len(driver.machine.succeeded) == 1_000
    assert driver.count("succeeded") == [1_002]


def test_a_result_outlives_the_list_of_successes(monkeypatch):
    """HA-02: a value is readable for its lifetime, and not a second longer than that."""
    monkeypatch.setattr(limits, "SUCCEEDED_JOBS_MAX", 1)
    driver = Driver()
    finish(driver, "a", "b", "c", value=b"v")
    assert [record.id for record in driver.machine.succeeded] == ["c"]
    assert driver.job("a").result == b"v"
    assert driver.job("a").payload == b""
    assert driver.machine.next_deadline_ms() == driver.now_ms + 61_000
    driver.tick(599_999)
    assert driver.job("a").result == b"v"
    driver.tick(1)
    assert list(driver.machine.jobs) == ["c"]
    assert check_invariants(driver.machine) == []


def test_a_listed_success_says_that_its_result_has_expired():
    """Else a value that is gone would look like None."""
    driver = Driver()
    finish(driver, "a", value=b"v", result_ttl_ms=1_500)
    driver.tick(1_500)
    driver.tick(499)
    driver.tick(1)
    assert driver.job("a").result == Refused(
        "NoSuchJob", "its result was kept for its lifetime and is gone"
    )
    assert driver.machine.kept_bytes == 0


def test_none_is_readable_while_the_success_is_listed():
    """A value of None costs nothing to keep."""
    driver = Driver()
    finish(driver, "a", value=None)
    driver.tick(10**9)
    assert driver.job("a").result is None
    assert driver.machine.next_deadline_ms() is None


def test_all_results_together_are_bounded(monkeypatch):
    """Those nearest to their end go first."""
    monkeypatch.setattr(limits, "RESULTS_BYTES_MAX", 2 * (limits.RESULT_OVERHEAD_BYTES + 10))
    driver = Driver()
    finish(driver, "long", value=b"x" * 10)
    finish(driver, "short", value=b"x" * 10, result_ttl_ms=1_000)
    finish(driver, "new", value=b"x" * 10)
    assert [type(driver.job(i).result) for i in ("long", "short", "new")] == [bytes, Refused, bytes]


def test_the_failed_set_is_bounded_by_number_by_bytes_and_by_age(monkeypatch):
    """EX-15: oldest dropped, and counted."""
    monkeypatch.setattr(limits, "FAILED_JOBS_MAX", 2)
    monkeypatch.setattr(limits, "FAILED_BYTES_MAX", 10)
    driver = Driver()
    session = driver.begin()
    for job_id, size in (("a", 1), ("b", 1), ("c", 1), ("d", 10), ("e", 0)):
        driver.tick(1)
        driver.enqueue(MAIL, [job_id], [bytes(size)])
        driver.take(session, job_id)
        driver.fail_one(session, job_id, "failed")
    assert list(driver.machine.failed) == ["d", "e"]
    assert driver.count("failed_dropped") == [3]
    assert set(driver.machine.jobs) == {"d", "e"}
    driver.tick(61_000)
    assert driver.machine.next_deadline_ms() == driver.job("d").completed_ms + 180 * 86_400_000
    driver.tick(180 * 86_400_000 - 61_001)
    assert list(driver.machine.failed) == ["e"]
    driver.tick(1)
    assert driver.count("failed", "failed_dropped") == [0, 5]
    assert check_invariants(driver.machine) == []


def test_the_last_cancelled_jobs_are_kept(monkeypatch):
    """Waiters that come late still learn of it."""
    monkeypatch.setattr(limits, "CANCELLED_JOBS_MAX", 2)
    driver = Driver()
    for job_id in "abc":
        driver.add(job_id)
        driver.cancel(job_id)
    assert list(driver.machine.jobs) == ["b", "c"]
    assert driver.machine.tombstone("a").state == "cancelled"


def test_large_arguments_of_ended_jobs_are_dropped():
    """A thousand of them would hold a gigabyte."""
    driver = Driver()
    session = driver.begin()
    sizes = {"small": limits.ENDED_ARGUMENTS_BYTES_MAX, "large": 5_000, "failed": 5_000}
    for job_id, size in sizes.items():
        driver.enqueue(MAIL, [job_id], [bytes(size)])
    fence = driver.take(session, *sizes)
    driver.complete(session, ["small", "large"], [fence] * 2)
    driver.fail_one(session, "failed", "failed")
    assert [len(driver.job(job_id).payload) for job_id in sizes] == [4_096, 0, 5_000]


def test_one_due_does_a_bounded_number_of_steps(monkeypatch):
    """However much is due, no apply stalls the node; the deadline stays due."""
    monkeypatch.setattr(limits, "DUE_MOVES_MAX", 2)
    driver = Driver()
    driver.add("a", "b", "c", delay_ms=1)
    assert driver.tick(1) == 2
    assert driver.machine.next_deadline_ms() == driver.now_ms
    assert driver.tick(0) == 1
    assert driver.waiting() == ["a", "b", "c"]


def test_dropped_timers_do_not_pile_up():
    """Cancelling scheduled jobs must free their timers long before their time."""
    driver = Driver()
    for n in range(500):
        driver.add(f"j{n}", delay_ms=10**9)
        driver.cancel(f"j{n}")
    assert len(driver.machine.due) == 0
    assert len(driver.machine.due._heap) < 100
    assert driver.machine.next_deadline_ms() == driver.now_ms + 61_000
