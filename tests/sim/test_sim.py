"""Whole clusters in virtual time; scripts/sim runs many more of them."""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim import transcript
from tests.sim.directed import DIRECTED, directed
from tests.sim.mutants import MUTANTS, finds
from tests.sim.options import drawn
from tests.sim.processes import Processes
from tests.sim.trial import Trial, read, run
from tests.sim.world import simulate

ROOT = Path(__file__).resolve().parents[2]
CORPUS = [
    line
    for line in (Path(__file__).parent / "corpus.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
TRACE = """
from tests.sim.options import drawn
from tests.sim.world import simulate
print(simulate({seed}, drawn({seed}, seconds=3.0)).trace)
"""
REPEATED = 16
SEEDS = 300
SECONDS = 3.0  # of faults; what follows them until all jobs have ended is more than that


@pytest.mark.timeout(600)
def test_promises_hold_under_random_faults() -> None:
    """Any promise that a seed sees broken; the line beside it repeats it."""
    trials = [Trial(seed, seconds=SECONDS) for seed in range(SEEDS)]
    with Processes(os.cpu_count() or 1) as processes:
        results = list(processes.results(trials))
    broken = [f"{result.text}\n    {result.trial.line}" for result in results if result.kind]
    assert not broken, "\n".join([f"{len(broken)} of {SEEDS} seeds:", *broken])
    asked = [result.outcome.acknowledged for result in results if result.outcome is not None]
    assert sum(asked) > 10 * SEEDS, "the clients ask for next to nothing"


@pytest.mark.parametrize("name", DIRECTED)
def test_promises_hold_in_a_directed_schedule(name: str) -> None:
    """The crash or delay that the schedule aims at loses or doubles something."""
    directed(name, 1)


@pytest.mark.parametrize("line", CORPUS)
def test_what_broke_once_holds(line: str) -> None:
    """A bug that was found and mended is back."""
    result = run(read(line))
    assert not result.kind, f"{result.text}\n    {line}"


@pytest.mark.parametrize("path", transcript.kept(), ids=lambda path: path.stem)
def test_transcript_is_as_it_was(path: Path) -> None:
    """Nodes do something else than before, perhaps in another process only."""
    before, now = path.read_text(), transcript.again(path)
    changes = difflib.unified_diff(before.splitlines(), now.splitlines(), "kept", "now", n=1)
    if before != now:
        pytest.fail("\n".join([*changes, "If it is meant so: scripts/sim --transcripts"]))


def test_line_repeats_its_trial() -> None:
    """The line under a failure runs something else than what failed."""
    trials = [
        Trial(44),
        Trial(7, 2.5, 5, "sqlite", ("crash", "power"), 3.0),
        Trial(8, faults=()),
        Trial(3, directed=next(iter(DIRECTED))),
        Trial(2, seconds=4.0, mutant=next(iter(MUTANTS))),
    ]
    assert [read(trial.line) for trial in trials] == trials


def test_real_database() -> None:
    """The virtual disk differs from what SQLite does with the same commits."""
    simulate(3, drawn(3, seconds=2.0, faults=("crash", "power", "cutcommit"), disk="sqlite"))


def test_same_seed_same_run() -> None:
    """A failing seed that cannot be repeated: chance, time or hash order leaks in."""
    here = simulate(REPEATED, drawn(REPEATED, seconds=3.0)).trace
    assert simulate(REPEATED, drawn(REPEATED, seconds=3.0)).trace == here
    there = subprocess.run(
        [sys.executable, "-c", TRACE.format(seed=REPEATED)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == here


@pytest.mark.parametrize("name", ["early-due", "uncounted-sync"])
def test_planted_fault_is_found(name: str) -> None:
    """The checks look away: a rule of the product is off and nobody notices."""
    assert any(finds(MUTANTS[name], seed, seconds=3.0) for seed in range(6))
