"""Each entry is applied once, each outcome is told, and no turn starves the heartbeats."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from exkiq.errors import JobTooLarge, LocalWireError
from exkiq.machine import Applied, MemberChange, Spec, commands
from exkiq.machine.limits import OP_BYTES_MAX
from exkiq.raft import engine
from tests.raft.test_hazards_snapshot import with_laggard
from tests.raft.world import THREE, Answer, enqueue_op, leader_and_follower, many, pid, three, world


def test_a_listener_that_fails_stops_the_node_and_nothing_is_applied_twice(tmp_path: Path) -> None:
    """The engine would apply the entry again in every turn."""
    with world() as w:
        member = w.start("n1", ("n1",), tmp_path)
        w.leader()
        seen: list[Applied] = []

        def broken(applied: Applied) -> None:
            seen.append(applied)
            raise RuntimeError("the node above is broken")

        member.applied = broken  # type: ignore[method-assign]
        w.enqueue(member, 1)
        w.run(2.0)
        assert len(seen) == 1
        assert "broken" in str(member.failures[0])
        w.kill("n1")
        again = w.start("n1", ("n1",), tmp_path)
        w.leader()
        w.run(0.5)
        assert again.replica.machine.counts()["enqueued_total"] == 1


def test_a_waiter_that_fails_applies_nothing_twice() -> None:
    with world() as w:
        three(w)
        leader = w.leader()
        told: list[Any] = []

        def broken(outcome: Any) -> None:
            told.append(outcome)
            raise RuntimeError("the waiter is broken")

        leader.replica.propose(enqueue_op(1), 5.0, broken)
        w.run(2.0)
        assert told == [[1, []]]
        assert leader.replica.machine.counts()["enqueued_total"] == 1
        others = [m for m in w.members.values() if m is not leader]
        assert all(m.replica.machine.counts()["enqueued_total"] == 1 for m in others)


def test_bytes_that_are_no_entry_are_applied_everywhere_alike(tmp_path: Path) -> None:
    """An exception while an entry is applied would stop every node, at each start again."""
    with world() as w:
        three(w, tmp_path)
        leader = w.leader()
        for body in (b"\x00", b"\x00junk", b"\x01", b"\x03\x80", b"\xff" * 50, b"\x00\xc1"):
            leader.replica._engine.append(body)
            w.run(0.1)
        many(w, leader, range(3))
        for name in THREE:
            w.kill(name)
        three(w, tmp_path)
        w.leader()
        w.run(1.0)
        assert w.settled()
        assert not any(m.failures for m in w.members.values())


def test_a_large_backlog_is_applied_in_many_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Applied in one, it would cost the leader its heartbeats, and so the lead."""
    monkeypatch.setattr(engine, "APPLY_BYTES_A_TURN", 500)
    with world() as w:
        three(w, tmp_path)
        leader = w.leader()
        many(w, leader, range(40))
        for name in THREE:
            w.kill(name)
        three(w, tmp_path)
        applied: list[int] = []
        member = w.members["n1"]
        tick = member.replica._engine.doTick

        def counted(wait: float) -> None:
            before = member.replica.applied_index
            tick(wait)
            applied.append(member.replica.applied_index - before)

        monkeypatch.setattr(member.replica._engine, "doTick", counted)
        w.leader()
        w.run(1.0)
        assert len(member.replica.machine.jobs) == 40
        assert max(applied) < 15
        assert w.settled()


def test_an_entry_larger_than_a_turn_s_share_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "APPLY_BYTES_A_TURN", 1)
    with world() as w:
        three(w)
        many(w, w.leader(), range(5))


def test_an_outcome_that_came_in_a_snapshot_is_told(tmp_path: Path) -> None:
    """The entry itself is never applied here: its caller would wait for ever."""
    with world() as w:
        three(w, tmp_path)
        leader = w.leader()
        many(w, leader, range(5))
        follower = next(m for m in w.members.values() if m is not leader)
        for name in THREE:
            if name != follower.name:
                w.cut |= {(name, follower.name)}
        answer, cancelled = Answer(), Answer()
        follower.replica.propose(enqueue_op(100), 20.0, answer.set)
        follower.replica.propose(commands.cancel(pid(101), "job-3"), 20.0, cancelled.set)
        w.run_until(lambda: "job-100" in leader.replica.machine.jobs)
        many(w, leader, range(5, 30))
        for member in w.members.values():
            if member is not follower:
                member.replica._engine.forceLogCompaction()
        w.run(0.3)
        w.heal()
        w.run_until(lambda: answer.is_there and cancelled.is_there, 10.0)
        assert cancelled.values == ["ok"]
        assert len(answer.values) == 1
        assert follower.replica.machine.counts()["enqueued_total"] == 31


def test_an_operation_lost_on_its_way_to_a_leader_that_stays_is_sent_again() -> None:
    """No change of leaders would ever remind us of it."""
    with world() as w:
        _, follower = leader_and_follower(w)
        lost: list[int] = []

        def lose(_: str, __: str, message: list[Any]) -> list[Any] | None:
            if message[0] == 2 and not lost:
                lost.append(1)
                return None
            return message

        w.filter = lose
        answer = w.enqueue(follower, 1)
        w.run_until(lambda: answer.is_there)
        assert (answer.value, lost) == ([1, []], [1])


@pytest.mark.parametrize("seed", range(20))
def test_a_leader_never_waits_for_an_entry_that_is_gone(seed: int) -> None:
    """It would take operations in and propose nothing any more."""
    with world(seed) as w:
        three(w)
        for number in range(6):
            leader = w.leader()
            w.enqueue(leader, number, None)
            w.run(w.random.uniform(0.0, 0.004))
            w.isolate(leader.name)
            w.run(w.random.uniform(0.0, 1.5))
            w.heal()
            w.run(w.random.uniform(0.0, 0.6))
        answer = w.enqueue(w.leader(), 50)
        w.run_until(lambda: answer.is_there and len(w.leader().replica.machine.jobs) == 7)
        w.run(3.0)
        assert w.settled()


def test_an_operation_that_no_leader_takes_is_refused_at_once() -> None:
    """It would be sent again and again, and dropped each time, without a word."""
    with world() as w:
        member = w.start("n1", ("n1",))
        op = commands.complete(pid(1), 1, ["a"], [1], [b"x" * OP_BYTES_MAX], [1])
        with pytest.raises(JobTooLarge):
            member.replica.propose(op, None, None)
        assert member.replica.waiting == 0


def test_an_entry_that_would_be_cut_in_pieces_is_never_proposed() -> None:
    """The engine miscounts the pieces, and replication stands still for ever."""
    with world() as w:
        member = w.start("n1", ("n1",))
        with pytest.raises(LocalWireError):
            member.replica._engine.append(b"\x00" * engine.BATCH_BYTES)


@pytest.mark.parametrize("size", [100_000, 1_000_000, 1_900_000])
def test_the_largest_operations_travel_whole(size: int) -> None:
    with world() as w:
        three(w)
        leader = w.leader()
        spec = Spec("m:t", "default")
        answers = [Answer() for _ in range(4)]
        for number, answer in enumerate(answers):
            ids = [f"job-{number}-{part}" for part in range(2)]
            op = commands.enqueue(pid(number), spec, ids, [b"x" * (size // 2)] * 2)
            leader.replica.propose(op, 20.0, answer.set)
        w.run_until(lambda: all(answer.is_there for answer in answers), 20.0)
        w.run(1.0)
        assert w.settled()
        assert not any("transmission" in m[1] for _, _, m in w.sent if m[0] == 1)


def test_a_change_of_members_is_not_proposed_beside_one_of_an_earlier_leader() -> None:
    """Two uncommitted changes in one log can make two majorities that do not meet."""
    with world() as w:
        three(w)
        old = w.leader()
        w.start("n4", (*THREE, "n4"))
        for name in THREE:
            if name != old.name:
                w.cut |= {(name, old.name)}
        old.replica.change_members(MemberChange("add", "n4", "h:4", "i4"))
        w.run(0.02)
        w.kill(old.name)
        w.run_until(lambda: any(m.replica._engine.is_leader for m in w.members.values()))
        leader = next(m for m in w.members.values() if m.replica._engine.is_leader)
        leader.replica.change_members(MemberChange("add", "n5", "h:5", "i5"))
        for _ in range(300):
            w.run(0.002)
            applied = leader.replica.applied_index
            pending = [e for e in leader.journal[:] if e[1] > applied and e[0][:1] == b"\x02"]
            assert len(pending) <= 1


def test_no_name_is_looked_up_and_no_thread_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both would block or race with the one loop that owns everything."""

    def reached(*_: Any, **__: Any) -> None:
        raise AssertionError("a name was looked up")

    monkeypatch.setattr(socket, "getaddrinfo", reached)
    with world() as w:
        three(w)
        leader = w.leader()
        many(w, leader, range(3))
        made = leader.replica._engine
        assert made.conf.autoTick is False
        assert made._SyncObj__thread is None
        assert not made.conf.useFork
        assert not made.conf.commandsWaitLeader
        assert not hasattr(made, "_SyncObj__pipeNotifier")


def test_a_heartbeat_is_not_delayed_by_a_snapshot_on_its_way(tmp_path: Path) -> None:
    """The leader of two would think itself cut off while the other loads, and step down."""
    with world() as w:
        leader, laggard = with_laggard(w, tmp_path)
        term = leader.replica.term
        w.start(laggard, THREE, tmp_path / laggard)
        w.run(3.0)
        assert (leader.replica.is_leader, leader.replica.term) == (True, term)


@pytest.mark.parametrize("named", [True, False])
def test_the_lead_can_be_given_away_under_load(named: bool) -> None:
    """An heir must have everything, which nobody ever has while the leader takes more in."""
    with world() as w:
        three(w)
        old = w.leader()
        heir = next(name for name in THREE if name != old.name)
        numbers = iter(range(100_000))

        def load() -> None:
            w.enqueue(old, next(numbers), 30.0)
            w.loop.call_later(0.0003, load)

        load()
        w.run(0.5)
        old.replica.transfer_leadership(heir if named else None)
        w.run_until(lambda: not old.replica.is_leader, 0.6)
        w.run(0.5)
        leader = w.leader()
        assert leader is not old
        assert leader.name == heir or not named


def test_a_lead_that_nobody_takes_is_kept_and_work_goes_on() -> None:
    with world() as w:
        three(w)
        leader = w.leader()
        w.filter = lambda _, __, m: None if m[0] == 1 and m[1]["type"] == "timeout_now" else m
        leader.replica.transfer_leadership(None)
        answer = w.enqueue(leader, 1)
        w.run_until(lambda: answer.is_there, 2.0)
        assert leader.replica.is_leader


def test_an_operation_at_rest_takes_a_round_trip_and_no_heartbeat() -> None:
    """In the engine's batches each entry waits for the next heartbeat, and for one more."""
    with world() as w:
        three(w)
        leader = w.leader()
        w.run(0.5)
        took = []
        for number in range(20):
            began = w.clock.seconds
            answer = w.enqueue(leader, number)
            w.run_until(lambda answer=answer: answer.is_there)
            took.append(w.clock.seconds - began)
            w.run(0.033)
        assert max(took) < 0.02  # a message takes 2 ms here, and one look 5
