"""Directed schedules about snapshots, damaged files and changes of members."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from exkiq.machine import MemberChange
from exkiq.raft import JournalError, chunks
from exkiq.raft.membership import decode_change
from exkiq.raft.pieces import PIECES_ON_THE_WAY_MAX
from exkiq.wire.messages import Kind
from tests.sim.directed_elections import depose
from tests.sim.node import SimNode
from tests.sim.stage import (
    FILLER,
    Message,
    NotStaged,
    append,
    are_level,
    begin,
    cut_off,
    end,
    enqueue,
    hand,
    leader,
    lose,
    others,
    promise,
    stage,
    wait,
)
from tests.sim.violation import Violation
from tests.sim.world import Outcome, World

COMPACTS = 130  # entries: more than twice as many as make a snapshot here


def snapshot_to_a_former_leader(made: World) -> Outcome:
    """A deposed leader with entries of its own is sent a snapshot in many pieces."""
    with patch.object(chunks, "CHUNK_BYTES", 256):
        begin(made, 1.0)
        mend = depose(made, 100)
        _compact(made)
        mend()
        wait(made, 2.0)
        return end(made)


def snapshot_that_fails_to_load(made: World) -> Outcome:
    """A deposed leader cannot load what it is sent; its log is longer than the new leader's."""
    begin(made, 1.0)
    former = leader(made)
    mend = depose(made, 400)
    made.clients.stop()
    _compact(made)
    new = leader(made)
    [third] = others(made, former.name, new.name)
    lose(made, lambda _, to, m: to == former.name and "serialized" in m)
    mend()
    stage(made, lambda: former.replica._transport.is_connected(new.name), "linked again")
    cut_off(made, third)
    failures = []

    def refuse(_: object) -> None:
        failures.append(JournalError("a state that cannot be loaded"))
        raise failures[-1]

    with patch.object(former.replica.snapshots, "_install", refuse):
        made.network.filter = None
        append(made, new.name, *[FILLER] * 300)
        stage(made, lambda: bool(failures), "it cannot load the snapshot")
        wait(made, 0.3)
    return end(made)


def snapshot_damaged_on_its_way(made: World) -> Outcome:
    """A piece of a snapshot arrives with another byte in it."""
    begin(made)
    name = _left_behind(made)
    is_damaged = False
    for node in made.nodes.values():
        pieces = node.replica.snapshots.getTransmissionData

        def damaged(peer: Any, pieces: Any = pieces) -> Any:
            nonlocal is_damaged
            piece = pieces(peer)
            if piece is None or is_damaged or b"job-" not in piece[0]:
                return piece
            is_damaged = True
            return b"jab-".join(piece[0].rsplit(b"job-", 1)), *piece[1:]

        vars(node.replica.snapshots)["getTransmissionData"] = damaged
    made.start(name)
    stage(made, lambda: is_damaged, "a piece is damaged")
    wait(made, 1.0)
    return end(made)


def snapshot_to_a_slow_peer(made: World) -> Outcome:
    """A snapshot of many pieces goes over a link that takes a while."""
    with patch.object(chunks, "CHUNK_BYTES", 128):
        begin(made)
        name = _left_behind(made)
        on_the_way = most = 0

        def counted(sender: str, to: str, message: Message) -> bool:
            nonlocal on_the_way, most
            if to == name and message.get("serialized") is not None:
                on_the_way += 1
            elif sender == name:
                on_the_way = 0
            most = max(most, on_the_way)
            return False

        lose(made, counted)
        for other in others(made, name):
            made.network.slow[(other, name)] = 0.05
        made.start(name)
        wait(made, 1.0)
        stage(made, lambda: most >= PIECES_ON_THE_WAY_MAX, "many pieces are sent")
        if most > 2 * PIECES_ON_THE_WAY_MAX:
            raise Violation("L10 pieces", f"{most} pieces in a row to {name}, which said nothing")
        made.network.slow.clear()
        return end(made)


def snapshot_sent_again(made: World) -> Outcome:
    """The pieces of a snapshot arrive a second time, after newer entries."""
    begin(made)
    name = _left_behind(made)
    pieces: list[tuple[str, Message]] = []

    def noted(sender: str, to: str, message: Message) -> bool:
        if to == name and message.get("serialized") is not None:
            pieces.append((sender, message))
        return False

    lose(made, noted)
    made.start(name)
    stage(made, lambda: bool(pieces) and pieces[-1][1]["serialized"][2], "a snapshot was sent")
    made.clients.stop()
    stage(made, lambda: are_level(made), "all of it is applied")
    made.network.filter = None
    append(made, leader(made).name, *[FILLER] * 3)
    wait(made, 0.5)
    if leader(made).replica.term != pieces[-1][1]["term"]:
        raise NotStaged("the same leader sends it again")
    for sender, message in pieces:
        hand(made, sender, name, [int(Kind.RAFT), message])
    wait(made, 0.5)
    return end(made)


def _compact(made: World) -> None:
    """The leader has its log begin behind what those that are cut off have."""
    node = leader(made)
    upto = node.replica.journal.last_index + COMPACTS // 2
    for _ in range(2):
        append(made, node.name, *[FILLER] * COMPACTS)
        wait(made, 0.7)
    stage(made, lambda: leader(made).replica.journal.first_index > upto, "a trimmed log")


def _left_behind(made: World) -> str:
    """A follower that is down while the others trim their logs."""
    name = made.chance.choice(others(made, leader(made).name))
    made.kill(name)
    wait(made, 0.5)
    _compact(made)
    return str(name)


def flipped_bit(made: World) -> Outcome:
    """One bit of an entry is another one when its node starts again."""
    begin(made, 1.0)
    name = made.chance.choice(made.names)
    made.kill(name)
    wait(made, 0.1)
    disk = made.disks[name]
    position = made.chance.randrange(1, len(disk.entries))
    body, *rest = disk.entries[position]
    flipped = bytearray(body)
    flipped[made.chance.randrange(len(body))] ^= 1 << made.chance.randrange(8)
    disk.entries[position] = (bytes(flipped), *rest)
    disk.is_damaged = True
    made.start(name)
    wait(made, 1.0)
    return end(made)


def empty_disk(made: World) -> Outcome:
    """Of the two that have an entry one loses its disk and the other one dies."""
    begin(made, asks=False)
    first = leader(made).name
    second, third = made.chance.sample(others(made, first), 2)
    lose(made, lambda sender, to, _: {sender, to} == {first, third})
    enqueue(made, first, "odd-1")
    wait(made, 0.1)
    made.kill(second, is_told=False)
    made.lifecycle.wipe(second)
    made.kill(first)
    made.start(second)
    wait(made, 2.0)
    return end(made)


# ---- members ---------------------------------------------------------------------------------


def two_changes(made: World) -> Outcome:
    """The leader, cut off, is asked for two changes of members at once."""
    begin(made, asks=False)
    node = leader(made)
    name = made.chance.choice(others(made, node.name))
    mend = cut_off(made, node.name)
    for verb in ("remove", "add"):
        node.replica.change_members(_change(made, verb, name))
    wait(made, 0.4)
    open_ = [c for c in _changes(node) if c > node.replica.commit_index]
    if len(open_) > 1:
        raise Violation("S10 members", f"{node.name} has the changes {open_} in its log at once")
    mend()
    wait(made, 1.0)
    return end(made)


def _change(made: World, verb: str, name: str) -> MemberChange:
    return MemberChange(verb, name, name, made.disks[name].incarnation)


def _changes(node: SimNode) -> list[int]:
    return [index for body, index, _ in node.replica.journal[:] if decode_change(body) is not None]


def members_after_a_restart(made: World) -> Outcome:
    """A member is removed, then everybody restarts."""
    begin(made, asks=False)
    node = leader(made)
    name = made.chance.choice(others(made, node.name))
    node.replica.change_members(_change(made, "remove", name))
    left = frozenset(others(made, name))
    stage(made, lambda: _voters(made, left) == {left}, "one less")
    made.kill(name)
    for other in sorted(left):
        made.kill(other)
    for other in sorted(left):
        made.start(other)
    wait(made, 0.1)
    if _voters(made, left) != {left}:
        raise Violation("S11 members", f"after a restart {_voters(made, left)}, not {set(left)}")
    leader(made).replica.change_members(_change(made, "add", name))
    made.start(name)
    everybody = frozenset(made.names)
    promise(made, lambda: _voters(made, left) == {everybody}, "S11 members", "all are members")
    return end(made)


def _voters(made: World, names: frozenset[str]) -> set[frozenset[str]]:
    return {made.nodes[name].replica.voters for name in names}
