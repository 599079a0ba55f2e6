"""Who is linked and which addresses are worth dialling. Pure: events in, effects out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from exkiq.discovery.effects import Effect, Forget, Sight
from exkiq.discovery.facts import Member
from exkiq.discovery.sighting import Sighting

SIGHTINGS_MAX = 256  # announcements cost nothing to make; every kept one is dialled
ADDRESSES_OF_A_NAME_MAX = 4  # the real one, two of earlier runs, and one that somebody invented


@dataclass(frozen=True, slots=True)
class Peer:
    """A linked node, as its handshake proved it; `cluster_id` is "" while it is fresh."""

    member: Member
    cluster_id: str

    @property
    def name(self) -> str:
        return self.member.name

    @property
    def is_fresh(self) -> bool:
        return not self.cluster_id


@dataclass(slots=True)
class _Place:
    name: str
    is_pinned: bool
    seen: int


class Roster:
    """What is known about the other nodes.

    Duties: remember sightings, few enough and no more than a few for one name; never let a
    mere sighting replace the address of a linked peer; tell fresh peers from founded ones.
    """

    def __init__(self, own: Member, cluster: str) -> None:
        self.own = own
        self.cluster = cluster
        self.peers: dict[str, Peer] = {}
        self._places: dict[str, _Place] = {}
        self._seen = 0

    # ---- sightings ---------------------------------------------------------------------------

    def pin(self, addresses: Iterable[str]) -> list[Effect]:
        """Addresses from the operator or from our own disk: never forgotten."""
        out: list[Effect] = []
        for address in addresses:
            if address == self.own.address:
                continue
            if address not in self._places:
                out.append(Sight(address))
            self._places[address] = _Place("", is_pinned=True, seen=0)
        return out

    def sighted(self, sighting: Sighting) -> list[Effect]:
        """Somebody was seen; dial it unless it is us or there is no room."""
        if sighting.cluster != self.cluster or self._is_us(sighting):
            return []
        self._seen += 1
        place = self._places.get(sighting.address)
        if place is not None:
            place.seen = self._seen
            return [Sight(sighting.address)]  # it may have just come back
        out = self._make_room(sighting.name)
        if out is None:
            return []
        self._places[sighting.address] = _Place(sighting.name, is_pinned=False, seen=self._seen)
        return [*out, Sight(sighting.address)]

    @property
    def addresses(self) -> tuple[str, ...]:
        """What is being dialled or linked."""
        return tuple(self._places)

    def _is_us(self, sighting: Sighting) -> bool:
        # our own announcement comes back, also that of an earlier run under another port
        return sighting.name == self.own.name or sighting.address == self.own.address

    def _make_room(self, name: str) -> list[Effect] | None:
        """Forget the oldest hint in the way; None when everything there is better than a hint."""
        of_name = [a for a, place in self._places.items() if name and place.name == name]
        if len(of_name) >= ADDRESSES_OF_A_NAME_MAX:
            return self._forget_oldest(of_name)
        if len(self._places) >= SIGHTINGS_MAX:
            return self._forget_oldest(list(self._places))
        return []

    def _forget_oldest(self, addresses: list[str]) -> list[Effect] | None:
        linked = {peer.member.address for peer in self.peers.values()}
        loose = [a for a in addresses if a not in linked and not self._places[a].is_pinned]
        if not loose:
            return None
        oldest = min(loose, key=lambda address: self._places[address].seen)
        del self._places[oldest]
        return [Forget(oldest)]

    # ---- links -------------------------------------------------------------------------------

    def link_up(self, peer: Peer) -> None:
        """A link is there, or its peer says something new about itself."""
        self.peers[peer.name] = peer

    def link_down(self, name: str) -> None:
        """The link is gone; what was sighted stays."""
        self.peers.pop(name, None)

    def note_founded(self, name: str, cluster_id: str) -> None:
        """A linked peer said in a message that it is founded."""
        peer = self.peers.get(name)
        if peer is not None and peer.is_fresh:
            self.peers[name] = replace(peer, cluster_id=cluster_id)

    def fresh(self) -> list[Peer]:
        """Linked peers without a cluster, by name."""
        return [self.peers[name] for name in sorted(self.peers) if self.peers[name].is_fresh]

    def founded(self) -> list[Peer]:
        """Linked peers with a cluster, by name."""
        return [self.peers[name] for name in sorted(self.peers) if not self.peers[name].is_fresh]

    def smaller_fresh(self, than: str) -> Peer | None:
        """The smallest linked fresh peer whose name is smaller, if there is one."""
        fresh = self.fresh()
        return fresh[0] if fresh and fresh[0].name < than else None
