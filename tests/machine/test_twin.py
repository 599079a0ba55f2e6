"""The machine against its naive twin, a second replica, and snapshots taken on the way."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from exkiq.machine import limits
from tests.machine.world import World

SMALL = {"SUCCEEDED_JOBS_MAX": 3, "CANCELLED_JOBS_MAX": 3, "FAILED_JOBS_MAX": 3}
WALK = [
    *[World.intake] * 3,
    *[World.hand_out] * 5,
    *[World.report] * 7,
    *[World.tick] * 2,
    *[World.hold] * 2,
    *[World.people] * 2,
    *[World.aside] * 2,
    World.lives,
    World.replicas,
]


@pytest.mark.parametrize("seed", range(25))
def test_a_random_walk_finds_no_difference(seed, monkeypatch):
    """Every place, order, count and answer, over a long life; the seed repeats it."""
    for name, bound in SMALL.items():
        monkeypatch.setattr(limits, name, bound)
    chance = random.Random(seed)
    world = World()
    world.start()
    for _ in range(150):
        chance.choice(WALK)(world, chance.randrange)
    world.close()


class AgainstTwin(RuleBasedStateMachine):
    """The same steps, searched: what is found here comes as the shortest log that shows it."""

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        for name, bound in SMALL.items():
            self.patch.setattr(limits, name, bound)
        self.world = World()

    @initialize()
    def start(self):
        self.world.start()

    @rule(data=st.data(), step=st.sampled_from([World.hand_out, World.report, World.hold]))
    def work(self, data, step):
        step(self.world, picker(data))

    @rule(data=st.data(), step=st.sampled_from([World.intake, World.hand_out, World.report]))
    def intake(self, data, step):
        step(self.world, picker(data))

    @rule(data=st.data(), step=st.sampled_from([World.tick, World.report, World.people]))
    def time(self, data, step):
        step(self.world, picker(data))

    @rule(data=st.data(), step=st.sampled_from([World.lives, World.replicas, World.aside]))
    def lives(self, data, step):
        step(self.world, picker(data))

    def teardown(self):
        try:
            self.world.close()
        finally:
            self.patch.undo()


def picker(data):
    """Draw numbers as part of the example."""
    return lambda count: data.draw(st.integers(0, count - 1))


TestAgainstTwin = AgainstTwin.TestCase
TestAgainstTwin.settings = settings(
    max_examples=20,
    stateful_step_count=30,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
