"""The transition table."""

from __future__ import annotations

import pytest

from exkiq.machine import WAYS, State, Step
from exkiq.machine.transitions import ENDED

START = {Step.ENQUEUE, Step.SCHEDULE}


@pytest.mark.parametrize("step", Step)
def test_every_step_has_one_way(step):
    """A step without a way is dead, a way without sources is for new jobs alone."""
    assert (step in START) == (not WAYS[step].sources)


def test_every_state_is_reached_and_only_ends_are_left_by_a_person():
    """P2: nothing changes a terminal record except an explicit retry."""
    assert {way.target for way in WAYS.values()} == set(State)
    leaving = {step for step in Step if WAYS[step].sources & ENDED}
    assert leaving == {Step.REVIVE}
    assert WAYS[Step.REVIVE].sources == {State.FAILED}
    assert WAYS[Step.CANCEL].sources & {State.RUNNING} == set()
