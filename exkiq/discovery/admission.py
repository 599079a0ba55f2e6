"""Who becomes a member and who stops being one: the leader's side of joining and leaving.

A member is its name and its incarnation, which is made with its data folder. A known name with
another incarnation is a node that lost its disk: it forgot its votes, so the old member is
removed first and the new one joins like anybody else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from exkiq.machine import Machine, MemberChange
from exkiq.telemetry import log
from exkiq.wire.messages import Kind

VOTERS_MAX = 5  # more voters make every commit slower and survive nothing that five do not


class Group(Protocol):
    """What is asked of the Raft group."""

    machine: Machine

    @property
    def is_leader(self) -> bool: ...
    @property
    def leader(self) -> str | None: ...
    @property
    def voters(self) -> frozenset[str]: ...
    def change_members(self, change: MemberChange) -> None: ...


class Admission:
    """Answers JOIN and LEAVE.

    Duties: send a joiner to the leader; on the leader, have the log take it in, and tell it
    the members; remove who leaves.
    """

    def __init__(
        self, group: Group, cluster_id: str, send: Callable[[str, list[Any]], bool]
    ) -> None:
        self._group, self._cluster_id, self._send = group, cluster_id, send
        self._joining: dict[str, MemberChange] = {}

    def join(self, name: str, incarnation: str, address: str) -> None:
        """`name` asks to be a member; it asks again until it is told."""
        if not self._group.is_leader:
            self._point_to_leader(name)
            return
        if not self._group.machine.cluster_id:
            return  # whose name is whose is not in the log yet; it asks again
        member = self._group.machine.members.get(name)
        if member is not None and member.incarnation != incarnation:
            log.warning("%s lost its data folder: its old membership is removed first", name)
            self._group.change_members(
                MemberChange("remove", name, member.address, member.incarnation)
            )
            return
        if member is None and len(self._group.voters | {name}) > VOTERS_MAX:
            self._send(
                name,
                [int(Kind.DENIED), f"the cluster has {VOTERS_MAX} voters, which is the most"],
            )
            return
        change = MemberChange("add", name, address, incarnation)
        self._joining[name] = change
        self._group.change_members(change)

    def leave(self, name: str) -> None:
        """A member is to be removed: it said so, or an operator did."""
        member = self._group.machine.members.get(name)
        if self._group.is_leader and member is not None:
            self._group.change_members(
                MemberChange("remove", name, member.address, member.incarnation)
            )

    def appended(self, change: MemberChange) -> None:
        """A change is in the log: a joiner can start, its vote may be needed to commit it."""
        if change.verb == "add" and self._joining.pop(change.name, None) is not None:
            self._send(change.name, self._welcome(change))

    def _welcome(self, change: MemberChange) -> list[Any]:
        known = self._group.machine.members
        rows = {m.name: [m.name, m.address, m.incarnation] for m in known.values()}
        rows[change.name] = [change.name, change.address, change.incarnation]
        members = [rows[name] for name in sorted(rows)]
        return [int(Kind.WELCOME), self._cluster_id, members]

    def _point_to_leader(self, name: str) -> None:
        leader = self._group.leader
        member = self._group.machine.members.get(leader) if leader else None
        address = member.address if member is not None else None
        self._send(name, [int(Kind.NOT_LEADER), leader, address])
