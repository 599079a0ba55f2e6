"""A node's server with pretended links, and an operator whose wishes are noted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from exkiq.clock import ManualClock
from exkiq.errors import NotRunning
from exkiq.machine import Spec, commands
from exkiq.queues import LocalHouse
from exkiq.server import ClientServer
from exkiq.wire import encode_frame
from exkiq.wire.messages import check_answer
from tests.aggregator.pretend import Pids

ENQUEUE_SPEC = Spec("app:work", "default")


class PretendLink:
    """Keeps what is sent, checked as the client's link checks it."""

    def __init__(self) -> None:
        self.sent: list[list[Any]] = []
        self.is_open = True
        self.news = asyncio.Event()
        self.on_message: Callable[[Any, list[Any]], None]
        self.on_close: Callable[[Any, str], None]

    def send(self, message: list[Any]) -> bool:
        check_answer(message)
        assert encode_frame(message)
        self.sent.append(message)
        self.news.set()
        return self.is_open

    async def wait_closed(self) -> None:
        pass

    def close(self, reason: str) -> None:
        self.is_open = False

    async def until_sent(self, count: int) -> None:
        while len(self.sent) < count:
            self.news.clear()
            await self.news.wait()

    def ask(self, *request: Any) -> list[Any]:
        """Send a request; gives what came back at once, [] for nothing yet."""
        count = len(self.sent)
        self.on_message(self, list(request))
        return self.sent[count] if len(self.sent) > count else []


class PretendActions:
    """An operator's wishes, noted."""

    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []

    async def cluster_remove(self, name: str, force: bool) -> None:
        await asyncio.sleep(0)
        if name == "nobody":
            raise NotRunning("no member is named 'nobody'")
        self.done.append(("remove", name, force))

    async def cluster_leave(self) -> None:
        self.done.append(("leave",))

    async def cluster_transfer(self, name: str | None) -> None:
        self.done.append(("transfer", name))


class Room:
    """A node's server and one client."""

    def __init__(self) -> None:
        self.pid = Pids()
        self.clock = ManualClock()
        self.house = LocalHouse(self.clock, "n1")
        self.actions = PretendActions()
        self.progress: dict[str, bytes] = {}
        self.server = ClientServer(
            self.house, lambda: {"node": "n1"}, self.actions, self.clock, self.progress.get
        )
        self.link = self.client()
        self.house.propose_nowait(commands.session_begin(self.pid(), "n1", "run", "a:1"))

    def client(self) -> PretendLink:
        link = PretendLink()
        self.server.adopt(link)
        return link

    def enqueue_op(self, *ids: str, payload: bytes = b"", is_unique: bool = False) -> bytes:
        payloads = [payload] * len(ids)
        return commands.enqueue(self.pid(), ENQUEUE_SPEC, ids, payloads, is_unique=is_unique)

    def enqueue(self, *ids: str) -> None:
        self.house.propose_nowait(self.enqueue_op(*ids))

    def complete(self, job_id: str) -> None:
        self.house.propose_nowait(commands.claim(self.pid(), [("n1", 1, [job_id])]))
        fence = self.house.machine.jobs[job_id].fence
        self.house.propose_nowait(commands.complete(self.pid(), 1, [job_id], [fence], [b"v"]))


def run(test: Callable[[Room], Coroutine[Any, Any, None]]) -> None:
    """Run on a loop; it fails when the server leaves a task behind."""

    async def inside() -> None:
        room = Room()
        await asyncio.wait_for(test(room), 5)
        await room.server.stop()

    asyncio.run(inside())
