"""What a node knows for good about its cluster, and where it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

MEMBERS_MAX = 1_024  # a list longer than any cluster we could run is an attack or a bug


@dataclass(frozen=True, slots=True)
class Member:
    """A node as the others know it: the name is its identity in Raft, the address may change.

    `incarnation` is kept with the data: another one under the same name is another node.
    """

    name: str
    address: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class Promise:
    """Our word to take part in the founding of `founder` and of nobody else."""

    founder: str
    cluster_id: str
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What must outlive a crash while a cluster is founded or joined.

    `members` is the list that Raft was started with, not today's: that one is in the journal.
    `founder` is the first on that list, or "" when this node joined later.
    """

    cluster_id: str = ""
    members: tuple[Member, ...] = ()
    founder: str = ""
    promise: Promise | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """With what to start Raft.

    Shapes: `members` are those who founded the cluster; for a node that joined later, those who
            voted then, and itself.
    """

    cluster_id: str
    members: tuple[Member, ...]
    is_founder: bool
    has_joined: bool = False


class FoundingStore(Protocol):
    """Keeps the facts of one node."""

    def load(self) -> Facts:
        """The facts saved last; empty ones for a fresh node. Errors: DataError when damaged."""

    def save(self, facts: Facts) -> None:
        """Return once `facts` would survive a power cut. Errors: OSError."""


def rows_of(members: Sequence[Member]) -> list[object]:
    """Members as they travel and as they are kept."""
    return [[member.name, member.address, member.incarnation] for member in members]


def members_of(rows: object) -> tuple[Member, ...] | None:
    """The members that `rows_of` wrote; None for anything else, also when a name is twice."""
    if not isinstance(rows, list | tuple) or len(rows) > MEMBERS_MAX:
        return None
    members: list[Member] = []
    for row in rows:
        match row:
            case [str(name), str(address), str(incarnation)] if name:
                members.append(Member(name, address, incarnation))
            case _:
                return None
    if len({member.name for member in members}) != len(members):
        return None
    return tuple(members)


def listed(members: Sequence[Member], who: Member) -> bool:
    """Whether `who` is among `members`, whatever its address is by now."""
    return any(
        member.name == who.name and member.incarnation == who.incarnation for member in members
    )
