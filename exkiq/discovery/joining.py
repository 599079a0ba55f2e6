"""Asking a founded cluster to take us in. Pure."""

from __future__ import annotations

from collections import Counter

from exkiq.discovery.effects import Effect, Log, Send, Sight, Warn
from exkiq.discovery.facts import Member
from exkiq.discovery.roster import Peer, Roster
from exkiq.wire.messages import Kind

ASK_MS = 1_000  # the leader may be busy or unknown: ask again
DENIED_MS = 5_000  # whoever was refused has nothing to gain from hurrying
REDIRECT_MS = 100  # two nodes that name each other as leader must not make a storm


class Joining:
    """Finds the leader through any member and repeats the request until it is answered."""

    def __init__(self, own: Member) -> None:
        self.own = own
        self.has_asked = False
        self._leader = ""
        self._turn = 0
        self._next_ms = 0

    def ask(self, candidates: list[Peer], now_ms: int) -> list[Effect]:
        """One request when it is time; `candidates` are linked members of one cluster."""
        if now_ms < self._next_ms or not candidates:
            return []
        target = self._target(candidates)
        self._next_ms = now_ms + ASK_MS
        out: list[Effect] = []
        if not self.has_asked:
            out.append(Log(f"asking {target} to take this node into {candidates[0].cluster_id}"))
        self.has_asked = True
        own = self.own
        out.append(Send(target, [int(Kind.JOIN), own.name, own.incarnation, own.address]))
        return out

    def _target(self, candidates: list[Peer]) -> str:
        # a named leader is asked once and must then be named again: it may be gone
        leader, self._leader = self._leader, ""
        names = [peer.name for peer in candidates]
        if leader in names:
            return leader
        self._turn += 1
        return names[self._turn % len(names)]

    def pointed_to(self, leader: str, address: str, now_ms: int) -> list[Effect]:
        """A member said who leads."""
        self._leader = leader
        self._next_ms = min(self._next_ms, now_ms + REDIRECT_MS)
        return [Sight(address)]

    def denied(self, by: str, text: str, now_ms: int) -> list[Effect]:
        """The leader refused, and said why."""
        self._next_ms = now_ms + DENIED_MS
        return [Warn(f"{by} refuses to take this node in: {text}")]


def cluster_to_join(roster: Roster) -> list[Peer]:
    """The linked members of one founded cluster: of several the one with most of them linked."""
    founded = roster.founded()
    if not founded:
        return []
    count = Counter(peer.cluster_id for peer in founded)
    chosen = min(count, key=lambda cluster_id: (-count[cluster_id], cluster_id))
    return [peer for peer in founded if peer.cluster_id == chosen]
