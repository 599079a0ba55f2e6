"""Requests for local queues between nodes: each answered once, whatever becomes of the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from exkiq.clock import SystemClock
from exkiq.errors import NoQueueError, RemoteWireError, Unavailable, UnsupportedOperation
from exkiq.local import hosting
from exkiq.local.hosting import Host
from exkiq.local.rooms import Rooms
from exkiq.machine import Spec, commands
from exkiq.pool.report import Report
from exkiq.wire.messages import Kind, check
from tests.aggregator.pretend import Pids

PID = Pids()
ENQUEUE = commands.enqueue(PID(), Spec("app:work", "desk"), ["1"], [b"\x92\x90\x80"])


class PretendPool:
    """Runs every job at once."""

    unable = ()
    free = 4

    def __init__(self, report: Callable[[Report], None]) -> None:
        self.free_by_group = {"": 4}
        self.report = report
        self.started = 0

    async def start(self) -> None:
        self.started += 1

    def run(self, assignments: list[Any]) -> None:
        report = Report()
        for job in assignments:
            report.done.ids.append(job.id)
            report.done.fences.append(job.fence)
            report.done.values.append(b"\x07")
            report.done.run_ms.append(1)
        asyncio.get_running_loop().call_soon(self.report, report)

    def tree(self) -> dict[str, Any]:
        return {"child 1": {}}

    async def drain(self, timeout: float) -> None: ...

    async def stop(self) -> None: ...


class Wire:
    """Two nodes, n1 and n2, with a link between them that can be cut."""

    def __init__(self) -> None:
        self.is_up = True
        self.is_mute = False
        self.sent: list[list[Any]] = []
        self.pools: list[PretendPool] = []
        self.hosts = {name: self.host(name) for name in ("n1", "n2")}

    def host(self, name: str) -> Host:
        class Peers:
            on_local_call: Any
            on_local_answer: Any
            on_member_down: Any
            send = staticmethod(lambda to, message: self.carry(name, to, message))

        def pool(report: Callable[[Report], None]) -> Any:
            self.pools.append(PretendPool(report))
            return self.pools[-1]

        return Host(name, ("desk",), Peers(), pool, SystemClock(), PID)  # type: ignore[arg-type]

    def carry(self, of: str, to: str, message: list[Any]) -> bool:
        if not self.is_up or to not in self.hosts:
            return False
        check(message)
        self.sent.append(message)
        if not self.is_mute:
            host = self.hosts[to]
            hear = host.called if message[0] == Kind.CALL else host.answered
            asyncio.get_running_loop().call_soon(hear, of, message)
        return True

    async def ask(self, *args: Any) -> list[Any]:
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.hosts["n1"].request(list(args), answer.set_result)
        return await asyncio.wait_for(answer, 5)

    def post(self, *args: Any) -> list[list[Any]]:
        told: list[list[Any]] = []
        self.hosts["n1"].request(list(args), told.append)
        return told


def run(test: Callable[[Wire], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        wire = Wire()
        try:
            await test(wire)
        finally:
            for host in wire.hosts.values():
                await host.stop()

    asyncio.run(whole())


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_a_job_runs_on_the_node_that_was_named(node: str) -> None:
    """It would run elsewhere, or its children would be there before any job."""

    async def test(wire: Wire) -> None:
        assert await wire.ask(node, "desk", "queues") == [0, {}]
        assert wire.pools == []
        assert await wire.ask(node, "desk", "propose", ENQUEUE, 5_000) == [0, [1, []]]
        assert await wire.ask(node, "desk", "result", "1", 5_000) == [0, ["succeeded", b"\x07"]]
        assert [pool.started for pool in wire.pools] == [1]
        assert bool(wire.sent) == (node == "n2")

    run(test)


def test_an_error_keeps_its_class() -> None:
    """A caller could not tell a slip from an outage."""

    async def test(wire: Wire) -> None:
        answer = await wire.ask("n2", "slip", "queues")
        assert answer[:2] == [1, "NoQueueError"]
        assert "node n2 has no local queue 'slip'" in answer[2]
        assert (await wire.ask("n2", "desk", "result", "?", 1))[:2] == [1, "NoSuchJob"]
        assert (await wire.ask("n2", "desk", "nonsense"))[:2] == [1, "UnsupportedOperation"]
        with pytest.raises(NoQueueError, match="no node of that name"):
            wire.post("n3", "desk", "queues")

    run(test)


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("n2",),
        ("n2", "desk"),
        ("n2", b"desk", "queues"),
        ("n2", "desk", "x" * 65),
        ("n2", "desk", "local", "n1", "desk", "queues"),
        ("n2", "desk", "cluster_leave"),
        ("n2", "desk", "watch", "1", 0),
    ],
)
def test_an_odd_request_is_refused_here(args: tuple[Any, ...]) -> None:
    """It would be handed on, in a circle or to an operator's verbs."""

    async def test(wire: Wire) -> None:
        with pytest.raises(UnsupportedOperation):
            wire.post(*args)
        with pytest.raises(UnsupportedOperation):
            wire.post(2, *args[1:])
        assert wire.sent == []
        wire.hosts["n2"].called("n1", [int(Kind.CALL), 1, "local", list(args[1:])])
        assert [message[0] for message in wire.sent] == [Kind.ANSWER]
        assert wire.sent[0][3][0] == 1

    run(test)


def test_a_node_that_goes_away_leaves_no_question_open() -> None:
    """Who waits would wait for ever; or be told that nothing was done which may be done."""

    async def test(wire: Wire) -> None:
        wire.is_mute = True
        told = wire.post("n2", "desk", "result", "1", 5_000)
        done = wire.post("n2", "desk", "propose", ENQUEUE, 5_000)
        wire.hosts["n1"].link_down("n3")
        assert told == done == []
        wire.hosts["n1"].link_down("n2")
        assert [told[0][:2], done[0][:2]] == [[1, "NoQueueError"], [1, "OutcomeUnknown"]]
        wire.hosts["n1"].answered("n2", [int(Kind.ANSWER), 1, True, [0, "late"]])
        assert [len(told), len(done)] == [1, 1]

    run(test)


def test_an_answer_counts_only_from_who_was_asked() -> None:
    """Another node could answer in its place, or send what is no answer."""

    async def test(wire: Wire) -> None:
        wire.is_mute = True
        told = wire.post("n2", "desk", "queues")
        number = wire.sent[0][1]
        wire.hosts["n1"].answered("n3", [int(Kind.ANSWER), number, True, [0, "forged"]])
        assert told == []
        for odd in (None, [], ["0"], 7):
            with pytest.raises(RemoteWireError):
                wire.hosts["n1"].answered("n2", [int(Kind.ANSWER), number, True, odd])
        wire.hosts["n1"].answered("n2", [int(Kind.ANSWER), number, True, [0, {}]])
        assert told == [[0, {}]]

    run(test)


def test_open_calls_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that answers nothing would fill the memory of all others."""
    monkeypatch.setattr(hosting, "CALLS_MAX", 3)

    async def test(wire: Wire) -> None:
        wire.is_mute = True
        for _ in range(3):
            wire.post("n2", "desk", "queues")
        with pytest.raises(Unavailable, match="3 requests"):
            wire.post("n2", "desk", "queues")
        wire.hosts["n1"].link_down("n2")
        wire.post("n2", "desk", "queues")

    run(test)


class PretendLink:
    """A client's link to n1."""

    on_message: Any
    on_close: Any

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: list[Any]) -> bool:
        self.sent.append(message)
        return True

    def close(self, reason: str) -> None: ...
    async def wait_closed(self) -> None: ...


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_who_has_gone_holds_no_place(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that ask and go away would shut out all others for an hour."""
    monkeypatch.setattr(hosting, "CALLS_MAX", 1)

    async def test(wire: Wire) -> None:
        rooms = Rooms(asyncio.get_running_loop(), SystemClock(), PID, lambda _: None)
        rooms.server.host = host = wire.hosts["n1"]
        gone, here = PretendLink(), PretendLink()
        for link in (gone, here):
            rooms.server.adopt(link)
        await wire.ask(node, "desk", "propose", ENQUEUE, 1000)
        wire.is_mute = node == "n2"
        gone.on_message(gone, [1, "local", node, "desk", "result", "2", 3_600_000])
        gone.on_close(gone, "it went away")
        assert host._calls == {}
        assert all(guest._asked == {} for guest in host._guests.values())
        wire.is_mute = False
        here.on_message(here, [1, "local", node, "desk", "ping"])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (gone.sent, len(here.sent)) == ([], 1)
        assert not rooms.server._clients[here].calls  # type: ignore[index]
        await rooms.stop()

    run(test)


def test_the_tree_shows_its_queues_and_children() -> None:
    """An operator would not see which processes run the jobs of local queues."""

    async def test(wire: Wire) -> None:
        host = wire.hosts["n2"]
        assert host.tree() == {"local": {"queues": ["desk"], "children": {}}}
        await wire.ask("n2", "desk", "propose", ENQUEUE, 1000)
        await asyncio.sleep(0)
        assert host.tree() == {"local": {"queues": ["desk"], "children": {"child 1": {}}}}
        host.queues = ()
        assert host.tree() == {}

    run(test)


def test_a_node_that_stops_takes_no_more() -> None:
    """A job would be taken that nobody runs any more."""

    async def test(wire: Wire) -> None:
        await wire.ask("n2", "desk", "propose", ENQUEUE, 1000)
        await wire.hosts["n2"].stop()
        status, kind, _ = await wire.ask("n2", "desk", "propose", ENQUEUE, 1000)
        assert (status, kind) == (1, "NoQueueError")

    run(test)
