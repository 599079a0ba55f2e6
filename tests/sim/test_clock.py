"""Virtual time: what is due for a process that is paused or busy waits, in its order."""

from __future__ import annotations

import pytest

from tests.sim.clock import Host, PowerCut, Scheduler


def _busy(host: Host, done: list[int], number: int) -> None:
    done.append(number)
    host.local += 0.05  # as a slow disk


@pytest.mark.parametrize("end", [0.15, 0.9])
def test_order_survives_a_pause_and_work(end: float) -> None:
    """Bytes of one connection overtake each other, and what breaks could not happen."""
    scheduler = Scheduler(lambda _: None)
    host = Host(scheduler, "n1", 1, 0)
    done: list[int] = []
    for number in range(10):
        scheduler.at(0.02 * number, host, _busy, host, done, number)
    host.pause(0.9)
    scheduler.after(end, host.pause, end)
    scheduler.run_until(end - 0.01)
    assert done == []
    scheduler.run_until(2.0)
    assert done == list(range(10))
    assert scheduler.now == 2.0
    assert host.local >= end + 0.5


def test_what_waits_dies_with_its_process() -> None:
    """A dead process goes on working."""
    done: list[int] = []

    def struck(host: Host) -> None:
        host.is_alive = False

    def cut() -> None:
        raise PowerCut

    scheduler = Scheduler(struck)
    host = Host(scheduler, "n1", 1, 0)
    host.pause(0.5)
    scheduler.at(0.1, host, done.append, 1)
    scheduler.at(0.2, host, cut)
    scheduler.at(0.3, host, done.append, 2)
    scheduler.at(0.4, host, done.append, 3).cancel()
    scheduler.run_until(1.0)
    assert done == [1]
