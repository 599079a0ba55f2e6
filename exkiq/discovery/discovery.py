"""The shell around the pure parts: mDNS and links go in, effects are carried out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from exkiq.clock import Clock
from exkiq.discovery.effects import Effect, Forget, Log, Save, Send, Sight, Start, Warn
from exkiq.discovery.facts import Facts, FoundingStore, Member, Membership
from exkiq.discovery.founding import LOOK_MS, Founding
from exkiq.discovery.mdns import Announced, Mdns
from exkiq.discovery.roster import Peer, Roster
from exkiq.discovery.sighting import Sighting
from exkiq.discovery.static import static_sightings
from exkiq.errors import ExkiqError
from exkiq.telemetry import log

TICK_SECONDS = 0.1


class PeerHello(Protocol):
    """What discovery reads of a peer's hello."""

    @property
    def name(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def incarnation(self) -> str: ...
    @property
    def cluster_id(self) -> str: ...


class PeerLink(Protocol):
    """What discovery needs of a link."""

    @property
    def peer(self) -> PeerHello: ...
    def send(self, message: list[Any], /) -> object: ...


class PeerMesh(Protocol):
    """What discovery needs of the mesh: `links.Mesh`, or a twin of it."""

    @property
    def links(self) -> Mapping[str, PeerLink]: ...
    def sight(self, address: str, /) -> object: ...
    def forget(self, address: str, /) -> object: ...
    def announce(self) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Whom to look for and how; `own.address` carries the port that is really bound."""

    own: Member
    cluster: str = "default"
    expect: int = 1
    join_wait: float = 3.0
    peers: tuple[str, ...] = ()
    mdns: bool = True
    interfaces: tuple[str, ...] = ("127.0.0.1",)
    secret: bytes | None = field(default=None, repr=False)
    protocol_version: int = 1

    @property
    def look_ms(self) -> int:
        """How long to look before founding.

        Who would found alone gives the nodes that were named the time to answer, always.
        """
        wait_ms = 0 if self.is_alone else round(self.join_wait * 1000)
        may_found_alone = bool(self.peers) and self.expect == 1
        return max(wait_ms, LOOK_MS) if may_found_alone else wait_ms

    @property
    def is_alone(self) -> bool:
        """Whether nobody can be found."""
        return not self.mdns and not self.peers


class Discovery:
    """Finds the other nodes and settles which cluster this node belongs to.

    Duties: dial what is sighted; carry out what the pure parts decide, in their order; announce
    this node as long as it runs.

    `new_id` makes cluster ids that are never made twice. The node routes its mesh's callbacks
    to `link_up`, `link_changed`, `link_down` and `message`, from the first link until it stops.
    """

    def __init__(
        self,
        search: Search,
        *,
        mesh: PeerMesh,
        store: FoundingStore,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._search = search
        self._mesh = mesh
        self._store = store
        self._saved = store.load()
        self._clock = clock
        self._roster = Roster(search.own, search.cluster)
        self._founding = Founding(
            self._roster,
            self._saved,
            expect=search.expect,
            join_wait_ms=search.look_ms,
            new_id=new_id,
        )
        self._mdns: Mdns | None = None
        self._settled: asyncio.Future[Membership] | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._waiting: deque[Effect] = deque()
        self._is_busy = False
        self._failure: Exception | None = None

    @property
    def cluster_id(self) -> str:
        """For our hello: "" while this node is fresh, never anything that is not durable."""
        return self._saved.cluster_id

    @property
    def waits_for(self) -> str:
        """Why this node is not settled yet, for people."""
        return self._founding.waits_for

    async def settle(self) -> Membership:
        """Look around until it is settled with which cluster Raft is to be started.

        Errors: OSError when the facts cannot be saved; the node must not go on.
        """
        self._settled = asyncio.get_running_loop().create_future()
        static = static_sightings(self._search.peers, self._search.cluster)
        self._carry_out(self._roster.pin(sighting.address for sighting in static))
        self.sight(self._saved.members)
        if self._search.mdns:
            self._mdns = self._make_mdns()
            await self._mdns.start()
        self._decide(self._founding.begin)
        self._tick()
        try:
            return await self._settled
        finally:
            self._stop_ticking()

    async def stop(self) -> None:
        """Fall silent. May be called twice, or before `settle`."""
        self._stop_ticking()
        if self._mdns is not None:
            await self._mdns.stop()

    def sight(self, members: Iterable[Member]) -> None:
        """Where the members were when last heard of, from the node's own data."""
        for member in members:
            self._sighted(Sighting(member.name, member.address, self._search.cluster))

    # ---- events ------------------------------------------------------------------------------

    def link_up(self, link: PeerLink) -> None:
        """The mesh has a link to a node."""
        peer = _peer_of(link)
        self._decide(lambda now_ms: self._founding.link_up(peer, now_ms))

    def link_changed(self, link: PeerLink) -> None:
        """A linked node says something new about itself."""
        self.link_up(link)

    def link_down(self, link: PeerLink, _reason: str = "") -> None:
        """The mesh lost its link to a node."""
        name = link.peer.name
        self._decide(lambda now_ms: self._founding.link_down(name, now_ms))

    def message(self, link: PeerLink, message: list[Any]) -> bool:
        """Take a message of a linked node; False when it is not for this room.

        A settled node answers JOIN itself, unless this returned True: then the asker was on the
        founding list and has been told.
        """
        effects = self._founding.received(link.peer.name, message, self._now_ms())
        if effects is None:
            return False
        self._carry_out(effects)
        return True

    def _sighted(self, sighting: Sighting) -> None:
        self._carry_out(self._roster.sighted(sighting))

    def _decide(self, event: Callable[[int], list[Effect]]) -> None:
        self._carry_out(event(self._now_ms()))

    # ---- time --------------------------------------------------------------------------------

    def _now_ms(self) -> int:
        return int(self._clock.monotonic() * 1000)

    def _tick(self) -> None:
        if self._settled is None or self._settled.done():
            return
        self._ticking = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        self._decide(self._founding.tick)

    def _stop_ticking(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()

    # ---- effects -----------------------------------------------------------------------------

    def _carry_out(self, effects: list[Effect]) -> None:
        # a link that breaks while it is written to calls back in here: what that leads to
        # comes after what is under way
        self._waiting += effects
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._waiting and self._failure is None:
                self._do(self._waiting.popleft())
        except (OSError, ExkiqError) as error:
            self._fail(error)
        finally:
            self._is_busy = False

    def _fail(self, error: Exception) -> None:
        # nothing that was to follow a failed save may be done, now or later
        self._failure = error
        log.error("the facts of the founding cannot be saved: %s", error)
        if self._settled is not None and not self._settled.done():
            self._settled.set_exception(error)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Send(name, message):
                link = self._mesh.links.get(name)
                if link is not None:
                    link.send(message)
            case Save(facts):
                self._save(facts)
            case Start(membership):
                if self._settled is not None and not self._settled.done():
                    self._settled.set_result(membership)
                self._warn_of_island(membership)
            case Sight(address):
                self._mesh.sight(address)
            case Forget(address):
                self._mesh.forget(address)
            case Log(text):
                log.info("%s", text)
            case Warn(text):
                log.warning("%s", text)

    def _warn_of_island(self, membership: Membership) -> None:
        peers = self._search.peers
        if peers and membership.is_founder and len(membership.members) == 1:
            log.warning(
                "this node has a cluster of its own: no cluster answered at %s. It joins the first "
                "that does, unless it has held a job by then",
                ", ".join(peers),
            )

    def _save(self, facts: Facts) -> None:
        self._store.save(facts)
        is_news = facts.cluster_id != self._saved.cluster_id
        self._saved = facts
        if is_news:
            self._mesh.announce()

    def _make_mdns(self) -> Mdns:
        search = self._search
        announced = Announced(
            cluster=search.cluster,
            name=search.own.name,
            incarnation=search.own.incarnation,
            address=search.own.address,
            protocol_version=search.protocol_version,
        )
        return Mdns(
            announced,
            interfaces=search.interfaces,
            secret=search.secret,
            on_sighting=self._sighted,
        )


def _peer_of(link: PeerLink) -> Peer:
    hello = link.peer
    return Peer(Member(hello.name, hello.address, hello.incarnation), hello.cluster_id)
