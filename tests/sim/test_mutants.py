"""Planted faults are found; scripts/sim --mutants hunts all of them."""

from __future__ import annotations

import pytest

from tests.sim.directed import DIRECTED
from tests.sim.mutants import MUTANTS, finds, planted

CHEAP = {
    "any-voter": 0,
    "any-answer": 0,
    "no-pre-vote": 0,
    "no-rewind-cut": 0,
    "backward-clock": 0,
}


@pytest.mark.parametrize("name", CHEAP)
def test_planted_fault_is_found(name: str) -> None:
    """The checks look away: a rule of the product is off and nobody notices."""
    assert finds(MUTANTS[name], CHEAP[name]) is not None


@pytest.mark.parametrize("name", MUTANTS)
def test_fault_is_planted(name: str) -> None:
    """A part of the product has another name now, and the fault is planted nowhere."""
    mutant = MUTANTS[name]
    changed = mutant.parts()
    before = [getattr(owner, part) for owner, part, _ in changed]
    with planted(mutant):
        during = [getattr(owner, part) for owner, part, _ in changed]
    assert all(old is not new for old, new in zip(before, during, strict=True))
    assert before == [getattr(owner, part) for owner, part, _ in changed]
    assert not mutant.schedule or mutant.schedule in DIRECTED
