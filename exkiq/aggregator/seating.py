"""The dispatcher under guard, told what is free and asked who is next.

A dispatcher may be a user's. One that raises, answers a node that cannot be, or takes its time
is logged and made anew; the plan goes on with what was handed out before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container
from contextlib import AbstractContextManager
from types import TracebackType

from exkiq.aggregator.demand import Room
from exkiq.clock import Clock
from exkiq.dispatchers import Dealer, Dispatcher, Offer
from exkiq.telemetry import log

DAWDLE_S = 0.05
"""Longer than this for one plan and a dispatcher is thrown away: it stops the whole leader."""

REST_S = 1.0
"""After a crash nothing is handed out for so long, or a broken one would fill the log."""


class Seating(AbstractContextManager["Seating"]):
    """Keeps one dispatcher in step with the nodes' room. A `with` block is one plan."""

    def __init__(self, make: Callable[[], Dispatcher], clock: Clock) -> None:
        self._make = make
        self._clock = clock
        self._rest_until = clock.monotonic() - 1
        self._renew()

    @property
    def is_resting(self) -> bool:
        """Did it crash a moment ago?"""
        return self._clock.monotonic() < self._rest_until

    @property
    def rest_until(self) -> float:
        """When it may be asked again, in seconds of the monotonic clock."""
        return self._rest_until

    @property
    def dealer(self) -> Dealer | None:
        """The dispatcher, if it can hand out many jobs at once."""
        return self._dealer

    def settle(self, rooms: Collection[Room]) -> None:
        """Tell the dispatcher what is free now, and which nodes are gone."""
        for node in [node for node in self._seats if all(node != room.node for room in rooms)]:
            del self._seats[node]
            self._dispatcher.remove(node)
        for room in rooms:
            if self._dealer is not None:
                self._dealer.room(room.node, room.free, room.running)
            else:
                self._check_in(room)
            self._seats[room.node] = room.free

    def deal(self, count: int, nodes: Container[str]) -> list[tuple[str, slice]]:
        """Hand out up to `count` jobs at once. Only with a dealer."""
        return [] if self._dealer is None else self._dealer.deal(count, nodes)

    def check_out(self, job: Offer) -> str | None:
        """The node for one job, or None when there is none for it now."""
        node = self._dispatcher.check_out(job)
        if node is None:
            return None
        if node not in job.nodes or self._seats.get(node, 0) < 1:
            raise ValueError(f"{node!r} was chosen for a job of {job.queue}; it has no room")
        self._seats[node] -= 1
        return node

    def __enter__(self) -> Seating:
        self._entered = self._clock.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        took = self._clock.monotonic() - self._entered
        if isinstance(error, Exception):
            log.error("the dispatcher %s raised and is made anew", self._name, exc_info=error)
        elif error is None and took > DAWDLE_S and not self._is_ours:
            log.error("the dispatcher %s took %d ms and is made anew", self._name, took * 1000)
        else:
            return False
        self._renew()
        self._rest_until = self._clock.monotonic() + REST_S
        return True
