"""The log's time neither stands still nor goes back, whatever the wall clock does."""

from __future__ import annotations

from exkiq.clock import ManualClock
from exkiq.raft.log_clock import LogClock

HOUR_MS = 3_600_000


def test_it_is_wall_time_as_long_as_nobody_sets_the_clock() -> None:
    clock = ManualClock()
    log_clock = LogClock(clock, lambda: 0)
    for _ in range(5):
        clock.advance(333)
        assert log_clock.now_ms() == clock.now_ms()


def test_a_jump_forward_that_is_set_right_stops_no_delay() -> None:
    """Delays made meanwhile would wait an hour."""
    clock = ManualClock()
    log_clock = LogClock(clock, lambda: 0)
    clock.step_wall(HOUR_MS)
    before = log_clock.now_ms()
    clock.step_wall(-HOUR_MS)
    clock.advance(2_500)
    assert log_clock.now_ms() == before + 2_500


def test_a_new_leader_goes_on_from_the_log_s_time() -> None:
    """Its own wall clock may be behind what was stamped before."""
    clock = ManualClock()
    ahead = clock.now_ms() + HOUR_MS
    log_clock = LogClock(clock, lambda: ahead)
    assert log_clock.now_ms() == ahead
    clock.advance(1_000)
    assert log_clock.now_ms() == ahead + 1_000


def test_small_steps_add_up() -> None:
    """Asked every microsecond it must not stand still."""
    clock = ManualClock()
    log_clock = LogClock(clock, lambda: 0)
    clock.step_wall(HOUR_MS)
    start = log_clock.now_ms()
    clock.step_wall(-HOUR_MS)
    for _ in range(100):
        clock.advance(1)
        log_clock.now_ms()
    assert log_clock.now_ms() == start + 100
