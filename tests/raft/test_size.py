"""What does not grow: the log, the journal's file, and what a leader keeps for a slow peer."""

from __future__ import annotations

import gc
import logging
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from exkiq.machine import Record
from exkiq.raft import Journal, engine, snapshot
from exkiq.raft import journal as journal_module
from exkiq.raft.pieces import ON_THE_WAY_BYTES_MAX
from tests.raft.test_hazards_snapshot import pieces, with_laggard
from tests.raft.world import THREE, Answer, Member, World, enqueue_op, many, three, world


def large(w: World, leader: Member, count: int, size: int) -> None:
    """As many entries of that size."""
    for number in range(count):
        answer = Answer()
        leader.replica.propose(enqueue_op(1000 + number, size), 5.0, answer.set)
        w.run_until(lambda answer=answer: answer.is_there)


def test_large_entries_bring_a_snapshot_by_their_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of jobs of a MiB each the log would take 100 GB before it had entries enough."""
    monkeypatch.setattr(snapshot, "COMPACT_BYTES", 100_000)
    monkeypatch.setattr(journal_module, "KEPT_BYTES", 50_000)
    with world(kept_entries=1_000) as w:
        member = w.start("n1", ("n1",), tmp_path)
        leader = w.leader()
        for number in range(50):
            w.enqueue(leader, number)
            large(w, leader, 1, 10_000)  # the same job again: the state does not grow
            assert member.journal.fresh_bytes < 140_000
            assert member.journal.size_bytes < 210_000
        w.run(0.5)
        assert (tmp_path / "snapshot").is_file()
        assert member.journal.first_index > 30


def test_a_follower_a_little_behind_is_sent_entries_and_no_snapshot(tmp_path: Path) -> None:
    """Each compaction would make every follower that is not quite there begin anew."""
    with world(kept_entries=50) as w:
        three(w, tmp_path)
        leader = w.leader()
        laggard = next(name for name in THREE if name != leader.name)
        many(w, leader, range(10))
        w.kill(laggard)
        many(w, leader, range(10, 40))
        leader.replica._engine.forceLogCompaction()
        w.run(0.5)
        assert (tmp_path / leader.name / "snapshot").is_file()
        w.sent.clear()
        member = w.start(laggard, THREE, tmp_path / laggard)
        w.run(2.0)
        assert len(member.replica.machine.jobs) == 40
        assert pieces(w, laggard) == []


class SlowThread:
    """Does what a member's snapshot store gives it only when it is told to."""

    def __init__(self, member: Member) -> None:
        self.waiting: list[tuple[Any, Future[Any]]] = []
        self._store = member.replica.snapshots
        self._work, self._store._work = self._store._work, self._later

    def _later(self, function: Any) -> Future[Any]:
        self.waiting.append((function, Future()))
        return self.waiting[-1][1]

    def go_on(self) -> None:
        """Do the first; what comes later is done at once."""
        self._store._work = self._work
        function, future = self.waiting[0]
        future.set_result(function())


def with_reader(w: World, folder: Path) -> tuple[Member, Member, SlowThread]:
    """A leader, and a member that has all of its snapshot and goes on reading it."""
    leader, laggard = with_laggard(w, folder)
    member = w.start(laggard, THREE, folder / laggard)
    thread = SlowThread(member)
    w.run_until(lambda: bool(thread.waiting))
    return leader, member, thread


def test_a_peer_that_reads_a_snapshot_needs_no_second_one(tmp_path: Path) -> None:
    """Under load the log is trimmed again before it has read the first, and so on for ever."""
    with world() as w:
        leader, member, thread = with_reader(w, tmp_path)
        sent_until = leader.journal.first_index
        for start in (30, 60, 90):
            many(w, leader, range(start, start + 30))
            leader.replica._engine.forceLogCompaction()
            w.run(0.3)
        assert leader.journal.first_index == sent_until
        w.sent.clear()
        thread.go_on()
        w.run(2.0)
        assert pieces(w, member.name) == []
        assert len(member.replica.machine.jobs) == 120
        many(w, leader, range(120, 125))
        leader.replica._engine.forceLogCompaction()
        w.run(0.3)
        assert leader.journal.first_index > sent_until + 90
        assert w.settled()


@pytest.mark.parametrize("ends", ["time", "link"])
def test_the_log_is_not_kept_for_ever_for_a_peer_that_is_sent_a_snapshot(
    tmp_path: Path, ends: str
) -> None:
    """One that hangs while it reads would fill memory and disk of the leader."""
    with world() as w:
        leader, laggard = with_laggard(w, tmp_path)
        member = w.start(laggard, THREE, tmp_path / laggard)
        member.replica.snapshots._work = lambda _: Future()
        w.run_until(lambda: member.replica.snapshots.is_reading)
        held_from = leader.journal.first_index
        if ends == "time":
            w.run(snapshot.HELD_SECONDS_MAX + 1.0)
        else:
            w.kill(laggard)
        many(w, leader, range(30, 60))
        leader.replica._engine.forceLogCompaction()
        w.run(0.5)
        assert leader.journal.first_index > held_from + 25


def test_what_is_kept_for_such_a_peer_has_a_bound_in_bytes() -> None:
    """Under load a slow reader would fill the memory of the leader in its minute."""
    journal = Journal(None)
    for index in range(1, 11):
        journal.add(b"x" * 100, index, 1)
    journal.hold(5_000)
    for index in range(11, 61):
        journal.add(b"x" * 100, index, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module, "KEPT_ENTRIES", 5)
        journal.deleteEntriesTo(50)
        assert journal.first_index == 1
        journal.deleteEntriesTo(55)
        assert journal.first_index == 51
    journal.close()


def test_three_nodes_do_not_write_their_snapshots_at_the_same_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All would be slow at once, and with them the majority that every job waits for."""
    monkeypatch.setattr(engine, "COMPACT_ENTRIES", 100)
    with world() as w:
        three(w, tmp_path)
        many(w, w.leader(), range(130))
        w.run(0.5)
        ends = {member.replica.snapshots._last_index for member in w.members.values()}
        assert len(ends) == 3
        assert 0 not in ends


def test_the_state_that_a_snapshot_replaces_is_given_back(tmp_path: Path) -> None:
    """Its records know their pages and these know them: a gigabyte would stay, each time."""
    with world() as w:
        leader, laggard = with_laggard(w, tmp_path)
        w.start(laggard, THREE, tmp_path / laggard)
        w.run(1.0)
        w.isolate(laggard)
        many(w, leader, range(30, 60))
        leader.replica._engine.forceLogCompaction()
        w.run(0.3)
        gc.collect()
        gc.disable()
        before = records()
        try:
            w.heal()
            w.run(2.0)
            jobs = [len(each.replica.machine.jobs) for each in w.members.values()]
            assert jobs == [60, 60, 60]
            assert records() == before + 30
        finally:
            gc.enable()


def records() -> int:
    return sum(isinstance(each, Record) for each in gc.get_objects())


def test_the_tail_has_a_bound_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand of the largest jobs would fill the memory."""
    monkeypatch.setattr(journal_module, "KEPT_BYTES", 1_000)
    journal = Journal(None)
    for index in range(1, 101):
        journal.add(b"x" * 100, index, 1)
    journal.deleteEntriesTo(90)
    assert (journal.first_index, journal.size_bytes) == (81, 2_000)
    assert journal.fresh_bytes == 1_000
    journal.close()


def test_the_journal_s_file_is_used_again(tmp_path: Path) -> None:
    """The disk would fill although every snapshot trims the log."""
    journal = Journal(tmp_path / "journal")
    index, pages = 0, []
    for _ in range(5):
        for _ in range(300):
            index += 1
            journal.add(b"x" * 5_000, index, 1)
        journal.commit()
        journal.setRaftCommitIndex(index)
        journal._drop_to(len(journal) - 10)
        for _ in range(5):
            index += 1
            journal.add(b"x", index, 1)
            journal.commit()
        pages.append(journal._db.execute("PRAGMA page_count").fetchone()[0])
        rows = journal._db.execute("SELECT count(*) FROM entry").fetchone()[0]
        assert rows == len(journal)
    assert pages[-1] <= pages[1]
    journal.close()


def test_a_log_that_cannot_be_compacted_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Memory and disk fill for days, and nobody knows why."""
    monkeypatch.setattr(snapshot, "COMPACT_BYTES", 10_000)
    with world() as w, caplog.at_level(logging.WARNING, logger="exkiq"):
        member = w.start("n1", ("n1",), tmp_path)
        leader = w.leader()

        def full(_: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(OSError(28, "No space left on device"))
            return future

        leader.replica.snapshots._work = full
        large(w, leader, 8, 10_000)
        told = [record for record in caplog.records if "the log has grown to" in record.message]
        assert len(told) == 1
        assert member.replica.snapshots.failures == 1
        assert not member.failures


def test_a_peer_that_answers_nothing_is_not_sent_the_whole_log(tmp_path: Path) -> None:
    """The leader would keep all of it in memory until the link breaks, again and again."""
    with world(kept_entries=1_000) as w:
        three(w, tmp_path)
        leader = w.leader()
        laggard = next(name for name in THREE if name != leader.name)
        w.kill(laggard)
        large(w, leader, 10, 1_000_000)
        w.filter = lambda sender, to, message: None if sender == laggard else message
        sizes = w.send
        sent = 0

        def counted(sender: str, to: str, message: list[Any]) -> bool:
            nonlocal sent
            if to == laggard and message[0] == 1 and "entries" in message[1]:
                sent += sum(len(body) for body, _, _ in message[1]["entries"])
            return sizes(sender, to, message)

        w.send = counted  # type: ignore[method-assign]
        member = w.start(laggard, THREE, tmp_path / laggard)
        w.run(0.9)
        assert sent <= 2 * ON_THE_WAY_BYTES_MAX
        w.filter = None
        w.run(5.0)
        assert len(member.replica.machine.jobs) == 10
        assert w.settled()


def test_a_node_that_reads_a_snapshot_goes_on_listening(tmp_path: Path) -> None:
    """It would be sent the snapshot again and again, or make elections, while it reads."""
    with world() as w:
        leader, member, thread = with_reader(w, tmp_path)
        term = leader.replica.term
        w.sent.clear()
        many(w, leader, range(30, 50))
        w.run(3.0)
        assert member.replica.snapshots.is_reading
        assert pieces(w, member.name) == []
        assert leader.replica.term == term
        thread.go_on()
        w.run(1.0)
        assert len(thread.waiting) == 1
        assert len(member.replica.machine.jobs) == 50
        assert w.settled()
