"""The faults of the simulated world are what they claim to be, and nodes take them as promised."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from exkiq.errors import DataError
from exkiq.machine import commands
from exkiq.machine.schema import SCHEMA
from exkiq.raft.journal import JournalError
from tests.sim.clock import Host
from tests.sim.disk import Disk, SimJournal
from tests.sim.stage import CALM, begin, end, leader, others, stage, wait
from tests.sim.world import Found, World, world

FLIPS = 300
CALM_SHORT = replace(CALM, compact=60)


def _stopped(made: World, name: str) -> bool:
    errors = [error for node, error in made.watch.stopped if node.name == name]
    return bool(errors) and all(isinstance(error, JournalError) for error in errors)


def test_full_disk_stops_a_node_until_there_is_room() -> None:
    """A node whose disk is full goes on and acknowledges what it cannot keep, or never returns."""
    with world(1, CALM) as made:
        begin(made, 0.5)
        name = leader(made).name
        made.disks[name].is_full = True
        stage(made, lambda: _stopped(made, name), "the disk is noticed to be full")
        held = made.disks[name].commits
        wait(made, 3.0)
        assert made.disks[name].commits == held
        assert leader(made).name != name
        made.disks[name].is_full = False
        assert end(made).acknowledged


@pytest.mark.parametrize("keeps", [True, False])
def test_failed_sync_is_the_last_one(keeps: bool) -> None:
    """A node syncs again after a sync failed, and counts what the disk may have dropped."""
    with world(2, CALM) as made:
        begin(made, 0.5)
        disk = made.disks[others(made, leader(made).name)[0]]
        disk.refuses, disk.keeps_refused = True, keeps
        stage(made, lambda: _stopped(made, disk.name), "the sync failed")
        assert end(made).acknowledged


def _to_a_later_schema(made: World, level: int) -> None:
    replica = leader(made).replica
    replica.propose(commands.schema(b"p" * 12, level), None, None)
    wait(made, 1.0)


def test_a_node_stops_at_a_schema_that_it_does_not_know() -> None:
    """It would go on with a state that differs from that of the rest, or write it down."""
    level = SCHEMA + 1
    with world(5, CALM) as made:
        begin(made, 1.0, asks=False)
        index = made.watch.last
        with pytest.raises(Found, match=f"stop: .*DataError: the cluster uses schema {level}"):
            _to_a_later_schema(made, level)
        (stopped,) = [node for node, _ in made.watch.stopped]
        assert stopped.replica._loop is None  # no turn any more
        assert made.watch.last == index  # and nobody was told of that entry
        with pytest.raises(DataError):
            stopped.replica.machine.capture()


def test_any_changed_bit_of_a_journal_is_seen() -> None:
    """A node starts on a journal in which a bit is not what was written."""
    chance = random.Random(3)
    with world(3, CALM) as made:
        begin(made, 1.0)
        name = leader(made).name
        made.kill(name)
        sound, places = made.disks[name], set()
        for _ in range(FLIPS):
            disk = replace(sound, entries=list(sound.entries))
            places.add(disk.flip(chance))
            with pytest.raises(DataError, match="move the folder away"):
                SimJournal(disk, Host(made.scheduler, name, 99, 0), lambda _: None)
        assert {"hard state", "entry 0"} < places


def test_damaged_node_is_replaced() -> None:
    """After a bit changed on a stopped node's disk it cannot be had back without losing a job."""
    with world(4, CALM_SHORT) as made:
        begin(made, 2.0)
        name = leader(made).name
        made.lifecycle.damage(name, is_told=False)
        assert made.disks[name].is_damaged
        made.start(name)
        assert name not in made.nodes, "a node runs on damaged data"
        stage(made, lambda: made.lifecycle.is_settled, "all nodes are members", seconds=20.0)
        end(made)
        assert made.watch.model.members[name][1:] == ("2", "voter")


def test_torn_snapshot_is_not_what_a_node_starts_on() -> None:
    """Power fails while a snapshot is written, and the node has lost the older one with it."""
    with world(5, CALM_SHORT) as made:
        begin(made, 2.0)
        names = [name for name in made.names if made.disks[name].snapshot.exists()]
        assert names, "no snapshot was written"
        for name in names:
            made.kill(name, is_told=False)
            folder = made.disks[name].folder
            torn = [folder / "snapshot.next", folder / "snapshot.received"]
            assert any(path.exists() for path in torn)
            made.start(name)
            assert name in made.nodes
        end(made)


def test_unsynced_snapshot_is_torn_by_a_power_cut() -> None:
    """The world keeps what was never synced, and so hides a snapshot that was renamed too soon."""
    chance = random.Random(6)
    with world(6, CALM) as made:
        disk = made.disks["n1"]
        disk.snapshot.write_bytes(b"s" * 10_000)
        made.files.power_cut(disk, chance)
        assert disk.snapshot.stat().st_size < 10_000


def test_nodes_join_leave_and_lose_their_disks() -> None:
    """A cluster that lives long enough to change every node loses what it was told."""
    with world(7, CALM) as made:
        begin(made, 0.5)
        for act in (
            made.lifecycle.join,
            lambda: made.lifecycle.remove(leader(made).name),
            lambda: _new_disk(made, leader(made).name),
        ):
            stage(made, lambda: made.lifecycle.is_settled, "all nodes are members", seconds=20.0)
            act()
            wait(made, 0.1)
        stage(made, lambda: made.lifecycle.is_settled, "all nodes are members", seconds=20.0)
        end(made)
        assert len(made.watch.model.voters) == 4


def _new_disk(made: World, name: str) -> None:
    assert made.lifecycle.lose_disk(name)
    made.start(name)


def test_clocks_drift_apart() -> None:
    """All nodes have one clock, and what needs equal clocks passes."""
    with world(8, CALM) as made:
        made.rates.update(n1=1.0002, n2=0.9998)
        made.start("n1")
        made.start("n2")
        hosts = [made.nodes[name].host for name in ("n1", "n2")]
        for host in hosts:
            host.local = 100.0
        fast, slow = (host.now_ms() for host in hosts)
        assert 35 < fast - slow < 45


def test_disk_that_was_lost_still_counts_for_what_it_held() -> None:
    """The check of the majority calls it a loss when an answer outlives the disk."""
    old = Disk("n1", Path(), entries=[(b"", 5, 1, 0)])
    assert Disk("n1", Path(), former=old).holds(5, 1, 0.0)
    assert not Disk("n1", Path(), former=old).holds(6, 1, 0.0)
