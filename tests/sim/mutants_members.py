"""Planted faults about members: who votes, and how that changes.

name -> (what is broken, the hazard, how to break it, the schedule that shows it)
"""

from __future__ import annotations

from typing import Any

from exkiq.raft import membership
from exkiq.raft.engine import Engine
from exkiq.raft.snapshot import SnapshotStore
from tests.sim.disk import Disk
from tests.sim.lifecycle import Lifecycle
from tests.sim.mutant import Mutant, Parts


def _empty_voter() -> Parts:
    def wiped(self: Any, name: str) -> None:
        old = self._world.disks[name]
        self._world.disks[name] = Disk(name, old.folder, members=old.members)

    return [(Lifecycle, "wipe", wiped)]


def _two_changes() -> Parts:
    following = membership.MemberChanges.next

    def hasty(self: Any) -> Any:
        self._in_flight = None
        return following(self)

    change = Engine._SyncObj__doChangeCluster  # type: ignore[attr-defined]

    def unarmed(self: Any, request: Any, reverse: bool = False) -> Any:
        is_done = change(self, request, reverse)
        self._SyncObj__changeClusterIDx = None
        return is_done

    return [
        (membership.MemberChanges, "next", hasty),
        (Engine, "_SyncObj__doChangeCluster", unarmed),
    ]


def _forgotten_members() -> Parts:
    begin = SnapshotStore.roles_at_start

    def founders(self: Any, roles: Any) -> Any:
        begin(self, roles)
        return roles

    return [(SnapshotStore, "roles_at_start", founders)]


MEMBER_MUTANTS: dict[str, Mutant] = {
    "empty-voter": Mutant(
        "who lost its disk votes as before", "S6", _empty_voter, schedule="empty-disk"
    ),
    "two-changes": Mutant(
        "a change of members does not wait for the one before",
        "S10",
        _two_changes,
        schedule="two-changes",
    ),
    "forgotten-members": Mutant(
        "a restart forgets the changes of members",
        "S11",
        _forgotten_members,
        schedule="members-after-a-restart",
    ),
}
