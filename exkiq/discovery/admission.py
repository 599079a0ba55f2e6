"""Who becomes a member and who stops being one: the leader's side of joining and leaving.

A member is its name and its incarnation, which is made with its data folder. A known name with
another incarnation is a node that lost its disk: it forgot its votes, so the old member is
removed first and the new one joins like anybody else.

Everybody enters as a non-voter; who is to vote is decided in `promotion`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

from exkiq.discovery.promotion import Promotion, Sight
from exkiq.machine import Machine, MemberChange, MemberVerb
from exkiq.machine.limits import MEMBERS_MAX
from exkiq.telemetry import log
from exkiq.wire.messages import Kind


class Group(Protocol):
    """What is asked of the Raft group."""

    name: str
    machine: Machine

    @property
    def is_leader(self) -> bool: ...
    @property
    def leader(self) -> str | None: ...
    @property
    def voters(self) -> frozenset[str]: ...
    @property
    def non_voters(self) -> frozenset[str]: ...
    @property
    def commit_index(self) -> int: ...
    @property
    def is_changing_members(self) -> bool: ...
    def matched(self, name: str) -> int: ...
    def change_members(self, change: MemberChange) -> None: ...


class Admission:
    """Answers JOIN and LEAVE.

    Duties: send a joiner to the leader; on the leader, have the log take it in, and tell it
    the voters; remove who leaves; give votes to those who keep up.
    """

    def __init__(
        self,
        group: Group,
        cluster_id: str,
        send: Callable[[str, list[Any]], bool],
        promotion: Promotion,
    ) -> None:
        self._group, self._cluster_id, self._send = group, cluster_id, send
        self._promotion = promotion
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
            self._change(MemberVerb.REMOVE, name)
            return
        if member is None and len(self._group.machine.members) >= MEMBERS_MAX:
            text = f"the cluster has {MEMBERS_MAX} members, which is the most"
            self._send(name, [int(Kind.DENIED), text])
            return
        change = MemberChange(MemberVerb.ADMIT.value, name, address, incarnation)
        self._joining[name] = change
        self._group.change_members(change)

    def leave(self, name: str) -> None:
        """A member is to be removed: it said so, or an operator did."""
        if self._group.is_leader:
            self._change(MemberVerb.REMOVE, name)

    def look(self, linked: Collection[str], now: float) -> None:
        """Now and then, in seconds: whether somebody is to vote, or no more."""
        group = self._group
        if not group.is_leader:
            self._promotion.forget()
            self._joining.clear()
        elif not group.is_changing_members:
            sight = Sight(group.voters, group.non_voters, linked, group.matched, group.commit_index)
            move = self._promotion.look(sight, now)
            if move is not None:
                log.info("%s", move.reason)
                self._change(MemberVerb(move.verb), move.name)

    def _change(self, verb: MemberVerb, name: str) -> None:
        member = self._group.machine.members.get(name)
        if member is not None:
            change = MemberChange(verb.value, name, member.address, member.incarnation)
            self._group.change_members(change)

    def appended(self, change: MemberChange) -> None:
        """A change is in the log: a joiner can start."""
        is_entry = change.verb == MemberVerb.ADMIT
        if is_entry and self._joining.pop(change.name, None) is not None:
            self._send(change.name, self._welcome(change))

    def _welcome(self, change: MemberChange) -> list[Any]:
        known, voters = self._group.machine.members, self._group.voters
        rows = {m.name: [m.name, m.address, m.incarnation] for m in known.values()}
        rows = {name: row for name, row in rows.items() if name in voters}
        rows[change.name] = [change.name, change.address, change.incarnation]
        members = [rows[name] for name in sorted(rows)]
        return [int(Kind.WELCOME), self._cluster_id, members]

    def _point_to_leader(self, name: str) -> None:
        leader = self._group.leader
        member = self._group.machine.members.get(leader) if leader else None
        address = member.address if member is not None else None
        self._send(name, [int(Kind.NOT_LEADER), leader, address])
