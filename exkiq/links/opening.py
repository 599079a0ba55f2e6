"""A connection until it is a link: the handshake and its time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from exkiq.clock import Clock
from exkiq.config.certificates import Certificates
from exkiq.errors import ClusterMismatch, ExkiqError, NoNodeError, Refused
from exkiq.links.complaints import Complaints
from exkiq.links.link import Link
from exkiq.links.secured import NO_TLS_HERE, Secured, is_tls
from exkiq.links.sockets import UNIX, remote_host
from exkiq.links.timings import Timings
from exkiq.wire.handshake import Agreed, Declined, Handshake, Side, refusal
from exkiq.wire.hello import Hello


class Unwanted(Refused):
    """We hung up: there is a link to this peer already, or it is ourselves."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What every connection of one owner has in common."""

    hello: Callable[[], Hello]
    secret: bytes | None
    nonce: Callable[[int], bytes]
    clock: Clock
    timings: Timings
    complaints: Complaints
    certificates: Certificates | None = None  # for TLS, but on Unix sockets


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whom to tell how the opening ended: exactly one of the two is called, once.

    `on_open` is given the link before any message comes. `on_failed` is told why, and the
    other side's hello only if that proved the secret and is of another founded cluster.
    """

    on_open: Callable[[Link], None]
    on_failed: Callable[[ExkiqError, Hello | None], None]


class Opening(asyncio.Protocol):
    """One connection during its handshake.

    Duties: carry the handshake, behind that of TLS where there are certificates; give up after
    `timings.handshake` for both; hand the transport to a `Link`, or say why not.
    """

    def __init__(
        self,
        terms: Terms,
        outcome: Outcome,
        *,
        dialled: str | None,
        is_wanted: Callable[[Hello], bool] | None = None,
    ) -> None:
        self._terms = terms
        self._outcome = outcome
        self._dialled = dialled
        self._is_wanted = is_wanted
        self._own = terms.hello()
        side = Side.ACCEPTOR if dialled is None else Side.DIALER
        self._handshake = Handshake(side, self._own, terms.secret, terms.nonce(32))
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.is_over = False

    @property
    def claimed(self) -> Hello | None:
        """What the other side says of itself, proved or not; None until it spoke."""
        return self._handshake.peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's streams are no subclass of asyncio's
        self._transport = stream = cast("asyncio.Transport", transport)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._terms.timings.handshake, self._timed_out)
        certificates, is_dialler = self._terms.certificates, self._dialled is not None
        if certificates is None or remote_host(stream) == UNIX:
            stream.write(self._handshake.start())
            return
        self._transport = secured = Secured(
            stream, certificates, self, self._is_secured, is_dialler=is_dialler
        )
        secured.begin()

    def _is_secured(self, names: frozenset[str]) -> None:
        self._handshake.certified = names
        if self._transport is not None:
            self._transport.write(self._handshake.start())

    def data_received(self, data: bytes) -> None:
        if self.is_over or self._transport is None:
            return
        if self._dialled is None and self._handshake.certified is None and is_tls(data):
            self._transport.write(refusal(NO_TLS_HERE))
            self._fail(ClusterMismatch(NO_TLS_HERE), None)
            return
        step = self._handshake.receive(data)
        peer = self._handshake.peer
        if peer is not None and self._is_wanted is not None and step.result is None:
            wanted, self._is_wanted = self._is_wanted, None
            if not wanted(peer):
                self._fail(Unwanted(f"a link to {peer.name} is up"), None)
                return
        if step.send:
            self._transport.write(step.send)
        if isinstance(step.result, Agreed):
            self._agree(self._transport, step.result)
        elif isinstance(step.result, Declined):
            self._fail(step.result.error, step.result.peer)

    def _agree(self, transport: asyncio.Transport, agreed: Agreed) -> None:
        self._over()
        link = Link(
            transport,
            self._own,
            agreed,
            dialled=self._dialled,
            clock=self._terms.clock,
            timings=self._terms.timings,
            complaints=self._terms.complaints,
        )
        transport.set_protocol(link)
        self._outcome.on_open(link)
        link.begin(agreed.rest)

    def connection_lost(self, exc: Exception | None) -> None:
        text = f"closed during the handshake{f': {exc}' if exc else ''}"
        self._fail(exc if isinstance(exc, ExkiqError) else NoNodeError(text), None)

    def abort(self, reason: str) -> None:
        """Give up now."""
        self._fail(NoNodeError(reason), None, is_abort=True)

    def _timed_out(self) -> None:
        self.abort(f"no handshake within {self._terms.timings.handshake} s")

    def _fail(self, error: ExkiqError, peer: Hello | None, *, is_abort: bool = False) -> None:
        if self.is_over:
            return
        self._over()
        if self._transport is not None:
            # A close writes a refusal out first; it is short, so the kernel takes it at once.
            if is_abort:
                self._transport.abort()
            else:
                self._transport.close()
        self._outcome.on_failed(error, peer)

    def _over(self) -> None:
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
