"""What a node without a cluster waits for, in one line. Pure."""

from __future__ import annotations

from exkiq.discovery.candidacy import Candidacy
from exkiq.discovery.facts import Facts
from exkiq.discovery.roster import Roster


def waits_for(roster: Roster, facts: Facts, candidacy: Candidacy | None, expect: int) -> str:
    """Why this node has no cluster yet, or that it has one."""
    cluster = repr(roster.cluster)
    if facts.cluster_id:
        return f"is in cluster {cluster}"
    if candidacy is not None:
        return f"waits for {', '.join(candidacy.missing)} to promise to found cluster {cluster}"
    if facts.promise is not None:
        return f"waits for {facts.promise.founder} to found cluster {cluster}"
    if founded := roster.founded():
        return f"waits for {founded[0].name} to take this node into cluster {cluster}"
    smaller = roster.smaller_fresh(roster.own.name)
    if smaller is not None:
        return f"waits for {smaller.name} to found cluster {cluster}"
    names = [roster.own.name, *(peer.name for peer in roster.fresh())]
    here = f"{len(names)} here ({', '.join(names)})"
    return f"waits for {expect} fresh nodes to found cluster {cluster}: {here}"
