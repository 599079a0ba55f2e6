"""What exkiq relies on in pysyncobj 0.3.17: red when the package changes beneath us."""

from __future__ import annotations

import hashlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pysyncobj
import pysyncobj.journal
import pysyncobj.pickle
import pytest
from pysyncobj import SyncObj, syncobj
from pysyncobj.version import VERSION

from exkiq.machine import Machine, MemberChange
from exkiq.raft.engine import Engine
from exkiq.raft.journal import Journal
from exkiq.raft.membership import Roles
from exkiq.raft.snapshot import SnapshotStore
from exkiq.raft.transport import EngineTransport
from tests.raft.world import THREE, enqueue_op, leader_and_follower, run_at_once, three, world

NO_OP = 1

SOURCES_SHA256 = "43967e81db9c4e40c3c70749017f52114179104bfcfa80480eb352b2508adb3a"


@pytest.fixture
def _no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle function was reached")

    for module in (pysyncobj.pickle, pysyncobj.pickle.pickle, pysyncobj.journal):
        for name in ("loads", "dumps", "load", "dump", "_loads"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, reached)


def test_the_package_is_the_one_that_was_read() -> None:
    digest = hashlib.sha256()
    for path in sorted(Path(pysyncobj.__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    assert (VERSION, digest.hexdigest()) == ("0.3.17", SOURCES_SHA256)


@pytest.mark.parametrize(
    "name",
    [
        "_SyncObj__doApplyCommand",
        "_SyncObj__parseChangeClusterRequest",
        "_SyncObj__doChangeCluster",
        "_SyncObj__updateClusterConfiguration",
        "_SyncObj__connectedToAnyone",
        "_SyncObj__applyLogEntries",
        "_checkCommandsToApply",
        "_isLeader",
        "_getLeader",
    ],
)
def test_what_is_overridden_or_asked_exists(name: str) -> None:
    assert callable(getattr(SyncObj, name))


def test_the_private_attributes_exist(tmp_path: Path) -> None:
    with world() as w:
        engine = w.start("n1", ("n1",)).replica._engine
        w.run(1.0)
        names = ("raftLog", "commandsQueue", "noopIDx", "otherNodes", "raftElectionDeadline")
        lists = ("readonlyNodes", "raftNextIndex", "raftMatchIndex", "transport")
        for name in (*names, *lists, "raftCommitIndex", "changeClusterIDx"):
            assert hasattr(engine, f"_SyncObj__{name}"), name
        engine.append(b"\x00")
        assert engine._SyncObj__commandsQueue._FastQueue__queue, "where commands wait"


def test_the_package_is_left_as_it_was() -> None:
    """A program may use pysyncobj for itself beside exkiq."""
    before = (syncobj.createJournal, syncobj.Serializer, syncobj.PIPE_NOTIFIER_ENABLED)
    with world() as w:
        w.start("n1", ("n1",))
        assert (syncobj.createJournal, syncobj.Serializer, syncobj.PIPE_NOTIFIER_ENABLED) == before


@pytest.mark.usefixtures("_no_pickle")
def test_no_pickle_from_start_to_snapshot_to_restart(tmp_path: Path) -> None:
    """Foreign bytes must never reach a decoder that runs code."""
    with world() as w:
        three(w, tmp_path)
        leader = w.leader()
        answers = [w.enqueue(leader, number) for number in range(20)]
        w.run_until(lambda: all(answer.is_there for answer in answers))
        leader.replica.change_members(MemberChange("add", "n4", "h:4", "i4"))
        w.run(1.0)
        leader.replica.change_members(MemberChange("remove", "n4", "h:4", "i4"))
        w.run(1.0)
        leader.replica._engine.forceLogCompaction()
        w.run(0.5)
        assert (tmp_path / leader.name / "snapshot").is_file()
        w.kill(leader.name)
        w.run(2.0)
        w.start(leader.name, THREE, tmp_path / leader.name)
        w.run(2.0)
        assert w.settled()


def test_every_committed_entry_is_applied_once_in_order(tmp_path: Path) -> None:
    with world() as w:
        three(w, tmp_path)
        leader = w.leader()
        seen: list[int] = []
        original = leader.replica._engine._exkiq_apply
        leader.replica._engine._exkiq_apply = lambda i, c: (seen.append(i), original(i, c))[1]
        first = leader.replica.applied_index + 1
        for number in range(10):
            answer = w.enqueue(leader, number)
            w.run_until(lambda answer=answer: answer.is_there)
        assert seen == list(range(first, first + 10))


def test_the_vote_is_on_the_disk_before_it_is_sent(tmp_path: Path) -> None:
    """Two votes in one term elect two leaders."""
    with world() as w:
        three(w, tmp_path)
        journals = {name: w.members[name].journal for name in THREE}
        broken: list[str] = []
        send = w.send

        def checked(sender: str, to: str, message: list[Any]) -> bool:
            if isinstance(message[1], dict) and message[1]["type"] == "response_vote":
                term, vote = (
                    journals[sender]._db.execute("SELECT term, vote FROM hard_state").fetchone()
                )
                if (term, vote) != (message[1]["term"], to):
                    broken.append(sender)
            return send(sender, to, message)

        w.send = checked  # type: ignore[method-assign]
        w.leader()
        assert broken == []
        assert any(m[1]["type"] == "response_vote" for _, _, m in w.sent if m[0] == 1)


def test_an_answer_leaves_only_after_the_commit(tmp_path: Path) -> None:
    """A follower that vouches for what it can lose makes the leader acknowledge it."""
    with world() as w:
        three(w, tmp_path)
        leader = w.leader()
        journals = {name: w.members[name].journal for name in THREE}
        broken: list[str] = []
        send = w.send

        def checked(sender: str, to: str, message: list[Any]) -> bool:
            body = message[1]
            if message[0] == 1 and body["type"] == "next_node_idx" and body["success"]:
                rows = journals[sender]._db.execute("SELECT max(idx) FROM entry").fetchone()
                if body["next_node_idx"] - 1 > rows[0]:
                    broken.append(sender)
            return send(sender, to, message)

        w.send = checked  # type: ignore[method-assign]
        answers = [w.enqueue(leader, number) for number in range(30)]
        w.run_until(lambda: all(answer.is_there for answer in answers))
        assert broken == []


def test_a_snapshot_message_with_commit_zero_moves_nothing(tmp_path: Path) -> None:
    """The engine commits its own tail by a message that compared nothing."""
    with world() as w:
        leader, follower = leader_and_follower(w, tmp_path)
        w.isolate(follower.name)
        index = follower.replica.commit_index
        follower.journal.add(bytes([NO_OP]), follower.journal.last_index + 1, leader.replica.term)
        message = {
            "type": "append_entries",
            "term": leader.replica.term,
            "seq": 1,
            "commit_index": 10_000,
            "serialized": None,
        }
        follower.replica.receive(leader.name, [1, message])
        w.run(0.05)
        assert follower.replica.commit_index == index


def test_the_engine_s_own_forwarding_never_leaves(tmp_path: Path) -> None:
    """Its answers are numbered from one in every run and acknowledge the wrong command."""
    with world() as w:
        _, follower = leader_and_follower(w, tmp_path)
        follower.replica._engine.append(b"\x00" + enqueue_op(1))
        w.run(0.5)
        kinds = {message[1]["type"] for _, _, message in w.sent if message[0] == 1}
        assert "apply_command" not in kinds


def test_engines_built_at_once_on_threads_have_their_own_parts() -> None:
    """Nodes of one process would share a journal, and none would ever be ready."""
    before = syncobj.createJournal
    names = [f"n{number}" for number in range(8)]
    start = threading.Barrier(len(names))

    def build(name: str) -> bool:
        with_own = []
        start.wait(10)
        for _ in range(20):
            journal = Journal(None)
            snapshots = SnapshotStore(None, journal, Machine, lambda _: None, run_at_once, float)
            transport = EngineTransport(lambda *_: True, float, None, snapshots)  # type: ignore[arg-type]
            roles = Roles(frozenset({name}))
            engine = Engine(
                name, roles, journal, snapshots, transport, lambda *_: None, lambda: None
            )
            with_own.append(engine._SyncObj__raftLog is journal)
            journal.close()
        return all(with_own)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(len(names)) as threads:
            assert all(threads.map(build, names))
    finally:
        sys.setswitchinterval(interval)
    assert syncobj.createJournal is before
