"""One authenticated connection that carries messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias, cast

from exkiq.clock import Clock
from exkiq.errors import RemoteWireError
from exkiq.links.complaints import Complaints
from exkiq.links.sockets import remote_host, tune
from exkiq.links.timings import Silence, Timings
from exkiq.machine import limits
from exkiq.wire.frames import (
    FrameDecoder,
    Value,
    decode_body,
    decode_request,
    encode_frame,
)
from exkiq.wire.handshake import Agreed
from exkiq.wire.hello import UPDATABLE, Hello
from exkiq.wire.messages import Kind, check, check_answer, check_request

Message: TypeAlias = list[Any]  # its shape was checked

# What may wait for a peer that reads slowly; one frame of the largest size always fits.
OUTGOING_BYTES_MAX = limits.FRAME_BYTES_MAX + 65_536

_PING = int(Kind.PING)
_HELLO = int(Kind.HELLO)
_PING_FRAME = encode_frame([_PING])


def _nothing(*_: object) -> None:
    """Until the owner sets a callback."""


class Link(asyncio.Protocol):
    """One connection after its handshake.

    Duties: cut what comes into checked messages and hand them on, in order; write what is sent;
    between nodes, ping and notice silence; close on a bad frame or a peer that does not read;
    say exactly once that it closed.

    All callbacks run on the loop and must not block. No message comes before the owner was
    given the link, none after `on_close`.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        own: Hello,
        agreed: Agreed,
        *,
        dialled: str | None,
        clock: Clock,
        timings: Timings,
        complaints: Complaints,
    ) -> None:
        self.told = own  # what the peer knows of us
        self.peer = agreed.peer
        self.dialled = dialled  # the address we dialled, None on an accepted link
        self.remote_host = remote_host(transport)
        self.is_open = True
        self.last_heard = clock.monotonic()
        self.on_message: Callable[[Link, Message], None] = _nothing
        self.on_changed: Callable[[Link], None] = _nothing
        self.on_close: Callable[[Link, str], None] = _nothing
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._timings = timings
        self._complaints = complaints
        decode = decode_request if agreed.peer.role == "client" else decode_body
        self._decoder = FrameDecoder(seal=agreed.incoming, decode=decode)
        self._seal = agreed.outgoing
        self._is_choked = False
        self._gone = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._silence = Silence(timings, self.last_heard)
        self._is_between_nodes = own.is_node and agreed.peer.is_node
        self._deliver = self._from_node if self._is_between_nodes else self._from_other
        self._check = check_request if own.is_node else check_answer
        tune(transport)
        transport.set_write_buffer_limits(high=OUTGOING_BYTES_MAX)

    def __repr__(self) -> str:
        return f"<Link {self.peer.role} {self.peer.name} {'open' if self.is_open else 'closed'}>"

    def begin(self, rest: bytes) -> None:
        """The owner's callbacks are set: read what already came, start to ping."""
        if self.is_open and self._is_between_nodes:
            self._timer = self._loop.call_later(self._timings.ping, self._beat)
        if rest:
            self.data_received(rest)

    # ---- out -----------------------------------------------------------------------------------

    def send(self, message: Message) -> bool:
        """Send one message; False when the link is closed. Errors: LocalWireError."""
        return self.is_open and self.send_frame(encode_frame(message))

    def send_frame(self, frame: bytes) -> bool:
        """Send what `encode_frame` gave, perhaps to many links; False when this one is closed."""
        # A transport that failed says so a turn later, and complains of what is written meanwhile.
        if not self.is_open or self._is_choked or self._transport.is_closing():
            return False
        self._transport.write(frame if self._seal is None else frame + self._seal.tag(frame))
        return True

    def pause_writing(self) -> None:
        # Called inside of a write: whoever sends may be walking over all links just now.
        self._is_choked = True
        self._loop.call_soon(self._abort, "it does not read what is sent to it")

    # ---- in ------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if not self.is_open:
            return
        self.last_heard = self._clock.monotonic()
        try:
            for message in self._decoder.feed(data):
                if self.is_open:
                    self._deliver(message)
        except RemoteWireError as error:
            self._complaints.warn(
                f"frame {self.remote_host}",
                f"closed the link to {self.peer.name} ({self.remote_host}): it sent {error}",
            )
            self.close(f"it sent {error}")

    def _from_node(self, message: Value) -> None:
        check(message)
        checked = cast("Message", message)
        if checked[0] == _PING:
            return
        if checked[0] == _HELLO:
            self._update_peer(checked[1])
        else:
            self.on_message(self, checked)

    def _from_other(self, message: Value) -> None:
        self._check(message)
        self.on_message(self, cast("Message", message))

    def _update_peer(self, fields: Value) -> None:
        told = Hello.from_fields(fields)
        if not told.is_same_run(self.peer) or told.cluster != self.peer.cluster:
            raise RemoteWireError("a hello of somebody else")
        self.peer = replace(self.peer, **{field: getattr(told, field) for field in UPDATABLE})
        self.on_changed(self)

    # ---- the end -------------------------------------------------------------------------------

    def close(self, reason: str) -> None:
        """Write out what was sent, then close; `on_close` is called before this returns."""
        if self._end():
            self._timer = self._loop.call_later(self._timings.linger, self._transport.abort)
            self._end_writing()
            self.on_close(self, reason)

    async def wait_closed(self) -> None:
        """Until the connection is gone: what was sent has arrived, or `timings.linger` passed."""
        await self._gone.wait()

    def _end_writing(self) -> None:
        # Only our half: a socket that is closed while the peer still sends is reset, and a reset
        # takes with it what the peer has not read yet. The peer closes its half in turn.
        try:
            self._transport.write_eof()
        except OSError:
            self._transport.abort()  # it is reset already

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()
        was_open = self._end()
        if self._timer is not None:
            self._timer.cancel()
        if was_open:
            self.on_close(self, f"connection lost: {exc}" if exc else "closed by the other side")

    def _abort(self, reason: str) -> None:
        if self._end():
            self._transport.abort()
            self.on_close(self, reason)

    def _end(self) -> bool:
        """Whether this call ended it."""
        was_open, self.is_open = self.is_open, False
        if was_open and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return was_open

    def _beat(self) -> None:
        delay = self._silence.beat(self._clock.monotonic(), self.last_heard)
        if delay is None:
            self._abort(f"silent for {self._timings.silent_max} pings")
            return
        self.send_frame(_PING_FRAME)
        self._timer = self._loop.call_later(delay, self._beat)
