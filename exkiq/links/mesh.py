"""One link to each peer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from exkiq.clock import Clock
from exkiq.config.certificates import Certificates
from exkiq.errors import ClusterMismatch, ExkiqError
from exkiq.links.complaints import Complaints
from exkiq.links.dialer import open_link
from exkiq.links.link import Link, Message
from exkiq.links.opening import Opening, Terms
from exkiq.links.route import Route
from exkiq.links.timings import Timings
from exkiq.service import Tasks
from exkiq.telemetry import log
from exkiq.wire.frames import encode_frame
from exkiq.wire.hello import Hello
from exkiq.wire.messages import Kind

QUIET_PINGS = 2  # a link this long without a byte may be replaced by another process of its name


def _nobody(*_: object) -> None:
    """Nobody wants to know."""


class Mesh:
    """Keeps exactly one link to each peer node.

    Duties: dial every address that was sighted, for ever; take accepted links; of two links to
    one peer keep the one both sides keep; refuse other clusters and second nodes of one name,
    loudly and once; never link to itself.

    `on_up(link)` comes before the link's first message, `on_down(link, reason)` after its last,
    and `on_down` of an old link before `on_up` of the one that replaces it. `on_changed(link)`:
    the peer's role, cluster id or address is new. `on_stranger(hello, error)`: a proven peer of
    another founded cluster was refused.
    """

    def __init__(
        self,
        hello: Callable[[], Hello],
        secret: bytes | None,
        *,
        clock: Clock,
        nonce: Callable[[int], bytes],
        jitter: Callable[[], float],
        on_up: Callable[[Link], None],
        on_down: Callable[[Link, str], None],
        on_message: Callable[[Link, Message], None],
        on_changed: Callable[[Link], None] = _nobody,
        on_stranger: Callable[[Hello, ExkiqError], None] = _nobody,
        complaints: Complaints | None = None,
        timings: Timings | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self.links: dict[str, Link] = {}
        self._complaints = complaints or Complaints(clock)
        self._terms = Terms(
            hello, secret, nonce, clock, timings or Timings(), self._complaints, certificates
        )
        self._jitter = jitter
        self._on_up = on_up
        self._on_down = on_down
        self._on_message = on_message
        self._on_changed = on_changed
        self._on_stranger = on_stranger
        self._routes: dict[str, tuple[Route, asyncio.Task[None]]] = {}
        self._tasks = Tasks()
        self._is_stopped = False

    # ---- where to dial -------------------------------------------------------------------------

    def sight(self, address: str) -> None:
        """A place worth dialling, now and for ever; again and again does no harm."""
        if self._is_stopped or address == self._terms.hello().address:
            return
        known = self._routes.get(address)
        if known is not None:
            self._hint(known[0])
            return
        route = Route(
            address,
            dial=self._dial,
            is_linked=self._is_linked,
            jitter=self._jitter,
            clock=self._terms.clock,
            timings=self._terms.timings,
        )
        self._routes[address] = route, self._tasks.start(route.keep(), name=f"dial {address}")

    def forget(self, address: str) -> None:
        """Dial it no more; a link that is up stays."""
        known = self._routes.pop(address, None)
        if known is not None:
            known[1].cancel()

    def _hint(self, route: Route) -> None:
        if route.is_hinted:
            return
        if route.rest_seconds <= 0:
            self._look_again(route)
            return
        route.is_hinted = True
        loop = asyncio.get_running_loop()
        loop.call_later(route.rest_seconds, self._look_again, route)

    def _look_again(self, route: Route) -> None:
        route.is_hinted = False
        link = self.links.get(route.name)
        if link is not None and route.address not in (link.dialled, link.peer.address):
            route.name = ""  # its node is linked by another address: who answers here now?
        route.wake()

    def _is_linked(self, route: Route) -> bool:
        return route.name in self.links or any(
            route.address in (link.dialled, link.peer.address) for link in self.links.values()
        )

    async def _dial(self, route: Route) -> Link:
        def failed(error: ExkiqError, opening: Opening, peer: Hello | None) -> None:
            self._complaints.no_link(route.address, error, opening.claimed)
            if peer is not None:
                self._on_stranger(peer, error)

        return await open_link(
            route.address,
            self._terms,
            self.adopt,
            on_failed=failed,
            is_wanted=lambda peer: self._is_wanted(route, peer),
        )

    def _is_wanted(self, route: Route, peer: Hello) -> bool:
        own = self._terms.hello()
        route.name = peer.name
        route.is_own = peer.is_same_run(own)
        if peer.name == own.name:
            self._warn_of_namesake(peer, own)
            return False
        return peer.name not in self.links

    # ---- which links to keep -------------------------------------------------------------------

    def adopt(self, link: Link) -> None:
        """Take a finished link to a node, or close it if another one stays."""
        own, peer = self._terms.hello(), link.peer
        if self._is_stopped:
            link.close("we stop")
        elif peer.name == own.name:
            self._warn_of_namesake(peer, own)
            link.close("a node of the same name")
        elif own.is_of_other_cluster(peer):
            self._refuse(link, own)
        elif self._makes_way(link, own):
            self._take(link)
            if link.told != own:  # it changed during the handshake, after others were told
                link.send([int(Kind.HELLO), own.fields()])
        else:
            link.close("another link to this peer stays")

    def _makes_way(self, link: Link, own: Hello) -> bool:
        rival = self.links.get(link.peer.name)
        if rival is None:
            return True
        if not self._is_better(link, rival, own):
            return False
        rival.close("replaced by another link to the same peer")
        return True

    def _is_better(self, link: Link, rival: Link, own: Hello) -> bool:
        peer = link.peer
        if not peer.is_same_run(rival.peer):
            quiet_s = self._terms.clock.monotonic() - rival.last_heard
            if quiet_s > QUIET_PINGS * self._terms.timings.ping:
                return True  # the old process is gone, its host had no time to say so
            self._warn_of_namesake(peer, rival.peer)
            return False
        if (link.dialled is None) == (rival.dialled is None):
            return True
        # Both sides dialled at once. Both must keep the same one: that of the smaller name.
        return (own.name < peer.name) == (link.dialled is not None)

    def _take(self, link: Link) -> None:
        peer = link.peer
        self.links[peer.name] = link
        if peer.address in self._routes:
            self._routes[peer.address][0].name = peer.name
        link.on_message = self._on_message
        link.on_changed = self._changed
        link.on_close = self._closed
        log.info("linked with %s (%s)", peer.name, peer.address or link.remote_host)
        self._on_up(link)

    def _closed(self, link: Link, reason: str) -> None:
        name = link.peer.name
        del self.links[name]
        log.info("lost the link with %s: %s", name, reason)
        self._on_down(link, reason)
        for route, _ in self._routes.values():
            if route.name == name or route.address in (link.dialled, link.peer.address):
                route.wake()

    def _warn_of_namesake(self, peer: Hello, other: Hello) -> None:
        if not peer.is_same_run(other):
            self._complaints.warn_once(
                f"name {peer.name} {peer.address}",
                f"two nodes are named {peer.name}: {other.address} and {peer.address}; "
                f"the second is ignored until one has another name",
            )

    # ---- what nodes say of themselves ----------------------------------------------------------

    def announce(self) -> None:
        """Our own hello changed: tell every peer, and drop those of another cluster."""
        own = self._terms.hello()
        frame = encode_frame([int(Kind.HELLO), own.fields()])
        for link in list(self.links.values()):
            if own.is_of_other_cluster(link.peer):
                self._refuse(link, own)
            else:
                link.send_frame(frame)

    def _changed(self, link: Link) -> None:
        own = self._terms.hello()
        if own.is_of_other_cluster(link.peer):
            self._refuse(link, own)
        else:
            self._on_changed(link)

    def _refuse(self, link: Link, own: Hello) -> None:
        peer = link.peer
        error = ClusterMismatch(
            f"two clusters named {own.cluster!r}: id {own.cluster_id} here, {peer.cluster_id} there"
        )
        self._complaints.no_link(peer.address or link.remote_host, error, peer)
        link.close(str(error))
        self._on_stranger(peer, error)

    # ---- the end -------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Dial no more, close all links, wait until they are gone. May be called twice."""
        self._is_stopped = True
        await self._tasks.stop()
        links = list(self.links.values())
        for link in links:
            link.close("this node stops")
        for link in links:
            await link.wait_closed()
