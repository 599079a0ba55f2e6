"""What applying an entry gives back: values for the one who asked, news for those who listen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exkiq.machine.record import Record

Answer: TypeAlias = "bool | int | str | list[int | list[int]]"
"""What an operation that was carried out answers; `commands.py` says what for each."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Surely not done. `kind` is the name of a class of `exkiq.errors`, `text` its message."""

    kind: str
    text: str


class Claimed(NamedTuple):
    """Jobs that a node has to start now, in hand-out order, all under the same fence."""

    node: str
    session: int
    fence: int
    records: list[Record]


class Applied:
    """Everything that one entry did.

    Shapes: `results` has one (pid, answer or Refused) for each operation, in their order; an
            operation whose pid cannot be read has b"" there.
            `ended` has each job that reached succeeded, failed or cancelled.
            `over` and `begun` have (node, session) pairs, a session that ended before the one
            that took its place.
            What is rarer: `retried` are failed attempts that go into state retry, or back to
            their queue's tail; `moved` went to another queue; `returned` were handed back,
            `lost` were lost with their node or process, also those that failed by it;
            `stopping` are running jobs that somebody cancelled.
    """

    __slots__ = (
        "begun",
        "claimed",
        "ended",
        "lost",
        "moved",
        "over",
        "results",
        "retried",
        "returned",
        "stopping",
    )

    def __init__(self) -> None:
        self.results: list[tuple[bytes, Answer | Refused]] = []
        self.claimed: list[Claimed] = []
        self.ended: list[Record] = []
        self.over: list[tuple[str, int]] = []
        self.begun: list[tuple[str, int]] = []
        # most entries have none of these: nothing is made for them
        self.retried: Sequence[Record] = ()
        self.moved: Sequence[Record] = ()
        self.returned: Sequence[Record] = ()
        self.lost: Sequence[Record] = ()
        self.stopping: Sequence[Record] = ()

    def tell(
        self,
        news: Literal["retried", "moved", "returned", "lost", "stopping"],
        *records: Record,
    ) -> None:
        """Add jobs to one of the rarer lists."""
        told = getattr(self, news)
        if told:
            told.extend(records)
        elif records:
            setattr(self, news, [*records])
