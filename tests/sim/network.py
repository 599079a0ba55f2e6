"""The virtual network: links as TCP gives them, and what is done to them.

Within one link each direction is FIFO. A direction that is cut holds what is sent into it. A
side that hears nothing for four pings closes its end; the other end is told when the way there
is open, else it finds out by its own silence. Afterwards the pair is linked anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

import msgpack

from tests.sim.clock import Host, Scheduler

PING_SECONDS = 0.2
SILENT_MAX = 4
REDIAL_SECONDS = 0.5
PING = msgpack.packb([13])
_encode = msgpack.Packer().pack


class Station(Protocol):
    """What the network knows of a node."""

    name: str
    host: Host

    def link_up(self, peer: str) -> None: ...
    def link_down(self, peer: str) -> None: ...
    def deliver(self, peer: str, message: list[Any]) -> None: ...


@dataclass(eq=False)
class End:
    """One end of a link."""

    station: Station
    is_open: bool = False
    heard: float = 0.0
    has_heard: bool = True
    silent: int = 0
    arrival: float = 0.0  # of the last thing on its way to this end
    held: list[bytes] = field(default_factory=list)  # waits in the cut


@dataclass(eq=False)
class Link:
    """One connection of two lives of processes."""

    ends: dict[str, End]

    def other(self, name: str) -> End:
        one, other = self.ends.items()
        return other[1] if one[0] == name else one[1]


class Network:
    """Links between stations, with delays, cuts and what follows from them."""

    def __init__(self, scheduler: Scheduler, chance: Random, delay: float, jitter: float) -> None:
        self.delay, self.jitter = delay, jitter
        self.cuts: dict[tuple[str, str], int] = {}
        self.slow: dict[tuple[str, str], float] = {}
        self.messages = 0
        self.filter: Callable[[str, str, list[Any]], float | None] | None = None
        self._scheduler, self._chance = scheduler, chance
        self._stations: dict[str, Station] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._dialling: set[tuple[str, str]] = set()

    # ---- stations ----------------------------------------------------------------------------

    def attach(self, station: Station) -> None:
        """A process is up: link it with all others."""
        others = list(self._stations)
        self._stations[station.name] = station
        for other in others:
            if other != station.name:
                self._dial_soon(_pair(station.name, other), 0.05)
        station.host.call_later(PING_SECONDS * self._chance.random(), self._beat, station)

    def detach(self, name: str, *, is_told: bool) -> None:
        """A process is gone. Its kernel tells the peers, unless that is gone too."""
        del self._stations[name]
        for pair, link in self._links.items():
            if name in pair:
                link.ends[name].is_open = False
                if is_told:
                    self._tell_closed(link, name)

    def last_heard(self, name: str) -> list[tuple[str, float]]:
        """Of each open link: the peer, and when it was heard on the host's own clock."""
        links = [(pair, self._links[pair]) for pair in sorted(self._links) if name in pair]
        return [
            (pair[pair[0] == name], link.ends[name].heard)
            for pair, link in links
            if link.ends[name].is_open
        ]

    # ---- sending -----------------------------------------------------------------------------

    def send(self, sender: str, to: str, message: list[Any]) -> bool:
        return self._send_bytes(sender, to, _encode(message))

    def _send_bytes(self, sender: str, to: str, data: bytes) -> bool:
        link = self._links.get(_pair(sender, to))
        if link is None or not link.ends[sender].is_open:
            return False
        self._put(link, sender, link.other(sender), data)
        return True

    def _put(self, link: Link, sender: str, end: End, data: bytes) -> None:
        way = (sender, end.station.name)
        if self.cuts.get(way) or end.held:
            end.held.append(data)
            return
        extra = 0.0
        if self.filter is not None:
            wanted = self.filter(sender, end.station.name, msgpack.unpackb(data))
            if wanted is None:
                return
            extra = wanted
        host = self._scheduler.host
        now = self._scheduler.now if host is None else host.local
        delay = self.delay + self.jitter * self._chance.random() + self.slow.get(way, 0.0) + extra
        end.arrival = max(end.arrival + 1e-6, now + delay)
        self._scheduler.at(end.arrival, end.station.host, self._arrive, link, sender, end, data)

    def _arrive(self, link: Link, sender: str, end: End, data: bytes) -> None:
        if not end.is_open:
            return
        end.heard = end.station.host.monotonic()
        end.has_heard = True
        if data is not PING:
            self.messages += 1
            end.station.deliver(sender, msgpack.unpackb(data))

    def _beat(self, station: Station) -> None:
        """Pings, and what to conclude from the peers' silence."""
        name = station.name
        station.host.call_later(PING_SECONDS, self._beat, station)
        for pair in sorted(self._links):
            link = self._links[pair]
            if name not in pair or not link.ends[name].is_open:
                continue
            end = link.ends[name]
            end.silent = 0 if end.has_heard else end.silent + 1
            end.has_heard = False
            if end.silent >= SILENT_MAX:
                self._close(link, name)
            else:
                self._put(link, name, link.other(name), PING)

    # ---- closing -----------------------------------------------------------------------------

    def _close(self, link: Link, name: str) -> None:
        """`name` gives the link up."""
        end = link.ends[name]
        if not end.is_open:
            return
        end.is_open = False
        end.station.link_down(link.other(name).station.name)
        self._tell_closed(link, name)
        self._dial_soon(_pair(name, link.other(name).station.name), REDIAL_SECONDS)

    def _tell_closed(self, link: Link, closer: str) -> None:
        end = link.other(closer)
        if end.is_open and not self.cuts.get((closer, end.station.name)):
            due = max(end.arrival, self._scheduler.now + self.delay)
            self._scheduler.at(due, end.station.host, self._close, link, end.station.name)

    def drop(self, name: str, other: str) -> None:
        """One end is closed, and nobody tells the other."""
        link = self._links.get(_pair(name, other))
        if link is not None and link.ends[name].is_open:
            end = link.ends[name]
            self._scheduler.at(self._scheduler.now, end.station.host, self._drop, link, name)

    def _drop(self, link: Link, name: str) -> None:
        end = link.ends[name]
        if end.is_open:
            end.is_open = False
            peer = link.other(name).station.name
            end.station.link_down(peer)
            self._dial_soon(_pair(name, peer), REDIAL_SECONDS)

    def reset(self, one: str, other: str) -> None:
        """The connection breaks: both ends are told, what is on its way is lost."""
        link = self._links.get(_pair(one, other))
        if link is None:
            return
        for end in link.ends.values():
            end.held.clear()
            self._scheduler.at(
                self._scheduler.now, end.station.host, self._close, link, end.station.name
            )

    # ---- linking -----------------------------------------------------------------------------

    def _dial_soon(self, pair: tuple[str, str], within: float) -> None:
        if pair not in self._dialling:
            self._dialling.add(pair)
            self._scheduler.after(within * self._chance.random(), self._dial, pair)

    def _dial(self, pair: tuple[str, str]) -> None:
        self._dialling.discard(pair)
        stations = [self._stations.get(name) for name in pair]
        one, other = stations
        if one is None or other is None:
            return  # whoever starts next dials
        link = self._links.get(pair)
        if link is not None and all(
            link.ends[s.name].is_open and link.ends[s.name].station is s for s in (one, other)
        ):
            return
        is_cut = self.cuts.get(pair) or self.cuts.get(pair[::-1])
        if is_cut or self._scheduler.now < max(one.host.paused_until, other.host.paused_until):
            self._dial_soon(pair, 2 * REDIAL_SECONDS)
            return
        new = Link({station.name: End(station) for station in (one, other)})
        self._links[pair] = new
        late = self._chance.randrange(2)
        for position, station in enumerate((one, other)):
            due = self._scheduler.now + self.delay * (2 + (position == late))
            self._scheduler.at(due, station.host, self._open, new, link, station)
            new.ends[station.name].arrival = due

    def _open(self, link: Link, former: Link | None, station: Station) -> None:
        """One end is up; the former one is closed first."""
        end = link.ends[station.name]
        peer = link.other(station.name).station.name
        if former is not None and former.ends[station.name].station is station:
            old = former.ends[station.name]
            if old.is_open:
                old.is_open = False
                station.link_down(peer)
        end.is_open, end.heard = True, station.host.monotonic()
        station.link_up(peer)

    # ---- cutting -----------------------------------------------------------------------------

    def cut(self, sender: str, to: str) -> None:
        """Nothing goes this way any more; what is sent waits. Cuts add up."""
        self.cuts[(sender, to)] = self.cuts.get((sender, to), 0) + 1

    def mend(self, sender: str, to: str) -> None:
        """One cut less; after the last one what waited goes on."""
        way = (sender, to)
        self.cuts[way] = max(0, self.cuts.get(way, 0) - 1)
        link = self._links.get(_pair(sender, to))
        if self.cuts[way] or link is None:
            return
        held, link.ends[to].held = link.ends[to].held, []
        for data in held:
            self._put(link, sender, link.ends[to], data)
        if not link.ends[sender].is_open:
            self._tell_closed(link, sender)


def _pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)
