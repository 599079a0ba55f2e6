"""Schedules that chance seldom hits, each made on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.sim.node import SimNode
from tests.sim.options import Options
from tests.sim.world import Outcome, World, world

CALM = Options(seconds=6.0, faults={})


def _leader(made: World) -> SimNode:
    """The newest leader; waits for one."""
    for _ in range(200):
        found = [node for node in made.nodes.values() if node.replica.is_leader]
        if found:
            return max(found, key=lambda node: node.replica.term)
        made._steps(made.scheduler.now + 0.05)
    raise AssertionError("no leader in ten seconds")


def _begin(made: World, seconds: float = 2.0) -> None:
    for name in made.names:
        made.start(name)
    made.scheduler.run_until(2.0)
    made.clients.start()
    made._steps(2.0 + seconds)


def _end(made: World) -> Outcome:
    made.heal()
    return made.finish()


def kill_after_rename(made: World) -> Outcome:
    """Everybody dies when the snapshot has its name and the journal is not trimmed yet."""
    _begin(made, 0.0)
    for disk in made.disks.values():
        disk.cut_before = lambda journal: vars(journal)["_cut_below"] is not None
    made._steps(made.scheduler.now + 8.0)
    struck = [disk.name for disk in made.disks.values() if disk.cut_before is None]
    if not struck:
        raise AssertionError("no node was cut between rename and trim")
    return _end(made)


def kill_in_installation(made: World) -> Outcome:
    """A follower dies between the installed snapshot and the commit of its new log."""
    _begin(made)
    name = next(n for n in made.names if n != _leader(made).name)
    made.kill(name)
    made._steps(made.scheduler.now + 4.0)
    disk = made.disks[name]
    made.start(name)
    disk.cut_before = lambda journal: vars(journal)["_cut_from"] == 0
    made._steps(made.scheduler.now + 4.0)
    if disk.cut_before is not None:
        raise AssertionError("no snapshot was installed")
    return _end(made)


def kill_before_commit(made: World) -> Outcome:
    """A majority, and at last all, die between writing and committing, again and again."""
    _begin(made)
    for number in range(6):
        count = len(made.names) // 2 + 1 if number % 2 else len(made.names)
        for name in made.chance.sample(made.names, count):
            made.disks[name].cut_before = lambda journal: not journal.is_clean
        made._steps(made.scheduler.now + 1.5)
    return _end(made)


def two_heartbeats_outstanding(made: World) -> Outcome:
    """The followers' answers are late by two heartbeats when the leader changes."""
    _begin(made)
    for _ in range(5):
        leader = _leader(made).name
        others = [name for name in made.names if name != leader]
        for one in others:
            for other in made.names:
                made.network.slow[(one, other)] = 0.12
        made.kill(leader)
        made._steps(made.scheduler.now + 1.5)
        made.network.slow.clear()
        made.start(leader)
        made._steps(made.scheduler.now + 1.0)
    return _end(made)


def answer_across_elections(made: World) -> Outcome:
    """Five nodes; answers of a follower arrive two elections later, on a link that lives on."""
    _begin(made)

    def late(sender: str, to: str, message: list[Any]) -> float:
        is_answer = message[0] == 1 and message[1]["type"] == "next_node_idx"
        return 0.7 if is_answer and made.chance.random() < 0.2 else 0.0

    made.network.filter = late
    for _ in range(8):
        leader = _leader(made)
        leader.replica.transfer_leadership(None)
        made._steps(made.scheduler.now + 0.3)
        made.pause(_leader(made).name, 0.45)
        made._steps(made.scheduler.now + 0.6)
    made.network.filter = None
    return _end(made)


def old_tail_after_a_cut(made: World) -> Outcome:
    """A cut that heals before anybody noticed: the deposed leader's entries arrive late."""
    _begin(made)
    for _ in range(6):
        leader = _leader(made).name
        ways = [(leader, o) for o in made.names if o != leader]
        ways += [(o, leader) for o in made.names if o != leader]
        for way in ways:
            made.network.cut(*way)
        made._steps(made.scheduler.now + 0.7)
        for way in ways:
            made.network.mend(*way)
        made._steps(made.scheduler.now + 0.8)
    return _end(made)


Schedule = Callable[[World], Outcome]

DIRECTED: dict[str, tuple[Schedule, Options]] = {
    "kill-after-rename": (kill_after_rename, replace(CALM, compact=60)),
    "kill-in-installation": (kill_in_installation, replace(CALM, compact=60)),
    "kill-before-commit": (kill_before_commit, CALM),
    "two-heartbeats": (two_heartbeats_outstanding, CALM),
    "answer-across-elections": (answer_across_elections, replace(CALM, nodes=5)),
    "old-tail-after-a-cut": (old_tail_after_a_cut, CALM),
}


def directed(name: str, seed: int) -> Outcome:
    """One directed schedule. Raises Violation."""
    schedule, options = DIRECTED[name]
    with world(seed, options) as made:
        return schedule(made)
