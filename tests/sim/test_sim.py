"""Whole clusters in virtual time, a few seeds of each kind; scripts/sim runs many more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.directed import DIRECTED, directed
from tests.sim.mutants import MUTANTS, finds
from tests.sim.options import drawn
from tests.sim.world import simulate

ROOT = Path(__file__).resolve().parents[2]
TRACE = """
from tests.sim.options import drawn
from tests.sim.world import simulate
print(simulate({seed}, drawn({seed}, seconds=3.0)).trace)
"""
REPEATED = 16


@pytest.mark.parametrize("first", range(0, 20, 5))
def test_promises_hold_under_random_faults(first: int) -> None:
    """Any promise that a seed sees broken; its message and `scripts/sim --seed` repeat it."""
    for seed in range(first, first + 5):
        outcome = simulate(seed, drawn(seed, seconds=3.0))
        assert outcome.acknowledged, f"seed {seed} asked for nothing"


@pytest.mark.parametrize("name", DIRECTED)
def test_promises_hold_in_a_directed_schedule(name: str) -> None:
    """The crash or delay that the schedule aims at loses or doubles something."""
    directed(name, 1)


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


@pytest.mark.parametrize("name", ["early-due", "last-first", "uncounted-sync"])
def test_planted_fault_is_found(name: str) -> None:
    """The checks look away: a rule of the product is off and nobody notices."""
    assert any(finds(MUTANTS[name], seed, seconds=3.0) for seed in range(6))
