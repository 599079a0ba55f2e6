"""A client's link that stays inside the process.

It carries frames as a socket does: what is sent is heard in a later turn, as a copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from exkiq.links import Link
from exkiq.machine.limits import FRAME_BYTES_MAX
from exkiq.seeker import Dial
from exkiq.server import ClientServer
from exkiq.wire import Hello
from exkiq.wire.frames import FrameDecoder, encode_frame


def _unheard(_: Any, __: Any) -> None:
    """Nobody listens yet."""


class End:
    """One of the two ends; has of a link what a client and a server use."""

    dialled = ""
    peer = Hello("client", "here", "here")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_open = True
        self.on_message: Callable[[Any, list[Any]], None] = _unheard
        self.on_close: Callable[[Any, str], None] = _unheard
        self.other = self
        self._loop = loop
        self._decoder = FrameDecoder(FRAME_BYTES_MAX)
        self._came = bytearray()
        self._is_due = False

    def send(self, message: list[Any]) -> bool:
        """Send a message; False when the link is closed."""
        if self.is_open:
            self.other.hear(encode_frame(message))
        return self.is_open

    def hear(self, frame: bytes) -> None:
        """Take in a frame; it is read at the end of this turn, with all others of it."""
        self._came += frame
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        self._is_due = False
        came, self._came = bytes(self._came), bytearray()
        for message in self._decoder.feed(came):
            self.on_message(self, cast("list[Any]", message))

    def close(self, reason: str) -> None:
        """Close both ends. May be called twice."""
        for end in (self, self.other):
            if end.is_open:
                end.is_open = False
                end.on_close(end, reason)

    async def wait_closed(self) -> None:
        """It is no more than an object."""


def door_of(loop: asyncio.AbstractEventLoop, server: ClientServer) -> Dial:
    """What dials this server, and always reaches it."""

    async def dial(_: str, on_open: Callable[[Link], None]) -> Link:
        here, there = End(loop), End(loop)
        here.other, there.other = there, here
        server.adopt(there)
        link = cast("Link", here)
        on_open(link)
        return link

    return dial
