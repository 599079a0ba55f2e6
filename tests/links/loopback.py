"""Real links over loopback, between nodes of a few lines."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace

import pytest

from exkiq.clock import SystemClock
from exkiq.config.certificates import Certificates
from exkiq.links import Link, Listener, Mesh, StrangerLimits, Timings, dial
from exkiq.links.complaints import Complaints
from exkiq.wire import Hello

CALM = Timings(redial=0.04, refused_redial=0.04, linger=0.1)
QUICK = Timings(ping=0.02, handshake=0.1, redial=0.04, refused_redial=0.04, linger=0.1)
SECRET = b"correct horse battery staple"


_started: list[Peer] = []


async def and_stop_all(work: Coroutine[object, object, None]) -> None:
    """Runs `work`; a test that fails half-way leaves nothing open."""
    try:
        await work
    finally:
        while _started:
            await _started.pop().stop()


class Peer:
    """The links of one node: a listener, a mesh, and all that happened."""

    def __init__(
        self,
        name: str,
        *,
        secret: bytes | None = SECRET,
        timings: Timings = CALM,
        limits: StrangerLimits | None = None,
        certificates: Certificates | None = None,
        **fields: str,
    ) -> None:
        self.hello = Hello("member", name, f"run of {name}", f"life of {name}", **fields)
        self.events: list[tuple[str, str]] = []
        self.messages: list[tuple[str, object]] = []
        self.strangers: list[Hello] = []
        self.clients: list[Link] = []
        self.answer: Callable[[Link, list], None] = lambda link, message: None
        _started.append(self)
        clock = SystemClock()
        complaints = Complaints(clock)
        shared = {
            "clock": clock,
            "nonce": os.urandom,
            "complaints": complaints,
            "timings": timings,
            "certificates": certificates,
            "on_stranger": lambda hello, error: self.strangers.append(hello),
        }
        self.mesh = Mesh(
            lambda: self.hello,
            secret,
            jitter=random.random,
            on_up=lambda link: self.events.append(("up", link.peer.name)),
            on_down=lambda link, reason: self.events.append(("down", link.peer.name)),
            on_changed=lambda link: self.events.append(("changed", link.peer.name)),
            on_message=self._message,
            **shared,
        )
        self.listener = Listener(
            lambda: self.hello,
            secret,
            on_client=self._client,
            on_peer=self.mesh.adopt,
            limits=limits,
            **shared,
        )

    def _message(self, link: Link, message: list) -> None:
        self.messages.append((link.peer.name, message))
        self.answer(link, message)

    def _client(self, link: Link) -> None:
        link.on_message = lambda link, message: link.send([message[0], 0, message[1]])
        self.clients.append(link)

    async def start(self, port: int = 0) -> Peer:
        address = await self.listener.start("127.0.0.1", port)
        self.hello = replace(self.hello, address=address)
        return self

    @property
    def address(self) -> str:
        return self.listener.address

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def linked(self) -> set[str]:
        return set(self.mesh.links)

    async def stop(self) -> None:
        await self.listener.stop()
        await self.mesh.stop()
        for link in self.clients:
            link.close("the test is over")
            await link.wait_closed()
        await asyncio.sleep(0.005)  # other transports close in the loop's next turns


CLIENT = Hello("client", "c", cluster="")


async def dial_as(hello: Hello, address: str, secret: bytes | None = SECRET, **more) -> Link:
    timings = more.pop("timings", CALM)
    return await dial(
        address, hello, secret, clock=SystemClock(), nonce=os.urandom, timings=timings, **more
    )


class Mailbox:
    """What came over one link."""

    def __init__(self) -> None:
        self.messages: list[list] = []
        self.reasons: list[str] = []

    def take(self, link: Link) -> None:
        link.on_message = lambda link, message: self.messages.append(message)
        link.on_close = lambda link, reason: self.reasons.append(reason)


async def until(condition: Callable[[], object], seconds: float = 3.0) -> None:
    """Wait for what must come true."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition is anything at all
            await asyncio.sleep(0.002)


async def peers(*names: str, **more) -> list[Peer]:
    return [await Peer(name, **more).start() for name in names]


async def stop(*all_: Peer) -> None:
    for peer in all_:
        await peer.stop()


def settled(*all_: Peer) -> bool:
    """Each has exactly the others, over one connection each."""
    names = {peer.hello.name for peer in all_}
    return all(peer.linked() == names - {peer.hello.name} for peer in all_) and all(
        is_one_connection(one, other) for one in all_ for other in all_ if one is not other
    )


def is_one_connection(one: Peer, other: Peer) -> bool:
    """Whether both sides kept the same of perhaps several connections."""
    here = one.mesh.links.get(other.hello.name)
    there = other.mesh.links.get(one.hello.name)
    if here is None or there is None:
        return False
    local = here._transport.get_extra_info("sockname")
    remote = there._transport.get_extra_info("peername")
    return local == remote and here.is_open and there.is_open


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What we logged; the loop may say other things."""
    return [record.getMessage() for record in caplog.records if record.name == "exkiq"]
