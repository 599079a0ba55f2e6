"""What a node says of itself, its cluster and its queues: the map behind `exkiq status`.

Read from what is applied here; every node can answer, also without a majority.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from exkiq.machine import MemberRole
from exkiq.queues.views import counts_map, queue_map
from exkiq.raft import Replica


def status_map(
    replica: Replica,
    cluster: str,
    linked: Collection[str],
    applied: Mapping[str, int],
    now_ms: int,
) -> dict[str, Any]:
    """The status of this node.

    Shapes: as `exkiq status --json` prints it; a member that is not linked is "lost", and how
            far it has applied the log is then unknown. `age_ms` is how long no leader was heard:
            so old may be what is told here, None without any.
    """
    machine = replica.machine
    return {
        "node": replica.name,
        "cluster": {
            "id": machine.cluster_id,
            "name": cluster,
            "leader": replica.leader,
            "term": replica.term,
            "members": [
                _member(replica, name, linked, applied) for name in sorted(machine.members)
            ],
        },
        "raft": raft_map(replica),
        "queues": {name: queue_map(machine, name, now_ms) for name in sorted(machine.queues)},
        "stats": counts_map(machine),
    }


def raft_map(replica: Replica) -> dict[str, Any]:
    """The replicated log as this node has it. Shapes: voters and non-voters by name, sorted."""
    return {
        "term": replica.term,
        "leader": replica.leader,
        "commit_index": replica.commit_index,
        "applied_index": replica.applied_index,
        "age_ms": replica.standing.age_ms,
        "log_length": replica.log_length,
        "log_bytes": replica.journal.size_bytes,
        "state_hash": replica.machine.state_hash,
        "snapshot_failures": replica.snapshots.failures,
        "voters": sorted(replica.voters),
        "non_voters": sorted(replica.non_voters),
    }


def _member(
    replica: Replica, name: str, linked: Collection[str], applied: Mapping[str, int]
) -> dict[str, Any]:
    is_self = name == replica.name
    session = replica.machine.sessions.get(name)
    return {
        "name": name,
        "address": replica.machine.members[name].address,
        "role": _role(replica, name),
        "state": "alive" if is_self or name in linked else "lost",
        "applied": replica.applied_index if is_self else applied.get(name),
        "running": len(session.running) if session is not None else 0,
    }


def _role(replica: Replica, name: str) -> str:
    """Leader or follower, who vote, or non-voter."""
    if name == replica.leader:
        return "leader"
    is_voter = replica.machine.members[name].role == MemberRole.VOTER
    return "follower" if is_voter else MemberRole.NON_VOTER.value
