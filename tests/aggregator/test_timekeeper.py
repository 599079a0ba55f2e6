"""The log is told of time when something is due, and not more often than of use."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from exkiq.aggregator.timekeeper import Timekeeper
from exkiq.clock import ManualClock
from exkiq.machine import Machine


class Deadline:
    """A machine with one deadline."""

    def __init__(self, clock: ManualClock) -> None:
        self.at_ms: int | None = None
        self.now_ms = clock.now_ms()

    @property
    def machine(self) -> Machine:
        return cast(
            "Machine", SimpleNamespace(now_ms=self.now_ms, next_deadline_ms=lambda: self.at_ms)
        )


def test_a_due_is_wanted_at_its_time_and_once() -> None:
    """A due job would start early, late, or its operation be repeated while on its way."""
    clock = ManualClock()
    keeper, state = Timekeeper(clock), Deadline(clock)
    assert not keeper.is_wanted(state.machine)
    assert keeper.next_wake(state.machine) is None
    state.at_ms = clock.now_ms() + 100
    assert not keeper.is_wanted(state.machine)
    assert keeper.next_wake(state.machine) == 0.1
    clock.advance(100)
    assert keeper.is_due(state.machine)
    assert keeper.is_wanted(state.machine)
    keeper.proposed(b"pid")
    assert not keeper.is_due(state.machine)
    assert keeper.next_wake(state.machine) is None
    state.now_ms = clock.now_ms()
    keeper.applied(state.machine, b"other")
    assert not keeper.is_due(state.machine)


def test_what_one_due_left_over_follows_at_once() -> None:
    """A thousand overdue jobs would wait between the lots of a bounded operation."""
    clock = ManualClock()
    keeper, state = Timekeeper(clock), Deadline(clock)
    state.at_ms = clock.now_ms()
    keeper.proposed(b"pid")
    keeper.applied(state.machine, b"pid")
    assert keeper.is_wanted(state.machine)


def test_single_expiries_are_gathered() -> None:
    """Results that expire one by one would cost an entry each."""
    clock = ManualClock()
    keeper, state = Timekeeper(clock), Deadline(clock)
    keeper.proposed(b"pid")
    state.at_ms = clock.now_ms() + 1
    keeper.applied(state.machine, b"pid")
    clock.advance(1)
    assert keeper.is_due(state.machine)  # it may ride
    assert not keeper.is_wanted(state.machine)
    assert keeper.next_wake(state.machine) == 0.05
    clock.advance(49)
    assert keeper.is_wanted(state.machine)


def test_a_clock_behind_the_log_undoes_nothing_and_a_jump_is_noticed() -> None:
    """After a new leader with a slower clock, due work would wait for it to catch up."""
    clock = ManualClock()
    keeper, state = Timekeeper(clock), Deadline(clock)
    state.now_ms = clock.now_ms() + 60_000
    state.at_ms = state.now_ms - 1
    assert keeper.is_wanted(state.machine)
    state.at_ms = state.now_ms + 3_600_000
    wake = keeper.next_wake(state.machine)
    assert wake is not None
    assert wake <= 0.5
