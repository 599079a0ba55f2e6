"""Members of one group through crashes, cuts and changes, on a virtual clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from exkiq.errors import DataError, NoQuorum, OutcomeUnknown, RemoteWireError
from exkiq.machine import MemberChange
from exkiq.raft import Journal
from exkiq.raft.snapshot import decode
from tests.raft.world import THREE, World, enqueue_op, leader_and_follower, many, three, world


def jobs(w: World, name: str) -> list[str]:
    return sorted(w.members[name].replica.machine.jobs)


def test_one_member_commits_by_itself() -> None:
    with world() as w:
        answer = w.enqueue(w.start("n1", ("n1",)), 1)
        w.run_until(lambda: answer.is_there)
        assert answer.value == [1, []]


@pytest.mark.parametrize("through", ["leader", "follower"])
def test_an_operation_reaches_every_member_once(through: str) -> None:
    with world() as w:
        leader, follower = leader_and_follower(w)
        answer = w.enqueue(leader if through == "leader" else follower, 1)
        w.run_until(lambda: answer.is_there)
        w.run(0.3)
        assert answer.values == [[1, []]]
        assert all(jobs(w, name) == ["job-1"] for name in THREE)
        assert w.settled()


def test_operations_in_flight_become_one_entry() -> None:
    """An entry, a sync and a round trip for each would cost the speed of the design."""
    with world() as w:
        three(w)
        leader = w.leader()
        before = leader.replica.commit_index
        answers = [w.enqueue(leader, number) for number in range(200)]
        w.run_until(lambda: all(answer.is_there for answer in answers))
        assert leader.replica.commit_index - before <= 3


@pytest.mark.parametrize("seed", range(10))
def test_acknowledged_survives_the_leader(seed: int, tmp_path: Path) -> None:
    with world(seed) as w:
        three(w, tmp_path)
        leader = w.leader()
        answers = {number: w.enqueue(leader, number) for number in range(50)}
        w.run(0.004)
        acknowledged = {f"job-{n}" for n, answer in answers.items() if answer.is_there}
        w.kill(leader.name)
        again = w.leader()
        w.run(0.5)
        assert acknowledged <= set(again.replica.machine.jobs)
        w.start(leader.name, THREE, tmp_path / leader.name)
        w.run(2.0)
        assert w.settled()


def test_an_operation_proposed_without_a_leader_is_done_by_the_next(tmp_path: Path) -> None:
    with world() as w:
        three(w)
        w.kill(w.leader().name)
        answer = w.enqueue(next(iter(w.members.values())), 1)
        w.run_until(lambda: answer.is_there)
        assert answer.value == [1, []]


def test_a_repeat_after_an_unknown_outcome_is_applied_once() -> None:
    """The same operation through every member is still one job."""
    with world() as w:
        three(w)
        w.leader()
        for member in w.members.values():
            member.replica.propose(enqueue_op(1), 5.0, None)
        w.run(1.0)
        for name in THREE:
            machine = w.members[name].replica.machine
            assert machine.counts()["enqueued_total"] == 1
        assert w.settled()


def test_no_leader_means_surely_not_done() -> None:
    with world() as w:
        three(w)
        leader = w.leader()
        followers = [name for name in THREE if name != leader.name]
        w.kill(leader.name)
        w.kill(followers[0])
        w.run(1.0)
        answer = w.enqueue(w.members[followers[1]], 1, timeout=1.0)
        w.run_until(lambda: answer.is_there)
        assert isinstance(answer.value, NoQuorum)


def test_a_leader_cut_off_in_mid_commit_says_unknown() -> None:
    with world() as w:
        three(w)
        leader = w.leader()
        w.isolate(leader.name)
        answer = w.enqueue(leader, 1, timeout=0.5)
        w.run_until(lambda: answer.is_there)
        assert isinstance(answer.value, OutcomeUnknown)


def test_a_cut_off_leader_stops_believing_and_catches_up() -> None:
    with world() as w:
        three(w)
        old = w.leader()
        w.isolate(old.name)
        w.run_until(lambda: not old.replica.is_leader, 3.0)
        new = w.leader()
        answer = w.enqueue(new, 1)
        w.run_until(lambda: answer.is_there)
        w.heal()
        w.run(3.0)
        assert w.settled()
        assert jobs(w, old.name) == ["job-1"]


def test_all_killed_and_restarted_have_everything(tmp_path: Path) -> None:
    with world() as w:
        three(w, tmp_path)
        leader = w.leader()
        answers = [w.enqueue(leader, number) for number in range(500)]
        w.run_until(lambda: all(answer.is_there for answer in answers))
        for name in THREE:
            w.kill(name)
        three(w, tmp_path)
        again = w.leader()
        waiting = [record.id for record in again.replica.machine.waiting("default")]
        assert waiting == [f"job-{number}" for number in range(500)]


def test_a_snapshot_and_a_restart_keep_state_and_log(tmp_path: Path) -> None:
    with world() as w:
        three(w, tmp_path)
        leader = w.leader()
        for start in (0, 20):
            answers = [w.enqueue(leader, n) for n in range(start, start + 20)]
            w.run_until(lambda answers=answers: all(a.is_there for a in answers))
        leader.replica._engine.forceLogCompaction()
        w.run(0.3)
        assert leader.replica.log_length < 5
        for name in THREE:
            w.kill(name)
        three(w, tmp_path)
        w.leader()
        w.run(1.0)
        assert all(len(jobs(w, name)) == 40 for name in THREE)
        assert w.settled()


def test_a_crash_between_snapshot_and_trim_loses_nothing(tmp_path: Path) -> None:
    """The engine throws the whole log away when its head is not the snapshot's."""
    with world() as w:
        three(w, tmp_path)
        leader = w.leader()
        answers = [w.enqueue(leader, number) for number in range(10)]
        w.run_until(lambda: all(answer.is_there for answer in answers))
        store = leader.replica.snapshots
        entries = leader.journal[-2:]
        store.serialize((None, entries[1], entries[0], None), entries[0][1])
        store.checkSerializing()
        late = [w.enqueue(leader, number) for number in range(10, 20)]
        w.run_until(lambda: all(answer.is_there for answer in late))
        last = leader.journal.last_index
        for name in THREE:
            w.kill(name)
        journal = Journal(tmp_path / leader.name / "journal")
        assert journal.first_index == 1
        journal.close()
        three(w, tmp_path)
        assert w.members[leader.name].journal.last_index >= last
        w.leader()
        w.run(1.0)
        assert len(jobs(w, leader.name)) == 20
        assert w.settled()


def test_a_laggard_gets_a_snapshot(tmp_path: Path) -> None:
    with world() as w:
        three(w, tmp_path)
        leader = w.leader()
        laggard = next(name for name in THREE if name != leader.name)
        w.kill(laggard)
        many(w, leader, range(30))
        for member in w.members.values():
            member.replica._engine.forceLogCompaction()
        w.run(0.5)
        w.start(laggard, THREE, tmp_path / laggard)
        w.run(3.0)
        assert len(jobs(w, laggard)) == 30
        assert w.settled()


def test_a_damaged_snapshot_on_the_way_is_not_used(tmp_path: Path) -> None:
    """Half a state would lead the cluster one day."""
    with world() as w:
        three(w, tmp_path)
        leader = w.leader()
        laggard = next(name for name in THREE if name != leader.name)
        w.kill(laggard)
        many(w, leader, range(30))
        for member in w.members.values():
            member.replica._engine.forceLogCompaction()
        w.run(0.5)
        damaged: list[int] = []

        def damage(sender: str, to: str, message: list) -> list:  # type: ignore[type-arg]
            body = message[1]
            if to == laggard and isinstance(body, dict) and body.get("serialized") and not damaged:
                data, *place = body["serialized"]
                damaged.append(len(data))
                body["serialized"] = [data[:-1] + bytes([data[-1] ^ 1]), *place]
            return message

        w.filter = damage
        member = w.start(laggard, THREE, tmp_path / laggard)
        w.run_until(lambda: bool(damaged))
        w.run(0.02)
        assert member.replica.snapshots.failures == 1
        w.run(5.0)
        assert w.settled()
        assert len(jobs(w, laggard)) == 30


def test_a_damaged_snapshot_file_is_named_and_refused(tmp_path: Path) -> None:
    with world() as w:
        w.start("n1", ("n1",), tmp_path)
        leader = w.leader()
        answers = [w.enqueue(leader, number) for number in range(5)]
        w.run_until(lambda: all(answer.is_there for answer in answers))
        leader.replica._engine.forceLogCompaction()
        w.run(0.3)
        w.kill("n1")
        path = tmp_path / "snapshot"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(DataError, match="snapshot"):
            w.start("n1", ("n1",), tmp_path)
        with pytest.raises(DataError, match="checksum"):
            decode(bytes(data), "it")


def test_members_join_and_leave_through_the_log() -> None:
    with world() as w:
        three(w)
        leader = w.leader()
        answer = w.enqueue(leader, 1)
        w.run_until(lambda: answer.is_there)
        joiner = w.start("n4", (*THREE, "n4"))
        leader.replica.change_members(MemberChange("add", "n4", "h:4", "i4"))
        w.run(2.0)
        assert [change.name for change in leader.appended] == ["n4"]
        assert joiner.replica.machine.members["n4"].address == "h:4"
        assert all(m.replica.voters == {*THREE, "n4"} for m in w.members.values())
        assert w.settled()
        leader.replica.change_members(MemberChange("remove", "n4", "h:4", "i4"))
        w.run(2.0)
        assert all(w.members[name].replica.voters == set(THREE) for name in THREE)


def test_one_change_of_members_at_a_time() -> None:
    """Two at once can make two majorities that do not meet."""
    with world() as w:
        three(w)
        leader = w.leader()
        for number in (4, 5, 6):
            w.start(f"n{number}", (*THREE, f"n{number}"))
            leader.replica.change_members(MemberChange("add", f"n{number}", "h:1", "i"))
        most = 0
        for _ in range(400):
            w.run(0.002)
            applied = leader.replica.applied_index
            journal = leader.journal
            most = max(most, sum(e[1] > applied and e[0][0] == 2 for e in journal[:]))
        assert most == 1
        assert {"n4", "n5", "n6"} <= leader.replica.voters


def test_members_are_those_of_the_log_after_a_restart(tmp_path: Path) -> None:
    """A node that forgets a member counts the wrong majority."""
    with world() as w:
        three(w, tmp_path)
        leader = w.leader()
        (tmp_path / "n4").mkdir()
        w.start("n4", (*THREE, "n4"), tmp_path / "n4")
        leader.replica.change_members(MemberChange("add", "n4", "h:4", "i4"))
        w.run(2.0)
        w.kill("n2")
        again = w.start("n2", THREE, tmp_path / "n2")
        assert again.replica.voters == {*THREE, "n4"}


@pytest.mark.parametrize(
    "message",
    [
        5,
        {"type": "no such"},
        {"type": "append_entries", "term": "x", "commit_index": 1},
        {"type": "append_entries", "term": 1, "commit_index": 1, "seq": 1, "transmission": "start"},
        {"type": "append_entries", "term": 1, "commit_index": 1, "seq": 1, "prevLogIdx": 1},
        {
            "type": "append_entries",
            "term": 1,
            "commit_index": 1,
            "seq": 1,
            "prevLogIdx": 1,
            "prevLogTerm": 0,
            "entries": [[b"", 2, 1]],
        },
        {
            "type": "next_node_idx",
            "next_node_idx": True,
            "reset": False,
            "success": True,
            "term": 1,
            "seq": 1,
        },
        {"type": "request_vote", "term": 2**70, "last_log_index": 1, "last_log_term": 1},
    ],
)
def test_garbage_of_a_peer_is_refused_before_the_engine(message: object) -> None:
    with world() as w:
        member = w.start("n1", THREE)
        with pytest.raises(RemoteWireError):
            member.replica.receive("n2", [1, message])


def test_a_full_disk_stops_the_member_and_nothing_is_acknowledged(tmp_path: Path) -> None:
    with world() as w:
        three(w, tmp_path)
        leader = w.leader()
        leader.journal._db.execute("PRAGMA max_page_count = 1")
        leader.replica.propose(enqueue_op(1, size=500_000), 5.0, None)
        w.run(1.0)
        assert len(leader.failures) == 1
        assert "full" in str(leader.failures[0])
