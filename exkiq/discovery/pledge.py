"""What our promise to another founder means as things stand. Pure."""

from __future__ import annotations

from exkiq.discovery.candidacy import REPEAT_MS
from exkiq.discovery.effects import Effect, Send
from exkiq.discovery.facts import Promise, listed
from exkiq.discovery.roster import Peer, Roster
from exkiq.wire.messages import Kind


def is_made_to(promise: Promise, peer: Peer) -> bool:
    """Whether `peer` is the founder that was promised, with the data it had then."""
    return promise.founder == peer.name and listed(promise.members, peer.member)


def is_void(promise: Promise, roster: Roster) -> bool:
    """Whether nobody can have founded what was promised, and nobody ever will.

    That is so when the founder is here without its old data and everybody else on the list is
    here without a cluster.
    """
    founder = roster.peers.get(promise.founder)
    if founder is None or not founder.is_fresh or is_made_to(promise, founder):
        return False
    others = {member.name for member in promise.members} - {roster.own.name}
    return others <= {peer.name for peer in roster.fresh()}


class Reminders:
    """Says our promise again, to the founder and to whoever knows how it ended."""

    def __init__(self) -> None:
        self._said_ms: dict[str, int] = {}

    def said(self, name: str, now_ms: int) -> None:
        """`name` has just heard our promise."""
        self._said_ms[name] = now_ms

    def relinked(self, name: str) -> None:
        """There is a new link to `name`: what was said on the old one may be lost."""
        self._said_ms.pop(name, None)

    def due(self, promise: Promise, roster: Roster, now_ms: int) -> list[Effect]:
        """The promise again, to whom it has not been said lately."""
        again: list[object] = [int(Kind.PROMISED), promise.founder, True, promise.cluster_id]
        out: list[Effect] = []
        for peer in roster.peers.values():
            if peer.name != promise.founder and peer.cluster_id != promise.cluster_id:
                continue
            last_ms = self._said_ms.get(peer.name)
            if last_ms is None or now_ms - last_ms >= REPEAT_MS:
                self._said_ms[peer.name] = now_ms
                out.append(Send(peer.name, again))
        return out
