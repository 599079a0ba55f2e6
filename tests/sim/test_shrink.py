"""A failing run is made small, and stays a failing run of the same kind."""

from __future__ import annotations

import pytest

from exkiq.machine import Machine
from tests.sim.processes import Processes
from tests.sim.shrink import shrink
from tests.sim.trial import Result, Trial, run


def test_only_what_the_failure_needs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks into a failure has to look through faults and time it does not need."""
    waiting = Machine.waiting
    monkeypatch.setattr(Machine, "waiting", lambda *args: reversed(list(waiting(*args))))
    faults = ("crash", "pause", "reset", "oneway")
    failures = (run(Trial(seed, seconds=3.0, faults=faults)) for seed in range(5, 20))
    failure = next(failure for failure in failures if failure.kind == "H9")
    told: list[Result] = []
    with Processes(1) as here:
        smallest = shrink(failure, here, told.append)
    assert smallest is told[-1]
    assert smallest.kind == "H9"
    assert smallest.trial.faults == ()
    assert smallest.trial.nodes == 1
    assert run(smallest.trial).text == smallest.text
