"""What a client asks and is told, over a pretended link."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from exkiq import server
from exkiq.clock import ManualClock
from exkiq.errors import Unavailable
from exkiq.machine import commands, limits
from exkiq.queues import Done, LocalHouse
from exkiq.server import ClientServer
from tests.server.room import Room, run


def test_an_operation_is_proposed_and_its_answer_sent() -> None:
    """A client would not learn what became of its operation."""
    room = Room()
    assert room.link.ask(7, "propose", room.enqueue_op("1", "2"), 5000) == [7, 0, [2, []]]
    assert room.link.ask(8, "propose", commands.cancel(room.pid(), "1"), 5000) == [8, 0, "ok"]
    refused = room.link.ask(9, "propose", room.enqueue_op("2", is_unique=True), 5000)
    assert refused[:3] == [9, 1, "JobAlreadyExists"]


def test_only_operations_for_clients_get_in() -> None:
    """Any client could complete, claim or lose the jobs of the cluster."""
    room = Room()
    index = room.house.machine.index
    forbidden = [
        commands.claim(room.pid(), [("n1", 1, ["1"])]),
        commands.complete(room.pid(), 1, ["1"], [1]),
        commands.session_over(room.pid(), "n1", 1, is_orderly=False),
        commands.due(room.pid()),
        commands.found(room.pid(), "id"),
        commands._pack(99, room.pid()),
        b"",
        b"\x01",
        b"\xdc\x00\x08\x01",
        b"\x98\x01\xc4\x02ab",
    ]
    for rid, op in enumerate(forbidden, 1):
        assert room.link.ask(rid, "propose", op, 5000)[:3] == [rid, 1, "UnsupportedOperation"]
    assert room.house.machine.index == index
    assert room.house.machine.sessions


def test_what_is_over_a_limit_is_refused_at_the_door() -> None:
    """A job that nobody will store would travel through the log of every node."""
    room = Room()
    index = room.house.machine.index
    large = room.enqueue_op("1", payload=b"x" * (limits.ARGUMENTS_BYTES_MAX + 1))
    huge = room.enqueue_op("1", payload=b"x" * limits.OP_BYTES_MAX)
    many = room.enqueue_op(*map(str, range(limits.BULK_JOBS_MAX + 1)))
    odd_name = commands.pause(room.pid(), "running")
    kinds = [room.link.ask(1, "propose", op, 5000)[2] for op in (large, huge, many, odd_name)]
    assert kinds == ["JobTooLarge", "JobTooLarge", "Refused", "Refused"]
    assert room.house.machine.index == index


def test_a_job_is_read_from_what_is_applied_here() -> None:
    """A client would see nothing, or another job."""
    room = Room()
    room.enqueue("1")
    assert room.link.ask(1, "job", "1")[2]["state"] == "queued"
    assert room.link.ask(2, "job", "nobody") == [2, 0, None]
    assert [job["id"] for job in room.link.ask(3, "jobs", None, None, 10, 0)[2]] == ["1"]
    assert room.link.ask(4, "jobs", "default", "failed", 10, 0) == [4, 0, []]
    assert room.link.ask(5, "stats")[2]["default"] == 1
    assert room.link.ask(6, "queues")[2]["default"]["queued"] == 1
    assert room.link.ask(7, "status") == [7, 0, {"node": "n1", "progress": {}}]
    assert room.link.ask(8, "ping") == [8, 0, "pong"]


@pytest.mark.parametrize(
    "request_",
    [
        ["nonsense"],
        ["propose"],
        ["propose", "text", 5],
        ["propose", b"op", None],
        ["result", 5, 5],
        ["result", "id"],
        ["job"],
        ["job", None],
        ["jobs", "q", "nonsense", 1, 0],
        ["jobs", "q", None, -1, 0],
        ["jobs", "q", None, 1, -1],
        ["watch", "id"],
        ["watch", "id", -1],
        ["unwatch", "id"],
        ["progress"],
        ["cluster_remove", "n1"],
        ["cluster_transfer", 5],
    ],
)
def test_an_odd_request_is_answered_with_an_error(request_: list[Any]) -> None:
    """A client of another version would wait for an answer, or take the node down."""
    room = Room()
    assert room.link.ask(3, *request_)[:3] == [3, 1, "UnsupportedOperation"]
    assert room.link.ask(4, "ping") == [4, 0, "pong"]


def test_a_result_is_told_when_the_job_ends() -> None:
    """A caller would poll, or wait for ever."""

    async def test(room: Room) -> None:
        room.enqueue("1", "2")
        other = room.client()
        assert room.link.ask(1, "result", "1", None) == []
        assert other.ask(1, "result", "1", 60_000) == []
        assert room.link.ask(2, "result", "2", 0) == [2, 0, ["pending"]]
        room.complete("1")
        assert room.link.sent[-1] == other.sent[-1] == [1, 0, ["succeeded", b"v"]]
        assert not any(client.waiters for client in room.server._clients.values())

    run(test)


def test_a_result_that_does_not_come_in_time_is_pending() -> None:
    """A caller with a time limit would wait beyond it."""

    async def test(room: Room) -> None:
        room.enqueue("1")
        room.link.ask(1, "result", "1", 10)
        await room.link.until_sent(1)
        assert room.link.sent == [[1, 0, ["pending"]]]

    run(test)


def test_a_wrong_id_is_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller with a wrong id would wait for its whole time limit."""
    monkeypatch.setattr("exkiq.queues.waiters.APPEAR_S", 0.01)

    async def test(room: Room) -> None:
        room.link.ask(1, "result", "nobody", None)
        await room.link.until_sent(1)
        assert room.link.sent[0][:3] == [1, 1, "NoSuchJob"]

    run(test)


def test_a_client_that_leaves_waits_no_more() -> None:
    """Every client that ever waited would be remembered."""

    async def test(room: Room) -> None:
        room.enqueue("1")
        room.link.ask(1, "result", "1", 60_000)
        room.link.ask(2, "result", "unknown", 60_000)
        assert len(room.server._waiters) == 2
        room.link.on_close(room.link, "gone")
        room.link.on_close(room.link, "gone")
        assert len(room.server._waiters) == 0
        room.complete("1")
        assert room.link.sent == []
        assert room.link.ask(3, "ping") == []

    run(test)


class Withheld(LocalHouse):
    """A house whose operations have no outcome until told."""

    def __init__(self) -> None:
        super().__init__(ManualClock())
        self.done: list[Done] = []
        self.is_full = False

    def propose_with(self, op: bytes, timeout: float, done: Done) -> None:
        if self.is_full:
            raise Unavailable("too much is on its way")
        self.done.append(done)


def test_answers_come_in_any_order_and_requests_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One client could fill the node's memory, or a slow operation hold up the others."""
    monkeypatch.setattr(server, "REQUESTS_MAX", 3)
    room, house = Room(), Withheld()
    room.server = ClientServer(house, dict, room.actions, room.clock)
    link = room.client()
    for rid in (1, 2, 3):
        assert link.ask(rid, "propose", room.enqueue_op(str(rid)), 5000) == []
    assert link.ask(4, "ping")[:3] == [4, 1, "Unavailable"]
    house.done[1]([1, []])
    assert link.sent[-1] == [2, 0, [1, []]]
    assert link.ask(5, "ping") == [5, 0, "pong"]
    house.is_full = True
    assert link.ask(6, "propose", room.enqueue_op("6"), 5000)[:3] == [6, 1, "Unavailable"]
    house.done[0](Unavailable("no leader"))
    house.done[2]([1, []])
    assert [answer[0] for answer in link.sent] == [4, 2, 5, 6, 1, 3]
    for rid in range(7, 30):
        assert link.ask(rid, "ping") == [rid, 0, "pong"]


def test_an_operators_request_is_answered_when_it_is_done() -> None:
    """The node would stop serving while it waits for the cluster."""

    async def test(room: Room) -> None:
        assert room.link.ask(1, "cluster_remove", "n2", True) == []
        room.link.ask(2, "cluster_remove", "nobody", False)
        room.link.ask(3, "cluster_transfer", None)
        room.link.ask(4, "cluster_leave")
        assert room.link.ask(5, "ping") == [5, 0, "pong"]
        await room.link.until_sent(5)
        assert {answer[0]: answer[1:3] for answer in room.link.sent} == {
            1: [0, None],
            2: [1, "NotRunning"],
            3: [0, None],
            4: [0, None],
            5: [0, "pong"],
        }
        assert sorted(room.actions.done, key=str) == [
            ("leave",),
            ("remove", "n2", True),
            ("transfer", None),
        ]

    run(test)


def test_clients_are_told_where_the_nodes_are() -> None:
    """A client would have nobody to turn to when its node dies."""
    room = Room()
    room.server.members_changed(["a:1", "b:2"])
    room.server.members_changed(["a:1", "b:2"])
    late = room.client()
    assert room.link.sent == late.sent == [[0, "members", ["a:1", "b:2"]]]
    room.link.on_close(room.link, "gone")
    room.server.members_changed(["a:1"])
    assert late.sent[-1] == [0, "members", ["a:1"]]
    assert len(room.link.sent) == 1


def test_a_snapshot_wakes_those_who_wait() -> None:
    """A caller would wait for a job that ended while this node was away."""

    async def test(room: Room) -> None:
        room.enqueue("1")
        room.link.ask(1, "result", "1", None)
        other = Room()
        other.enqueue("1")
        other.complete("1")
        room.house._machine = other.house.machine
        room.server.installed()
        assert room.link.sent == [[1, 0, ["succeeded", b"v"]]]

    run(test)


def test_a_bug_in_one_request_is_logged_and_answered(caplog: pytest.LogCaptureFixture) -> None:
    """One request could end the link of its client, or the node."""
    room = Room()

    def broken() -> dict[str, Any]:
        raise KeyError("oops")

    room.server = ClientServer(room.house, broken, room.actions, room.clock)
    link = room.client()
    with caplog.at_level(logging.ERROR, "exkiq"):
        assert link.ask(1, "status")[:3] == [1, 1, "ExkiqError"]
    assert "status" in caplog.text
    assert link.ask(2, "ping") == [2, 0, "pong"]
