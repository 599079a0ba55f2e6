"""How many more jobs each node may be given: credit, counted against the claims so far.

A node says: "of all claims ever made to my session I have seen `seen_total`, and with those
in place I have `free` slots". Claims it had not seen yet are subtracted:

    credit = free - (claims applied + claims in flight - seen_total)

Both counts only grow within a session, so a message that is late, doubled or out of order can
understate the credit for a moment and never overstates it. "Claims applied" is the machine's
count and "in flight" ends when the operation is applied, so a claim that was refused gives its
slot back by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from exkiq.machine import Machine


class NodeClaim(NamedTuple):
    """Jobs for one node's session, as they stand in a CLAIM operation."""

    node: str
    session: int
    ids: list[str]


class Room(NamedTuple):
    """A node that may be handed jobs. `free` may be 0; `running` counts what is in flight."""

    node: str
    session: int
    free: int
    running: int
    queues: Mapping[str, int]


@dataclass(slots=True)
class _Announced:
    session: int
    seen_total: int
    free: int
    queues: Mapping[str, int]


class Demand:
    """What the nodes announced and what is on its way to them, for one leadership."""

    def __init__(self) -> None:
        self._announced: dict[str, _Announced] = {}
        self._in_flight: dict[bytes, dict[tuple[str, int], int]] = {}

    def hear(
        self, node: str, session: int, seen_total: int, free: int, queues: Mapping[str, int]
    ) -> None:
        """Take in an announcement; an older one than we have is dropped."""
        held = self._announced.get(node)
        if held is not None and (session, seen_total) < (held.session, held.seen_total):
            return
        self._announced[node] = _Announced(session, seen_total, free, queues)

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
            rooms.append(Room(node, session.id, free, running, said.queues))
        return rooms

    def _coming(self, node: str, session: int) -> int:
        return sum(claims.get((node, session), 0) for claims in self._in_flight.values())
