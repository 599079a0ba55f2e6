"""What a dispatcher is asked, and what it may be able to do besides.

A slot is named by its node: the free slots of one node are alike, so a node with three of them
is checked in three times, and giving its name back from `check_out` uses up one of the three.

A dispatcher of your own is a class that derives from `Dispatcher` and stands in a module which
the nodes can import:

    class Nearest(Dispatcher):
        ...

    exkiq.queue("emails", dispatcher="myapp.dispatch:Nearest")

It lives on the leader only and is not replicated: a new leader makes a new one and checks in
what the nodes announce. What it chooses is a proposal: a node without room is never given a job.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container
from typing import NamedTuple, Protocol, runtime_checkable


class Offer(NamedTuple):
    """A job that wants a slot, and the nodes that may have it."""

    id: str
    queue: str
    nodes: Container[str]


class Dispatcher(ABC):
    """Chooses the slot for a job.

    Called on the leader's loop: it must not wait for anything. One that raises, names a node
    that was not offered, or takes over 50 ms for an answer is logged and made anew.
    """

    @abstractmethod
    def available(self) -> bool:
        """Is any slot free?"""

    @abstractmethod
    def check_in(self, slot: str) -> None:
        """One slot of that name is free now."""

    @abstractmethod
    def check_out(self, job: Offer) -> str | None:
        """Take a free slot for `job`, one of `job.nodes`; None when there is none for it now."""

    @abstractmethod
    def remove(self, slot: str) -> None:
        """Forget every slot of that name; harmless for an unknown one."""

    @abstractmethod
    def known(self, slot: str) -> bool:
        """Has a slot of that name been checked in and not been removed since?"""


@runtime_checkable
class Dealer(Protocol):
    """A dispatcher that counts slots instead of keeping each: the quick way for many jobs."""

    def room(self, node: str, free: int, running: int) -> None:
        """`node` has `free` slots now, and by the log it runs `running` jobs."""

    def deal(self, count: int, nodes: Container[str]) -> list[tuple[str, slice]]:
        """Hand out up to `count` jobs over `nodes`, as if each had been checked out in turn.

        Shapes: (node, positions): the slices of all nodes together cover 0 .. n-1 once,
                where n is `count` or as many as there is room for.
        """
