"""scripts/sim: what it prints, and how it ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from tests.sim import run as command
from tests.sim import trial
from tests.sim.hunt import hunt
from tests.sim.processes import Processes
from tests.sim.trial import Result, Trial
from tests.sim.violation import Violation
from tests.sim.world import Outcome

WORDS = ["--seeds", "3", "--seconds", "0.5", "--jobs", "1"]


def _breaks(seed: int, *_: object) -> Outcome:
    raise Violation("H1", f"seed {seed} lost a job")


def test_failure_comes_with_the_line_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody waits hours for a failure, and then cannot repeat it."""
    monkeypatch.setattr(trial, "simulate", _breaks)
    assert command.main(WORDS) == 1
    printed = capsys.readouterr().out
    assert "H1: seed 2 lost a job\n    scripts/sim --seed 2 --seconds 0.5\n" in printed
    assert "3 broke a promise: {'H1': 3}" in printed


def test_interrupted_run_says_how_far_it_came(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C after hours: a traceback instead of what was found."""

    def interrupted(_: Processes, trials: Iterable[Trial]) -> Iterator[Result]:
        yield trial.run(next(iter(trials)))
        raise KeyboardInterrupt

    monkeypatch.setattr(Processes, "results", interrupted)
    assert command.main(WORDS) == 130
    assert "1 runs held" in capsys.readouterr().out


def test_two_runs_of_a_seed_that_differ_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed that cannot be repeated is only noticed when a failure has to be repeated."""
    simulate, runs = trial.simulate, []

    def drifting(seed: int, options: object) -> Outcome:
        runs.append(seed)
        return simulate(seed + len(runs), options)

    monkeypatch.setattr(trial, "simulate", drifting)
    assert trial.run(Trial(0, seconds=0.5)).kind == "determinism"


def test_hunt_ends_with_the_first_seed_that_finds_the_fault() -> None:
    """The figure of how many seeds a planted fault needs is not what it says."""
    with Processes(1) as here:
        (quarry,) = hunt(["last-first"], range(50), here)
    assert quarry.needed == quarry.found[0].trial.seed + 1
    assert quarry.needed <= quarry.tried <= quarry.needed + 1


def test_unknown_fault_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A typing mistake: a run without the faults that were asked for holds, and says nothing."""
    with pytest.raises(SystemExit):
        command.main(["--seed", "1", "--faults", "crash,crsh"])
    assert "no such faults: crsh" in capsys.readouterr().err
