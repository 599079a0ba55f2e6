"""What those are told who watch a job or ask how far it is, over a pretended link."""

from __future__ import annotations

import pytest

from exkiq import server
from exkiq.machine import commands
from tests.server.room import PretendLink, Room, run


def names(link: PretendLink, rid: int) -> list[str]:
    """The steps that were told for this request; of the last one with an exclamation mark."""
    told = [answer for answer in link.sent if answer[0] == rid and answer[2] is not None]
    return [answer[2]["name"] + "!" * (answer[1] == 0) for answer in told]


def test_a_watcher_is_told_each_step_and_the_last() -> None:
    """Someone who watches would miss a step, or wait for more after the last."""

    async def test(room: Room) -> None:
        room.enqueue("1", "2")
        other = room.client()
        assert room.link.ask(1, "watch", "1", 0)[:2] == [1, 2]
        room.house.propose_nowait(commands.claim(room.pid(), [("n1", 1, ["1", "2"])]))
        other.ask(1, "watch", "1", 0)
        fence = room.house.machine.jobs["1"].fence
        room.house.propose_nowait(commands.complete(room.pid(), 1, ["1"], [fence]))
        assert names(room.link, 1) == ["queued", "started", "succeeded!"]
        assert names(other, 1) == ["started", "succeeded!"]
        assert not any(client.watches for client in room.server._clients.values())
        assert len(room.server._watchers) == 0
        assert room.link.ask(2, "watch", "1", 0)[1:3] == [0, room.link.sent[-1][2]]
        assert names(room.link, 2) == ["succeeded!"]

    run(test)


def test_who_watches_no_more_is_told_nothing() -> None:
    """Each watch that was given up would cost a message a step, as long as the job lives."""

    async def test(room: Room) -> None:
        room.enqueue("1")
        other = room.client()
        for link in (room.link, other):
            link.ask(1, "watch", "1", 0)
        room.link.ask(2, "unwatch", 1)
        assert room.link.sent[-2:] == [[1, 0, None], [2, 0, True]]
        assert room.link.ask(3, "unwatch", 1) == [3, 0, False]
        other.on_close(other, "gone")
        assert len(room.server._watchers) == 0
        room.complete("1")
        assert names(room.link, 1) == names(other, 1) == ["queued"]
        assert room.server._clients[room.link].unanswered == 0

    run(test)


def test_watches_of_a_client_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One client could have the node send it each step of all jobs."""
    monkeypatch.setattr(server, "WATCHES_MAX", 2)

    async def test(room: Room) -> None:
        room.enqueue("1", "2", "3")
        assert [room.link.ask(rid, "watch", str(rid), 0)[1] for rid in (1, 2)] == [2, 2]
        assert room.link.ask(3, "watch", "3", 0)[1:3] == [1, "Refused"]
        assert room.client().ask(3, "watch", "3", 0)[1] == 2
        room.complete("1")
        assert room.link.ask(4, "watch", "3", 0)[1] == 2

    run(test)


def test_progress_is_told_of_what_runs() -> None:
    """A job that says how far it is would say it to nobody."""
    room = Room()
    room.enqueue("1", "2")
    room.house.propose_nowait(commands.claim(room.pid(), [("n1", 1, ["1"])]))
    room.progress["1"] = b"half"
    assert room.link.ask(1, "progress", "1") == [1, 0, b"half"]
    assert room.link.ask(2, "progress", "2") == [2, 0, None]
    assert room.link.ask(3, "job", "1")[2]["progress"] == b"half"
    assert [job.get("progress") for job in room.link.ask(4, "jobs", None, None, 9, 0)[2]] == [
        b"half",
        None,
    ]
    assert room.link.ask(5, "status")[2]["progress"] == {"1": b"half"}
