"""What a node that has a cluster still answers: those who missed that it was founded. Pure."""

from __future__ import annotations

from exkiq.discovery.effects import Effect, Send
from exkiq.discovery.facts import Facts, Member, listed, rows_of
from exkiq.discovery.roster import Peer
from exkiq.wire.messages import Kind


def answer(facts: Facts, own: Member, peer: Peer, message: list[object]) -> list[Effect] | None:
    """The answer to a message about founding; None when it is for the rest of the node."""
    match message:
        case [Kind.PROMISE, *_]:
            return [tell(facts, peer.name)]
        case [Kind.PROMISED, str(founder), bool(is_granted), str(to)]:
            out: list[Effect] = [tell(facts, peer.name)]
            if is_granted and founder == own.name and to != facts.cluster_id:
                out.append(let_go(own, peer.name, to))
            return out
        case [Kind.FOUNDED, *_]:
            return []
        case [Kind.JOIN, str(name), str(incarnation), str(address)] if name == peer.name:
            is_founding = facts.founder and listed(
                facts.members, Member(name, address, incarnation)
            )
            return [tell(facts, peer.name)] if is_founding else None
    return None


def tell(facts: Facts, name: str) -> Effect:
    """Tell `name` which cluster is founded; who is on the founding list may start by it."""
    # whoever joined later has a later list, of no use for starting Raft as a founding member
    members = facts.members if facts.founder else ()
    return Send(name, [int(Kind.FOUNDED), facts.cluster_id, rows_of(members)])


def let_go(own: Member, name: str, cluster_id: str) -> Effect:
    """Tell `name` that we will never found `cluster_id`: an empty list says so."""
    return Send(name, [int(Kind.PROMISE), own.name, cluster_id, []])
