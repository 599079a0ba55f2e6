"""Snapshots: never half, never older, never in the way of heartbeats."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from pysyncobj.config import SERIALIZER_STATE

from exkiq.machine import MemberChange
from exkiq.raft import chunks, snapshot
from exkiq.raft.chunks import Chunk, Incoming
from exkiq.raft.membership import encode_change
from exkiq.raft.pieces import PIECES_ON_THE_WAY_MAX
from tests.raft.world import THREE, Member, World, leader_and_follower, many, three, world


def with_laggard(w: World, folder: Path | None, count: int = 30) -> tuple[Member, str]:
    """A leader whose log begins after what the killed laggard has."""
    three(w, folder)
    leader = w.leader()
    laggard = next(name for name in THREE if name != leader.name)
    w.kill(laggard)
    many(w, leader, range(count))
    for member in w.members.values():
        member.replica._engine.forceLogCompaction()
    w.run(0.5)
    assert leader.journal.first_index > 20
    return leader, laggard


def pieces(w: World, to: str) -> list[Any]:
    kept = [m[1] for _, name, m in w.sent if name == to and m[0] == 1]
    return [message for message in kept if "serialized" in message]


def test_a_snapshot_of_what_the_log_holds_is_not_loaded(tmp_path: Path) -> None:
    """Loading it would throw away entries behind it that this node has vouched for."""
    with world() as w:
        leader, follower = leader_and_follower(w, tmp_path)
        many(w, leader, range(10))
        w.run(0.2)
        leader.replica._engine.forceLogCompaction()
        w.run(0.2)
        data = (tmp_path / leader.name / "snapshot").read_bytes()
        last = follower.journal.last_index
        follower.replica.machine.index = 3  # it has the entries, and is told late of the commit
        follower.journal._commit_index = 3
        follower.replica.snapshots.setTransmissionData((data, 0, True, data[8:16]))
        assert follower.journal.last_index == last
        assert not follower.replica.snapshots.setTransmissionData((data, 0, True, data[8:16]))
        follower.replica.machine.index = last


def test_an_older_snapshot_is_not_loaded(tmp_path: Path) -> None:
    """The state would go back in time, and answers that were given would be undone."""
    with world() as w:
        leader, laggard = with_laggard(w, tmp_path)
        data = (tmp_path / leader.name / "snapshot").read_bytes()
        many(w, leader, range(30, 40))
        member = w.start(laggard, THREE, tmp_path / laggard)
        w.run(2.0)
        assert len(member.replica.machine.jobs) == 40
        assert not member.replica.snapshots.setTransmissionData((data, 0, True, data[8:16]))


def test_a_listener_that_fails_while_a_snapshot_is_loaded_stops_the_node(tmp_path: Path) -> None:
    """The engine swallows the error, keeps its old log and says that all is well."""
    with world() as w:
        _, laggard = with_laggard(w, tmp_path)

        def broken() -> None:
            raise RuntimeError("the node above is broken")

        member = w.start(laggard, THREE, tmp_path / laggard)
        member.installed = broken  # type: ignore[method-assign]
        w.sent.clear()
        w.run(2.0)
        assert "broken" in str(member.failures[0])
        answers = [m[1] for s, _, m in w.sent if s == laggard and m[0] == 1]
        beyond = [a for a in answers if a.get("success") and a["next_node_idx"] > 5]
        assert beyond == []


def test_a_snapshot_that_cannot_be_loaded_at_a_start_stops_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine would go on with an empty state, and might lead."""
    with world() as w:
        member = w.start("n1", ("n1",), tmp_path)
        many(w, w.leader(), range(5))
        member.replica._engine.forceLogCompaction()
        w.run(0.3)
        w.kill("n1")

        def broken(self: Member) -> None:
            raise RuntimeError("the node above is broken")

        monkeypatch.setattr(Member, "installed", broken)
        again = w.start("n1", ("n1",), tmp_path)
        w.run(1.0)
        assert "broken" in str(again.failures[0])
        assert not again.replica.is_leader


def test_members_of_a_thrown_away_log_do_not_count(tmp_path: Path) -> None:
    """They were never committed: counting them makes another majority."""
    with world() as w:
        _, laggard = with_laggard(w, tmp_path)
        member = w.start(laggard, THREE, tmp_path / laggard)
        w.isolate(laggard)
        change = MemberChange("add", "n9", "h:9", "i9")
        entry = encode_change(change)
        for index in range(member.journal.last_index + 1, 60):
            member.journal.add(entry, index, 0)
        w.heal()
        w.run(3.0)
        assert member.replica.voters == set(THREE)
        assert w.settled()


class Slow:
    """Work that is done when the test says so."""

    def __init__(self) -> None:
        self.future: Future[bytes | None] = Future()
        self.count = 0

    def __call__(self, _: Any) -> Future[bytes | None]:
        self.count += 1
        return self.future


def test_a_laggard_is_served_while_the_next_snapshot_is_written(tmp_path: Path) -> None:
    """The engine would send tens of thousands of empty messages, and the laggard would wait."""
    with world() as w:
        leader, laggard = with_laggard(w, tmp_path)
        many(w, leader, range(30, 33))
        leader.replica.snapshots._work = slow = Slow()
        leader.replica._engine.forceLogCompaction()
        w.run_until(lambda: slow.count == 1)
        w.sent.clear()
        member = w.start(laggard, THREE, tmp_path / laggard)
        w.run(2.0)
        assert len(member.replica.machine.jobs) == 33
        assert len(pieces(w, laggard)) < 10


@pytest.mark.parametrize("count", [1, 7, PIECES_ON_THE_WAY_MAX, 400])
def test_no_more_of_a_snapshot_is_sent_than_the_peer_takes(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once it would fill the link, which is closed then, again and again for ever."""
    with world() as w:
        _, laggard = with_laggard(w, tmp_path)
        data = (tmp_path / w.leader().name / "snapshot").read_bytes()
        monkeypatch.setattr(chunks, "CHUNK_BYTES", -(-len(data) // count))
        on_the_way, most, total = 0, 0, 0
        send = w.send

        def counted(sender: str, to: str, message: list[Any]) -> bool:
            nonlocal on_the_way, most, total
            if message[0] == 1 and to == laggard and "serialized" in message[1]:
                on_the_way += 1
                total += 1
                most = max(most, on_the_way)
            if message[0] == 1 and sender == laggard and message[1].get("success") is False:
                on_the_way = max(0, on_the_way - 1)
            return send(sender, to, message)

        w.send = counted  # type: ignore[method-assign]
        member = w.start(laggard, THREE, tmp_path / laggard)
        w.run(5.0)
        assert len(member.replica.machine.jobs) == 30
        assert most <= PIECES_ON_THE_WAY_MAX
        assert total <= count
        assert w.settled()


def test_lost_pieces_of_a_snapshot_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer would be hidden from the engine for ever."""
    with world() as w:
        _, laggard = with_laggard(w, tmp_path)
        monkeypatch.setattr(chunks, "CHUNK_BYTES", 50)
        lost: list[int] = []

        def lose(_: str, to: str, message: list[Any]) -> list[Any] | None:
            if to == laggard and message[0] == 1 and "serialized" in message[1] and len(lost) < 40:
                lost.append(1)
                return None
            return message

        w.filter = lose
        member = w.start(laggard, THREE, tmp_path / laggard)
        w.run(10.0)
        assert len(lost) == 40
        assert len(member.replica.machine.jobs) == 30


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a bug")])
def test_a_failed_snapshot_is_counted_and_not_tried_in_every_turn(
    tmp_path: Path, error: Exception
) -> None:
    """Each try captures the whole state; and the log, which is whole, goes on without it."""
    with world() as w:
        member = w.start("n1", ("n1",), tmp_path)
        leader = w.leader()
        many(w, leader, range(3))
        store = leader.replica.snapshots
        store._work = slow = Slow()
        slow.future.set_exception(error)
        for number in range(3, 20):
            leader.replica._engine.forceLogCompaction()
            many(w, leader, range(number, number + 1))
        assert (slow.count, store.failures) == (1, 1)
        assert not member.failures
        w.clock.seconds += snapshot.FAILED_PAUSE_SECONDS
        leader.replica._engine.forceLogCompaction()
        w.run(0.3)
        assert slow.count == 2


def test_the_log_is_trimmed_only_when_the_snapshot_is_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash in between would leave neither the entries nor the state."""
    with world() as w:
        member = w.start("n1", ("n1",), tmp_path)
        leader = w.leader()
        many(w, leader, range(10))
        done: list[str] = []
        for name in ("write", "sync_folder"):
            original = getattr(snapshot, name)
            monkeypatch.setattr(
                snapshot, name, lambda *a, n=name, o=original: (o(*a), done.append(n))
            )
        trim = member.journal.deleteEntriesTo

        def trimmed(count: int) -> None:
            done.append("trim")
            assert (tmp_path / "snapshot").is_file()
            trim(count)

        monkeypatch.setattr(member.journal, "deleteEntriesTo", trimmed)
        leader.replica._engine.forceLogCompaction()
        w.run(0.3)
        assert done == ["write", "sync_folder", "trim"]


def test_a_good_snapshot_stays_until_the_next_is_whole(tmp_path: Path) -> None:
    """A crash while it is written must leave the last one as it was."""
    with world() as w:
        member = w.start("n1", ("n1",), tmp_path)
        leader = w.leader()
        many(w, leader, range(5))
        leader.replica._engine.forceLogCompaction()
        w.run(0.3)
        good = (tmp_path / "snapshot").read_bytes()
        many(w, leader, range(5, 9))
        leader.replica.snapshots._work = slow = Slow()
        leader.replica._engine.forceLogCompaction()
        w.run(0.3)
        (tmp_path / "snapshot.next").write_bytes(b"half")
        assert slow.count == 1
        assert (tmp_path / "snapshot").read_bytes() == good
        assert member.replica.snapshots.checkSerializing()[0] == SERIALIZER_STATE.SERIALIZING
        w.kill("n1")
        again = w.start("n1", ("n1",), tmp_path)
        w.leader()
        assert len(again.replica.machine.jobs) == 9


def chunked(data: bytes, size: int, name: bytes) -> list[Chunk]:
    return [
        (data[at : at + size], at, at + size >= len(data), name) for at in range(0, len(data), size)
    ]


def taken(chunks_of_any: list[Chunk]) -> list[bytes]:
    incoming = Incoming()
    return [whole for chunk in chunks_of_any if (whole := incoming.take(chunk)) is not None]


def test_chunks_of_two_snapshots_never_make_one() -> None:
    """A new leader's go on where the old one's stopped: all of it would be sent for nothing."""
    old, new = chunked(b"a" * 10, 3, b"old"), chunked(b"b" * 10, 3, b"new")
    assert taken(old) == [b"a" * 10]
    assert taken(old[:2] + new[2:]) == []
    assert taken(old[:2] + new) == [b"b" * 10]
    assert taken(old[:2] + old[3:]) == []
    assert taken(old[:2] + old[1:]) == []
    assert taken(old[1:]) == []
    assert taken(old[:2] + new[2:] + old) == [b"a" * 10]


def test_what_a_peer_sends_of_a_snapshot_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "RECEIVED_BYTES_MAX", 10)
    assert taken(chunked(b"a" * 10, 3, b"")) == [b"a" * 10]
    assert taken(chunked(b"a" * 11, 3, b"")) == []


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_chunk_tells_its_place_and_its_snapshot(
    tmp_path: Path, in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 7)
    data = bytes(range(40))
    (tmp_path / "snapshot").write_bytes(data)
    with (tmp_path / "snapshot").open("rb") as file:
        source = data if in_memory else file
        made = [chunks.chunk_of(source, offset) for offset in range(0, 40, 7)]
    assert made == chunked(data, 7, data[8:16])


def test_a_snapshot_of_our_own_never_comes_on_top_of_a_newer_one(tmp_path: Path) -> None:
    """The log begins after it: the node could not be started any more."""
    with world() as w:
        leader, follower = leader_and_follower(w, tmp_path)
        many(w, leader, range(10))
        w.run(0.2)
        store = follower.replica.snapshots
        work, waiting = store._work, []

        def later(function: Any) -> Future[Any]:
            waiting.append((function, Future()))
            return waiting[-1][1]

        store._work = later
        follower.replica._engine.forceLogCompaction()
        w.run_until(lambda: bool(waiting))
        store._work = work
        w.isolate(follower.name)
        many(w, leader, range(10, 40))
        leader.replica._engine.forceLogCompaction()
        w.run(0.5)
        w.heal()
        w.run_until(lambda: len(follower.replica.machine.jobs) == 40)
        function, future = waiting[0]
        future.set_result(function())
        w.run(0.5)
        w.kill(follower.name)
        again = w.start(follower.name, THREE, tmp_path / follower.name)
        w.run(2.0)
        assert len(again.replica.machine.jobs) == 40
        assert w.settled()


def test_without_a_snapshot_to_send_the_leader_says_so_now_and_then() -> None:
    """The engine would say it tens of thousands of times a second, to one laggard."""
    with world() as w:
        leader, laggard = with_laggard(w, None)
        leader.replica.snapshots._in_memory = None
        w.start(laggard, THREE)
        w.run(0.1)
        w.sent.clear()
        w.run(2.0)
        assert leader.replica.is_leader
        assert 0 < len(pieces(w, laggard)) < 200  # a turn is every 25 ms


def test_a_follower_a_little_behind_is_sent_entries_and_no_snapshot() -> None:
    """Each compaction would cost a slow follower the whole state again, and it stays behind."""
    with world(kept_entries=50) as w:
        three(w)
        leader = w.leader()
        slow = next(name for name in THREE if name != leader.name)
        for first in range(0, 90, 30):
            w.isolate(slow)
            many(w, leader, range(first, first + 30))
            leader.replica._engine.forceLogCompaction()
            w.run(0.3)
            w.heal()
            w.run_until(w.settled)
        assert leader.journal.first_index > 30
        assert pieces(w, slow) == []
