"""Two founded clusters meet: who gives up."""

from __future__ import annotations

from dataclasses import dataclass

from exkiq.wire.hello import Hello, Role


@dataclass(frozen=True, slots=True)
class Island:
    """A founded cluster as the other one sees it.

    `has_held_jobs` is about the whole life of its log: a job that was enqueued and deleted
    counts, since somebody may hold its id.
    """

    cluster: str
    cluster_id: str
    members: int
    has_held_jobs: bool

    @property
    def may_yield(self) -> bool:
        return self.members == 1 and not self.has_held_jobs

    @property
    def role(self) -> Role:
        """What its only member says of itself."""
        return "island" if self.may_yield else "member"


def island_of(hello: Hello) -> Island:
    """The cluster of a stranger, by what it says of itself."""
    is_island = hello.role == "island"
    return Island(hello.cluster, hello.cluster_id, 1 if is_island else 2, not is_island)


def should_yield(own: Island, other: Island) -> bool:
    """Whether we drop our log and join `other`; never true on both sides.

    Only a single node whose log never held a job gives up anything by yielding: nothing. Of
    two such the larger cluster id yields; two used clusters never merge.
    """
    if own.cluster != other.cluster or own.cluster_id == other.cluster_id or not own.may_yield:
        return False
    return not other.may_yield or own.cluster_id > other.cluster_id
