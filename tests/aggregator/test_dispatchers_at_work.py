"""A dispatcher of a user that raises, lies or dawdles never harms the node."""

import logging

import pytest

from exkiq.clock import ManualClock
from exkiq.dispatchers import LRU, Offer
from exkiq.machine import State
from tests.aggregator.pretend import PretendCluster, claims_of


class Broken(LRU):
    """A user's dispatcher that raises at its third job."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs = 0

    def check_out(self, job: Offer) -> str | None:
        self.jobs += 1
        if self.jobs == 3:
            raise KeyError("oops")
        return super().check_out(job)


def test_a_dispatcher_that_raises_is_logged_and_made_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A user's mistake would stop the leader, or lose the jobs of its plan."""
    cluster = PretendCluster(Broken)
    node = cluster.node("n1", 5)
    with caplog.at_level(logging.ERROR, "exkiq"):
        jobs = cluster.enqueue(5)
    assert node.started == jobs[:2]
    assert "Broken" in caplog.text
    cluster.aggregator.heard("n1")
    wake = cluster.aggregator.next_wake()
    assert wake is not None
    assert wake <= cluster.clock.monotonic() + 1
    cluster.advance(1_000)
    assert node.started == jobs[:4]


class BrokenAtFirst(LRU):
    """A dispatcher whose first instance raises at once."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1
        self.is_first = type(self).made == 1

    def check_out(self, job: Offer) -> str | None:
        if self.is_first:
            raise KeyError("oops")
        return super().check_out(job)


def test_what_a_broken_dispatcher_left_starts_after_its_rest() -> None:
    """A job that met a broken dispatcher would wait until something else happens."""
    cluster = PretendCluster(BrokenAtFirst)
    node = cluster.node("n1", 2)
    (job,) = cluster.enqueue()
    assert node.started == []
    cluster.aggregator.heard("n1")
    wake = cluster.aggregator.next_wake()
    assert wake is not None
    assert wake <= cluster.clock.monotonic() + 1
    cluster.advance(1_000)
    assert node.started == [job]


class Slow(LRU):
    """A dispatcher that takes a tenth of a second for one answer."""

    clock: ManualClock
    made = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1

    def check_out(self, job: Offer) -> str | None:
        self.clock.advance(100)
        return super().check_out(job)


def test_a_dispatcher_that_dawdles_is_made_anew(caplog: pytest.LogCaptureFixture) -> None:
    """A slow dispatcher would stop the leader's heartbeats for good."""
    cluster = PretendCluster(Slow)
    Slow.clock = cluster.clock
    node = cluster.node("n1", 2)
    made = Slow.made
    with caplog.at_level(logging.ERROR, "exkiq"):
        cluster.enqueue()
    assert len(node.started) == 1
    assert "100 ms" in caplog.text
    assert Slow.made == made + 1


class Liar(LRU):
    """A dispatcher that names a node nobody knows."""

    def check_out(self, job: Offer) -> str | None:
        return "nobody"


class Greedy(LRU):
    """A dispatcher that counts no slots."""

    def check_out(self, job: Offer) -> str | None:
        return "n1"


def test_a_dispatcher_cannot_name_a_node_without_room() -> None:
    """A mistake of a user's dispatcher would reach the log."""
    cluster = PretendCluster(Liar)
    cluster.node("n1", 2)
    (job,) = cluster.enqueue()
    assert cluster.state(job) is State.QUEUED
    assert claims_of(cluster) == []
    cluster = PretendCluster(Greedy)
    node = cluster.node("n1", 2)
    cluster.enqueue(5)
    assert len(node.running) == 2


def test_a_slot_dispatcher_works_as_well_as_one_that_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A user's dispatcher, which keeps single slots, would get out of step with the nodes."""
    cluster = PretendCluster(LRU)
    nodes = [cluster.node(name, 3) for name in "ab"]
    jobs = cluster.enqueue(50)
    for _ in range(30):
        for node in nodes:
            node.finish(list(node.running)[:1])
    assert sorted(nodes[0].started + nodes[1].started) == jobs
    assert caplog.text == ""


def test_a_slot_dispatcher_learns_that_room_shrank(caplog: pytest.LogCaptureFixture) -> None:
    """Slots that are gone would be handed out."""
    cluster = PretendCluster(LRU)
    node = cluster.node("n1", 4)
    cluster.enqueue()
    node.slots = 2
    node.announce()
    cluster.enqueue(5)
    assert len(node.running) == 2
    assert caplog.text == ""
