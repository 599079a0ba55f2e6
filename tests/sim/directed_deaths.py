"""Directed schedules about deaths at a bad moment, and about messages that are late."""

from __future__ import annotations

from typing import Any

from exkiq.wire.messages import Kind
from tests.sim.stage import NotStaged, begin, cut_off, end, leader, others, wait
from tests.sim.world import Outcome, World


def kill_after_rename(made: World) -> Outcome:
    """Everybody dies when the snapshot has its name and the journal is not trimmed yet."""
    begin(made, 0.0)
    for disk in made.disks.values():
        disk.cut_before = lambda journal: vars(journal)["_cut_below"] is not None
    wait(made, 8.0)
    struck = [disk.name for disk in made.disks.values() if disk.cut_before is None]
    if not struck:
        raise NotStaged("no node was cut between rename and trim")
    return end(made)


def kill_in_installation(made: World) -> Outcome:
    """A follower dies between the installed snapshot and the commit of its new log."""
    begin(made)
    name = others(made, leader(made).name)[0]
    made.kill(name)
    wait(made, 4.0)
    disk = made.disks[name]
    made.start(name)
    disk.cut_before = lambda journal: vars(journal)["_cut_from"] == 0
    wait(made, 4.0)
    if disk.cut_before is not None:
        raise NotStaged("no snapshot was installed")
    return end(made)


def kill_before_commit(made: World) -> Outcome:
    """A majority, and at last all, die between writing and committing, again and again."""
    begin(made)
    for number in range(6):
        count = len(made.names) // 2 + 1 if number % 2 else len(made.names)
        for name in made.chance.sample(made.names, count):
            made.disks[name].cut_before = lambda journal: not journal.is_clean
        wait(made, 1.5)
    return end(made)


def two_heartbeats_outstanding(made: World) -> Outcome:
    """The followers' answers are late by two heartbeats when the leader changes."""
    begin(made)
    for _ in range(5):
        former = leader(made).name
        for one in others(made, former):
            for other in made.names:
                made.network.slow[(one, other)] = 0.12
        made.kill(former)
        wait(made, 1.5)
        made.network.slow.clear()
        made.start(former)
        wait(made, 1.0)
    return end(made)


def answer_across_elections(made: World) -> Outcome:
    """Five nodes; answers of a follower arrive two elections later, on a link that lives on."""
    begin(made)

    def late(sender: str, to: str, message: list[Any]) -> float:
        is_answer = message[0] == Kind.RAFT and message[1]["type"] == "next_node_idx"
        return 0.7 if is_answer and made.chance.random() < 0.2 else 0.0

    made.network.filter = late
    for _ in range(8):
        leader(made).replica.transfer_leadership(None)
        wait(made, 0.3)
        made.pause(leader(made).name, 0.45)
        wait(made, 0.6)
    made.network.filter = None
    return end(made)


def old_tail_after_a_cut(made: World) -> Outcome:
    """A cut that heals before anybody noticed: the deposed leader's entries arrive late."""
    begin(made)
    for _ in range(6):
        mend = cut_off(made, leader(made).name)
        wait(made, 0.7)
        mend()
        wait(made, 0.8)
    return end(made)
