"""How many more jobs each node may be given: credit, counted against the claims so far.

A node says: "of all claims ever made to my session I have seen `seen_total`, and with those
in place I have `free` slots". Claims it had not seen yet are subtracted:

    credit = free - (claims applied + claims in flight - seen_total)

Both counts only grow within a session, so a message that is late, doubled or out of order can
understate the credit for a moment and never overstates it. "Claims applied" is the machine's
count and "in flight" ends when the operation is applied, so a claim that was refused gives its
slot back by itself.

Slots come in groups: the common ones, and those of each pool, which serve its queue alone. Which
group a claim went to is not counted, so what is unseen is subtracted from every group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from exkiq.machine import Machine
from exkiq.wire.messages import COMMON

_NO_POOLS: Mapping[str, int] = MappingProxyType({})
_ALL_ABLE: frozenset[str] = frozenset()


class NodeClaim(NamedTuple):
    """Jobs for one node's session, as they stand in a CLAIM operation."""

    node: str
    session: int
    ids: list[str]


class Room(NamedTuple):
    """A node that may be handed jobs. `free` may be 0; `running` counts what is in flight.

    Shapes: `free` are the common slots, `pools` those of each pool by its queue; `unable` are
            the tasks that this node cannot run now.
    """

    node: str
    session: int
    free: int
    running: int
    queues: Mapping[str, int]
    pools: Mapping[str, int] = _NO_POOLS
    unable: frozenset[str] = _ALL_ABLE

    @property
    def total(self) -> int:
        """All free slots."""
        return self.free + sum(self.pools.values()) if self.pools else self.free

    def served(self) -> Iterable[str]:
        """The queues for which there is a free slot."""
        if not self.pools:
            return self.queues if self.free else ()
        return [queue for queue in self.queues if self.pools.get(queue, self.free)]


@dataclass(slots=True)
class _Announced:
    session: int
    seen_total: int
    free: int
    pools: Mapping[str, int]
    queues: Mapping[str, int]
    unable: frozenset[str]


class Demand:
    """What the nodes announced and what is on its way to them, for one leadership."""

    def __init__(self) -> None:
        self._announced: dict[str, _Announced] = {}
        self._in_flight: dict[bytes, dict[tuple[str, int], int]] = {}

    def hear(
        self,
        node: str,
        session: int,
        seen_total: int,
        free: Mapping[str, int],
        queues: Mapping[str, int],
        unable: Iterable[str] = (),
    ) -> None:
        """Take in an announcement; an older one than we have is dropped."""
        held = self._announced.get(node)
        if held is not None and (session, seen_total) < (held.session, held.seen_total):
            return
        pools = {group: slots for group, slots in free.items() if group != COMMON}
        common = free.get(COMMON, 0)
        self._announced[node] = _Announced(
            session, seen_total, common, pools or _NO_POOLS, queues, frozenset(unable)
        )

    def forget(self, node: str, session: int) -> None:
        """That session is over: nothing more for it."""
        held = self._announced.get(node)
        if held is not None and held.session <= session:
            del self._announced[node]

    def proposed(self, pid: bytes, claims: Iterable[NodeClaim]) -> None:
        """A claim operation is on its way."""
        self._in_flight[pid] = {(node, session): len(ids) for node, session, ids in claims}

    def applied(self, pid: bytes) -> bool:
        """An operation was applied. Was it a claim of ours?"""
        return self._in_flight.pop(pid, None) is not None

    def rooms(self, machine: Machine) -> list[Room]:
        """Each node whose announcement is about its running session."""
        rooms: list[Room] = []
        for node, said in self._announced.items():
            session = machine.sessions.get(node)
            if session is None or session.id != said.session:
                continue
            coming = self._coming(node, session.id)
            unseen = max(0, session.claimed_total + coming - said.seen_total)
            free = max(0, said.free - unseen)
            running = len(session.running) + coming
            pools = said.pools
            if pools and unseen:
                pools = {queue: max(0, slots - unseen) for queue, slots in pools.items()}
            rooms.append(Room(node, session.id, free, running, said.queues, pools, said.unable))
        return rooms

    def _coming(self, node: str, session: int) -> int:
        return sum(claims.get((node, session), 0) for claims in self._in_flight.values())
