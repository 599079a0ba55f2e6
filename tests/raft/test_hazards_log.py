"""Nothing that was acknowledged or applied ever leaves the log, by whatever message or crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exkiq.errors import DataError, RemoteWireError
from exkiq.machine import MemberChange
from exkiq.raft import Journal, Replica, ReplicaSettings, engine, journal, journal_file
from exkiq.raft.membership import encode_change
from tests.raft.world import (
    THREE,
    Member,
    World,
    leader_and_follower,
    many,
    run_at_once,
    three,
    world,
)

NO_OP = b"\x01"


def append(leader: Member, place: int, entries: list[Any], **fields: Any) -> list[Any]:
    log = leader.journal
    message = {
        "type": "append_entries",
        "term": leader.replica.term,
        "commit_index": 0,
        "prevLogIdx": place,
        "prevLogTerm": log.term_at(place),
        "seq": 1,
        "entries": entries,
    }
    return [1, message | fields]


def test_a_second_wave_of_appends_forgets_nothing_that_was_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two resets of one follower make two waves; cut off after the first message of the second
    it would have forgotten what the leader has counted and acknowledged."""
    monkeypatch.setattr(engine, "BATCH_BYTES", 1000)
    with world() as w:
        three(w)
        leader = w.leader()
        behind, other = (m for m in w.members.values() if m is not leader)
        w.isolate(behind.name)
        many(w, leader, range(20))
        w.heal()
        w.isolate(other.name)
        two_resets(w, leader, behind)
        answers = [w.enqueue(leader, number) for number in range(20, 25)]
        w.run_until(lambda: all(answer.is_there for answer in answers))
        place = 3
        first_of_wave = append(leader, place, [list(leader.journal[place])])
        behind.replica.receive(leader.name, first_of_wave)
        w.kill(leader.name)
        assert len([e for e in behind.journal[:] if b"job-" in e[0]]) >= 21
        w.heal()
        w.leader()
        w.run(1.0)
        assert len(behind.replica.machine.jobs) == 25


def two_resets(w: World, leader: Member, behind: Member) -> None:
    """As after a change of leaders: both heartbeats on their way find a gap."""
    reset = {"type": "next_node_idx", "next_node_idx": 3, "reset": True, "success": False}
    for _ in range(2):
        seq = leader.replica._transport._guard.sent[behind.name]
        told = reset | {"term": leader.replica.term, "seq": seq}
        leader.replica.receive(behind.name, [1, told])
        w.run(0.03)


def test_an_answer_vouches_for_what_was_compared_and_no_more() -> None:
    """The follower's tail may be of a dead leader: counted, it would be acknowledged."""
    with world() as w:
        leader, follower = leader_and_follower(w)
        many(w, leader, range(3))
        w.run(0.2)
        w.isolate(follower.name)
        last = follower.journal.last_index
        follower.journal.add(NO_OP, last + 1, leader.replica.term)
        w.sent.clear()
        follower.replica.receive(leader.name, append(leader, last, []))
        w.run(0.01)
        answers = [m[1] for s, _, m in w.sent if s == follower.name and "success" in m[1]]
        assert [answer["next_node_idx"] for answer in answers] == [last + 1]


def test_an_applied_entry_is_never_cut_though_the_commit_index_was_not_told() -> None:
    """Other entries in its place would never be applied: the replicas differ for ever."""
    with world() as w:
        leader, follower = leader_and_follower(w)
        many(w, leader, range(5))
        w.run(0.2)
        follower.journal._commit_index = 0  # as it is after a snapshot was loaded
        last = follower.journal.last_index
        place = last - 1
        other = [[NO_OP, last, leader.replica.term - 1]]
        follower.replica.receive(leader.name, append(leader, place, other))
        assert isinstance(follower.failures[0], DataError)
        assert follower.journal.last_index == last


def test_the_journal_itself_refuses_to_cut_what_is_committed(tmp_path: Path) -> None:
    made = Journal(tmp_path / "journal")
    for index in range(1, 6):
        made.add(NO_OP, index, 1)
    made.setRaftCommitIndex(4)
    with pytest.raises(DataError, match="committed entry 4"):
        made.deleteEntriesFrom(3)
    made.deleteEntriesFrom(4)
    assert made.last_index == 4
    made.close()


@pytest.mark.parametrize("commits", range(6))
def test_a_kill_in_the_middle_of_a_compaction_loses_nothing(
    tmp_path: Path, commits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is cut in slices; killed between two it must still fit to the snapshot."""
    monkeypatch.setattr(journal_file, "COMPACT_ROWS_A_COMMIT", 4)
    with world() as w:
        member = w.start("n1", ("n1",), tmp_path)
        many(w, w.leader(), range(20))
        member.replica._engine.forceLogCompaction()
        slices: list[int] = []
        cut = member.journal._cut_some_below

        def counted() -> bool:
            slices.append(1)
            return cut()

        monkeypatch.setattr(member.journal, "_cut_some_below", counted)
        w.run_until(lambda: member.replica.log_length < 5)
        w.run_until(lambda: len(slices) >= commits)
        w.kill("n1")
        again = w.start("n1", ("n1",), tmp_path)
        w.leader()
        w.run_until(lambda: len(again.replica.machine.jobs) == 20)
        many(w, again, range(20, 25))
        w.kill("n1")
        w.start("n1", ("n1",), tmp_path)
        w.leader()
        assert len(w.members["n1"].replica.machine.jobs) == 25


def compacted(w: World, folder: Path) -> None:
    member = w.start("n1", ("n1",), folder)
    many(w, w.leader(), range(10))
    member.replica._engine.forceLogCompaction()
    w.run(0.3)
    w.kill("n1")


def test_a_log_without_its_snapshot_is_refused(tmp_path: Path) -> None:
    """The rest of the log would be applied to an empty state."""
    with world() as w:
        compacted(w, tmp_path)
        (tmp_path / "snapshot").unlink()
        with pytest.raises(DataError, match="snapshot"):
            w.start("n1", ("n1",), tmp_path)


def test_a_snapshot_older_than_the_log_s_beginning_is_refused(tmp_path: Path) -> None:
    """The engine would throw the whole log away, and with it what was acknowledged."""
    with world() as w:
        compacted(w, tmp_path)
        old = (tmp_path / "snapshot").read_bytes()
        member = w.start("n1", ("n1",), tmp_path)
        many(w, w.leader(), range(10, 20))
        member.replica._engine.forceLogCompaction()
        w.run(0.3)
        w.kill("n1")
        (tmp_path / "snapshot").write_bytes(old)
        with pytest.raises(DataError, match="snapshot ends before"):
            w.start("n1", ("n1",), tmp_path)


def test_a_log_on_disk_with_snapshots_in_memory_is_refused(tmp_path: Path) -> None:
    """The log is trimmed to a snapshot that is gone after a restart: everything is lost."""
    with world() as w:
        log = Journal(tmp_path / "journal")
        member = w.start("n9", ("n9",))
        settings = ReplicaSettings("n1", "c1", ("n1",), None)
        with pytest.raises(ValueError, match="snapshot"):
            Replica(settings, log, member, member._send, w.clock, run_at_once, w.random.random)
        log.close()


def test_a_member_whose_entry_is_not_committed_yet_counts_after_a_restart(tmp_path: Path) -> None:
    """The newest list in the log counts, committed or not: else two majorities do not meet."""
    with world() as w:
        three(w, tmp_path)
        leader = w.leader()
        many(w, leader, range(3))
        for name in THREE:
            if name != leader.name:
                w.cut |= {(name, leader.name)}
        leader.replica.change_members(MemberChange("add", "n4", "h:4", "i4"))
        w.run(0.05)
        follower = next(name for name in THREE if name != leader.name)
        assert "n4" not in leader.replica.machine.members
        w.kill(follower)
        again = w.start(follower, THREE, tmp_path / follower)
        assert again.replica.voters == {*THREE, "n4"}


def test_a_member_that_came_after_the_snapshot_counts_from_the_start(tmp_path: Path) -> None:
    """Until the log is applied again the majority would be that of the snapshot."""
    with world() as w:
        three(w, tmp_path)
        leader = w.leader()
        many(w, leader, range(5))
        w.run(0.2)
        for member in w.members.values():
            member.replica._engine.forceLogCompaction()
        w.run(0.3)
        w.start("n4", (*THREE, "n4"))
        leader.replica.change_members(MemberChange("add", "n4", "h:4", "i4"))
        w.run(1.0)
        w.kill("n1")
        assert (tmp_path / "n1" / "snapshot").is_file()
        again = w.start("n1", THREE, tmp_path / "n1")
        assert again.replica.voters == {*THREE, "n4"}
        w.run(1.0)
        assert again.replica.voters == {*THREE, "n4"}


def test_a_membership_entry_that_cannot_be_read_never_gets_into_the_log() -> None:
    """It would stop every node that has it, again at each start."""
    with world() as w:
        member = w.start("n1", THREE)
        last = member.journal.last_index
        for body in (b"\x02junk", encode_change(MemberChange("add", "n", "", ""))[:-2]):
            entries = [[body, last + 1, 1]]
            message = {
                "type": "append_entries",
                "term": 1,
                "commit_index": 0,
                "prevLogIdx": last,
                "prevLogTerm": 0,
                "entries": entries,
            }
            with pytest.raises(RemoteWireError):
                member.replica.receive("n2", [1, message])
        assert member.journal.last_index == last
        assert not member.failures


@pytest.mark.parametrize(
    "entry", [[NO_OP, 2.0, 1], [NO_OP, 2, 7], [NO_OP, 2, -1], [NO_OP, True, 1]]
)
def test_an_entry_that_no_leader_makes_is_refused(entry: list[Any]) -> None:
    """The journal could not write it, and the node would stop."""
    with world() as w:
        member = w.start("n1", THREE)
        message = {
            "type": "append_entries",
            "term": 2,
            "commit_index": 0,
            "prevLogIdx": 1,
            "prevLogTerm": 0,
            "entries": [entry],
        }
        with pytest.raises(RemoteWireError):
            member.replica.receive("n2", [1, message])


def test_the_file_of_the_log_grows_no_more_than_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that is compacted again and again would fill the disk all the same."""
    monkeypatch.setattr(journal, "KEPT_ENTRIES", 10)
    path = tmp_path / "journal"
    made = Journal(path)
    sizes = []
    for _ in range(12):
        for _ in range(200):
            made.add(b"\x00" * 4000, made.last_index + 1, 1)
        made.commit()
        made.deleteEntriesTo(len(made) - 2)
        for _ in range(4):
            made.setCurrentTerm(1, None)
        assert len(made) < 20
        sizes.append(path.stat().st_size)
    made.close()
    assert max(sizes[4:]) <= 2 * 200 * 4000 * 1.2, sizes
    assert max(sizes[8:]) <= max(sizes[4:8]), sizes
