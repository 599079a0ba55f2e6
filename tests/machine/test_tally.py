"""Times and rates: right within what they promise, small, and made of ints alone."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exkiq.machine import Machine, encode_snapshot, limits
from exkiq.machine.tally import WINDOW_MS, WINDOWS_MAX, EndedRecently, Tally
from tests.machine.driver import MAIL, Driver

TIMES = st.lists(st.integers(0, limits.TIME_MS_MAX) | st.integers(0, 5_000), min_size=1)


@settings(max_examples=200, deadline=None, database=None)
@given(times=TIMES, part=st.integers(0, 100))
def test_a_tally_is_right_within_a_sixteenth(times, part):
    """People would look for a slow job where there is none."""
    tally = Tally()
    tally.observe(times)
    assert (tally.count, tally.total, tally.max) == (len(times), sum(times), max(times))
    wanted = sorted(times)[max(0, -(-part * len(times) // 100) - 1)]
    found = tally.quantile(part / 100)
    assert abs(found - wanted) <= wanted / 16
    assert found <= max(times)


@settings(max_examples=100, deadline=None, database=None)
@given(parts=st.lists(TIMES, min_size=1, max_size=4))
def test_how_times_are_grouped_makes_no_difference(parts):
    """One entry may carry a thousand ends or one: replicas and twins would differ."""
    one, other = Tally(), Tally()
    for times in parts:
        one.observe(times)
        for ms in times:
            other.observe([ms])
    assert (
        one.take().row()
        == other.take().row()
        == Tally.of_row(msgpack.unpackb(msgpack.packb(one.take().row()))).take().row()
    )


def test_many_equal_times_are_counted_as_few():
    """A thousand jobs that were enqueued at once start at once."""
    tally = Tally()
    tally.observe([7] * 1_000 + [100_000])
    assert (tally.count, tally.max) == (1_001, 100_000)
    assert [tally.quantile(part) for part in (0.0, 0.5, 0.99)] == [7, 7, 7]
    assert tally.quantile(1.0) == pytest.approx(100_000, rel=1 / 16)
    assert tally.mean() == round((7_000 + 100_000) / 1_001)


def test_an_empty_tally_says_nothing():
    """A queue that was never used is in every statistic."""
    tally = Tally()
    assert (tally.count, tally.mean(), tally.quantile(0.95), tally.max) == (0, 0, 0, 0)
    assert tally.take().row() == [0, 0]


def test_the_total_stays_what_a_snapshot_can_hold():
    """Jobs that waited while a clock went to the year 9999: no node could write a snapshot."""
    driver, one = Driver(), Tally()
    for _ in range(40_000):
        one.observe([limits.TIME_MS_MAX])
    driver.add("a")
    driver.machine.queues["mail"].waited = one
    other = Tally.of_row(one.take().row())
    for tally in (one, other):
        tally.observe([limits.TIME_MS_MAX, 7] * 50)
        assert tally.total == limits.INT_MAX
    assert one.take().row() == other.take().row()
    restored = Machine.restore(encode_snapshot(driver.machine.capture()))
    assert restored.queues["mail"].waited.mean() == one.mean()


def test_what_a_capture_took_does_not_change():
    """The snapshot is written while jobs start and end."""
    tally, ended = Tally(), EndedRecently()
    tally.observe([5])
    ended.add(0, 1)
    taken, windows, again = tally.take(), ended.take(), tally.take()
    for times in ([5], [6, 7], [8] * 200):
        tally.observe(times)
        ended.add(0, 1)
        ended.add(WINDOW_MS, 1)
    assert taken.row() == again.row() == [5, 5, 5, 1]
    assert windows == {0: 1}
    assert tally.count == 204
    assert ended.windows == {0: 4, 1: 3}


def test_the_buckets_are_few():
    """A row of each queue is in every snapshot."""
    tally = Tally()
    for bits in range(48):
        tally.observe([1 << bits, (1 << bits) + (1 << bits) // 3])
    assert max(tally.buckets) < 400


def test_a_row_that_no_tally_gave_is_refused():
    """Of a snapshot with a bug."""
    for row in ([], [1], [1, 2, 3]):
        with pytest.raises(ValueError, match=r"unpack|zip"):
            Tally.of_row(row)


def test_rates_over_one_and_five_minutes():
    """HD-T5: what ended in the last minute, or five, and in the window under way."""
    ended, now_ms = EndedRecently(), 1_000_000_000
    for _ in range(5 * 60):
        ended.add(now_ms, 10)
        now_ms += 1_000
    assert ended.per_second(now_ms, 1) == ended.per_second(now_ms, 5) == 10.0
    now_ms += 60_000
    assert ended.per_second(now_ms, 1) == 0
    assert ended.per_second(now_ms, 5) == 8.0
    ended.add(now_ms, 30)
    assert ended.per_second(now_ms, 1) == 0.5


def test_old_windows_go():
    """A queue must not keep a count for every five seconds of its life."""
    ended = EndedRecently()
    for number in range(200):
        ended.add(number * WINDOW_MS, 1)
        assert len(ended.windows) <= WINDOWS_MAX
    assert list(ended.windows) == list(range(200 - WINDOWS_MAX, 200))
    ended.add(1_000 * WINDOW_MS, 1)
    assert ended.windows == {1_000: 1}


def test_a_queue_counts_what_its_jobs_waited_and_ran():
    """HD-T5: from when a job might start until it does; each attempt that succeeds or fails."""
    driver = Driver()
    session = driver.begin()
    driver.add("a", "b")
    driver.add("later", delay_ms=500)
    driver.tick(700)
    fence = driver.take(session, "a", "later")
    queue = driver.machine.queues["mail"]
    assert queue.waited.take().row() == _row(700, 200)
    driver.complete(session, ["a"], [fence], run_ms=[40])
    driver.fail_one(session, "later", "retry", 1_000)
    assert queue.ran.take().row() == _row(40, 5)
    assert queue.run_ms_total == 45
    driver.tick(1_300)
    driver.take(session, "later")
    assert queue.waited.take().row() == _row(700, 200, 300)
    driver.fail_one(session, "later", "failed")
    assert queue.ended_recently.windows == {driver.now_ms // WINDOW_MS: 2}


def test_jobs_of_many_queues_in_one_operation_are_counted_each_in_its_own():
    """A node reports what ended in the same turn together."""
    driver = Driver()
    session = driver.begin()
    for job_id, queue in (("a", "mail"), ("b", "log"), ("c", "mail"), ("d", "log")):
        driver.add(job_id, spec=MAIL._replace(queue=queue))
        driver.tick(100)
    fence = driver.take(session, "a", "b", "c", "d")
    ids, fences = ["a", "b", "x", "c", "d"], [fence, fence, fence, fence - 1, fence]
    assert driver.complete(session, ids, fences, None, [1, 2, 3, 4, 5]) == 3
    mail, log = driver.machine.queues["mail"], driver.machine.queues["log"]
    assert (mail.waited.take().row(), log.waited.take().row()) == (_row(400, 200), _row(300, 100))
    assert (mail.ran.take().row(), log.ran.take().row()) == (_row(1), _row(2, 5))
    assert (mail.running, log.running) == (1, 0)
    assert (mail.succeeded_total, log.succeeded_total) == (1, 2)


def test_statistics_are_in_the_snapshot():
    """HD-T5: equal on every node, also on one that came later."""
    driver = Driver()
    session = driver.begin()
    driver.add("a")
    driver.tick(123)
    fence = driver.take(session, "a")
    driver.complete(session, ["a"], [fence], run_ms=[77])
    restored = Machine.restore(encode_snapshot(driver.machine.capture())).queues["mail"]
    queue = driver.machine.queues["mail"]
    assert restored.waited.take().row() == queue.waited.take().row() == _row(123)
    assert restored.ran.take().row() == queue.ran.take().row() == _row(77)
    assert restored.ended_recently.windows == queue.ended_recently.windows != {}


def _row(*times: int) -> list[int]:
    tally = Tally()
    tally.observe(times)
    return tally.take().row()
