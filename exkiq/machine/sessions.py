"""Lives of nodes, and members of the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exkiq.machine.record import Record


class Session:
    """One run of a node as the cluster sees it: from its begin until it is declared over.

    Shapes: `running` holds its jobs by id, in no order that means anything. `claimed_total`
            counts all that it was ever given, so that demand and claims can be compared.
    """

    __slots__ = ("address", "claimed_total", "id", "node", "run_id", "running")

    def __init__(self, number: int, node: str, run_id: str, address: str) -> None:
        self.id = number
        self.node = node
        self.run_id = run_id
        self.address = address
        self.running: dict[str, Record] = {}
        self.claimed_total = 0

    def __repr__(self) -> str:
        return f"<Session {self.id} of {self.node}, {len(self.running)} running>"


@dataclass(frozen=True, slots=True)
class Member:
    """A node of the cluster; the incarnation tells a node from an earlier one of its name."""

    name: str
    address: str
    incarnation: str


class MemberVerb(StrEnum):
    """What happens to the list of members."""

    ADD = "add"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class MemberChange:
    """One committed change of the list of members; `verb` is a `MemberVerb`."""

    verb: str
    name: str
    address: str = ""
    incarnation: str = ""
