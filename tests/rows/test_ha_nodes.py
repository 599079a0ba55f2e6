"""Rows HA of whole nodes: releases side by side, ways to stop, start-up."""

from __future__ import annotations

import logging
import signal
import time
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest

import exkiq
from exkiq import client as clients
from exkiq.config import Settings
from exkiq.discovery import Facts
from exkiq.discovery.effects import Log, Save, Start
from exkiq.discovery.founding import Phase
from exkiq.peering import Peering
from exkiq.wire.hello import Hello
from tests.cluster.harness import cluster, until
from tests.discovery.nodes import members, peer
from tests.discovery.nodes import node as founder
from tests.rows.jobs import Hold, Note, is_held
from tests.rows.nodes import make_node

# ---- HA-04: releases side by side; more of it in tests/machine/test_schema.py -------------------


class Side:
    """What one of two nodes hears and says: its peering over a link that delivers by hand."""

    def __init__(self, name: str, schema: int, members: tuple[str, ...], post: Post) -> None:
        machine = SimpleNamespace(schema=1, cluster_id="id", members=dict.fromkeys(members))
        self.machine, self.asked_to_join = machine, []
        replica = SimpleNamespace(
            name=name, leader="n1", machine=machine, voters=("n1",), non_voters=(),
            peer_up=lambda _: None, applied_index=1,
        )  # fmt: skip
        admission = SimpleNamespace(join=lambda *words: self.asked_to_join.append(words))
        aggregator = SimpleNamespace(is_active=name == "n1", heard=lambda *_: None)
        self.links: dict[str, Any] = {}
        self.peering = Peering(lambda: self.links)
        self.hello = Hello(
            "member", name, "run", "life", f"{name}:1", cluster_id="id", schema=schema
        )
        self._parts: Any = ((name, "life", f"{name}:1"), "id", replica, aggregator, admission)
        self._post = post

    def link_to(self, other: Side) -> None:
        def send(message: list[Any]) -> bool:
            self._post.append((other, self.hello.name, message))
            return True

        self.links[other.hello.name] = SimpleNamespace(peer=other.hello, last_heard=0.0, send=send)

    def begin(self) -> None:
        self.peering.join(*self._parts)


Post: TypeAlias = "deque[tuple[Side, str, list[Any]]]"


@pytest.mark.parametrize(("schema", "is_taken"), [(1, False), (2, True), (3, True)])
def test_HA_04_an_older_release_is_not_taken_in_and_says_why_once(
    schema: int, is_taken: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """As a member it would be counted on, and could apply nothing of what it is sent."""
    post: Post = deque()
    leader = Side("n1", 2, ("n1",), post)
    gone = Side("n2", schema, ("n1", "n2"), post)  # it was a member before
    leader.machine.schema = 2
    for side, other in ((leader, gone), (gone, leader)):
        side.link_to(other)
        side.begin()
    for _ in range(3):
        leader.peering.beat()
        for _ in range(20):
            if post:
                side, sender, message = post.popleft()
                side.peering.message(side.links[sender], message)
        assert not post, "they go on telling each other"
    assert bool(leader.asked_to_join) == is_taken
    refusals = [record.message for record in caplog.records]
    refusal = (
        "n1 refuses to take this node in: the cluster uses schema 2, the release of n2 knows 1"
    )
    assert refusals == ([] if is_taken else [refusal])


@pytest.fixture(scope="module")
def alone(surroundings: Path) -> Iterator[exkiq.Node]:
    """A node in memory that looks for nobody; the last test of these stops it."""
    node = make_node("alone", cluster="rows-alone").start().wait_ready()
    yield node
    node.stop(drain=0.0)


def test_HA_13_with_discovery_off_and_no_peers_it_is_alone_and_its_status_says_so(
    alone: exkiq.Node,
) -> None:
    told = alone.status()["cluster"]
    assert [member["name"] for member in told["members"]] == ["alone"]
    assert told["leader"] == "alone"


# ---- HA-12: ways to stop -----------------------------------------------------------------------


def test_HA_12_a_second_signal_ends_at_once_and_jobs_stay_on_disk(tmp_path: Path) -> None:
    """The first one would let the job run for ten seconds."""
    gate = tmp_path / "gate"
    with cluster(tmp_path, 1, app="tests.rows.jobs") as alone:
        alone.client()
        job = Hold.perform_async(str(gate))
        waiting = Note.perform_in(hours=1)
        until(lambda: is_held(job), what="the job")
        process = alone.processes["n1"]
        process.send_signal(signal.SIGINT)
        until(lambda: "a second signal stops at once" in alone.logs(), what="the first")
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert time.monotonic() - told < 4
        gate.touch()
        alone.start()
        alone.wait_ready()
        alone.client()
        assert job.result(timeout=10)
        assert (job.status().attempt, waiting.status().state) == (1, "scheduled")


def test_HA_12_the_last_node_in_memory_says_how_many_jobs_are_lost(
    alone: exkiq.Node, caplog: pytest.LogCaptureFixture
) -> None:
    with exkiq.Client(f"exkiq://{alone.address}") as client:
        before = clients.use(client)
        for _ in range(3):
            Note.perform_in(hours=1)
        clients.use(before)
    with caplog.at_level(logging.WARNING, "exkiq"):
        alone.stop()
    assert "the last member stops and nothing is on disk: 3 jobs are lost" in caplog.text


# ---- HA-13: start-up ---------------------------------------------------------------------------


def test_HA_13_a_fresh_node_looks_for_three_seconds_and_then_founds() -> None:
    assert Settings(name="n1").join_wait == 3.0
    founding = founder("a", expect=1, join_wait_ms=3_000)
    founding.begin(0)
    assert founding.tick(2_999) == []
    assert founding.tick(3_000) != []
    assert founding.phase is Phase.SETTLED


def test_HA_13_with_three_it_waits_and_says_so_every_ten_seconds() -> None:
    founding = founder("a", expect=3)
    founding.begin(0)
    founding.link_up(peer("b"), 500)
    said = {
        ms: effect.text
        for ms in range(0, 40_001, 500)
        for effect in founding.tick(ms)
        if isinstance(effect, Log)
    }
    assert len(said) == 4
    assert {second - first for first, second in pairwise(said)} == {10_000}
    assert set(said.values()) == {
        "waits for 3 fresh nodes to found cluster 'default': 2 here (a, b)"
    }


def test_HA_13_a_used_node_never_founds() -> None:
    """It would be a second cluster beside its own."""
    founding = founder("a", Facts("own", members("a", "b", "c")), expect=1)
    (start,) = [effect for effect in founding.begin(0) if isinstance(effect, Start)]
    assert (start.membership.cluster_id, start.membership.is_founder) == ("own", False)
    assert not any(isinstance(effect, Save) for effect in founding.tick(60_000))
