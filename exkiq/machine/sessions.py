"""Lives of nodes, and members of the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exkiq.machine.record import Record


class Session:
    """One run of a node as the cluster sees it: from its begin until it is declared over.

    Shapes: `running` holds its jobs by id, in no order that means anything. `claimed_total`
            counts all that it was ever given, so that demand and claims can be compared.
            `stopping` are the ids of those of its jobs that were cancelled while they run.
    """

    __slots__ = ("address", "claimed_total", "id", "node", "run_id", "running", "stopping")

    def __init__(self, number: int, node: str, run_id: str, address: str) -> None:
        self.id = number
        self.node = node
        self.run_id = run_id
        self.address = address
        self.running: dict[str, Record] = {}
        self.claimed_total = 0
        self.stopping: dict[str, None] = {}

    def __repr__(self) -> str:
        return f"<Session {self.id} of {self.node}, {len(self.running)} running>"


class MemberRole(StrEnum):
    """Whether a member counts; a non-voter follows the log and runs jobs like any other."""

    VOTER = "voter"
    NON_VOTER = "non-voter"


@dataclass(frozen=True, slots=True)
class Member:
    """A node of the cluster; the incarnation tells a node from an earlier one of its name."""

    name: str
    address: str
    incarnation: str
    role: str = MemberRole.VOTER.value


class MemberVerb(StrEnum):
    """What happens to the list of members."""

    ADD = "add"
    ADMIT = "admit"
    PROMOTE = "promote"
    DEMOTE = "demote"
    REMOVE = "remove"
    DISMISS = "dismiss"


ROLES = MappingProxyType(
    {
        MemberVerb.ADD: (None, MemberRole.VOTER),
        MemberVerb.ADMIT: (None, MemberRole.NON_VOTER),
        MemberVerb.PROMOTE: (MemberRole.NON_VOTER, MemberRole.VOTER),
        MemberVerb.DEMOTE: (MemberRole.VOTER, MemberRole.NON_VOTER),
        MemberVerb.REMOVE: (MemberRole.VOTER, None),
        MemberVerb.DISMISS: (MemberRole.NON_VOTER, None),
    }
)
"""The role before and after; exact, so that an entry that is cut off the log can be undone."""


@dataclass(frozen=True, slots=True)
class MemberChange:
    """One committed change of the list of members; `verb` is a `MemberVerb`."""

    verb: str
    name: str
    address: str = ""
    incarnation: str = ""
