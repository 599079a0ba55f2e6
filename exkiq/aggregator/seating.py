"""The dispatcher under guard: told what is free, asked who is next.

A dispatcher may be a user's. One that raises, dawdles or names a node that cannot be is logged
and made anew; what it handed out before still counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping
from typing import TypeVar

from exkiq.aggregator.demand import Room
from exkiq.clock import Clock
from exkiq.dispatchers import Dealer, Dispatcher, LRUNode, Offer
from exkiq.telemetry import log

Answer = TypeVar("Answer")

DAWDLE_S = 0.05
"""A dispatcher that takes longer for one answer stops the whole leader."""

REST_S = 1.0
"""After a crash nothing is handed out for so long, or a broken one would fill the log."""


class Seating:
    """Keeps one dispatcher in step with the room on the nodes."""

    def __init__(self, make: Callable[[], Dispatcher], clock: Clock) -> None:
        self._make = make
        self._clock = clock
        self.rest_until = clock.monotonic()
        self._renew()

    @property
    def is_resting(self) -> bool:
        """Did it crash a moment ago?"""
        return self._clock.monotonic() < self.rest_until

    @property
    def name(self) -> str:
        """Of the dispatcher's class."""
        return type(self._dispatcher).__name__

    @property
    def is_dealer(self) -> bool:
        """Can it hand out many jobs at once?"""
        return self._dealer is not None

    def settle(self, rooms: Collection[Room]) -> None:
        """Tell the dispatcher what is free now, and which nodes are gone."""
        self._ask(lambda: self._settle(rooms), None)

    def deal(self, count: int, nodes: Container[str]) -> list[tuple[str, slice]]:
        """Hand out up to `count` jobs at once; nothing without a dealer."""
        dealer = self._dealer
        return [] if dealer is None else self._ask(lambda: dealer.deal(count, nodes), [])

    def check_out(self, job: Offer) -> str | None:
        """The node for one job; None when there is none for it now."""
        return self._ask(lambda: self._check_out(job), None)

    def taken(self, node: str) -> None:
        """Another dispatcher has given away a slot of `node`."""
        self._taken[node] = self._taken.get(node, 0) + 1

    def _settle(self, rooms: Collection[Room]) -> None:
        self._taken.clear()
        present = {room.node for room in rooms}
        for node in self._seats.keys() - present:
            self._dispatcher.remove(node)
            del self._seats[node]
            self._running.pop(node, None)
        for room in rooms:
            free = room.total
            if self._dealer is not None:
                self._dealer.room(room.node, free, room.running)
                self._running[room.node] = room.running
            else:
                self._seat(room.node, free)
            self._seats[room.node] = free

    def _seat(self, node: str, free: int) -> None:
        """The same for a dispatcher that keeps each slot: check in what is new."""
        new = free - self._seats.get(node, 0)
        if new < 0:
            self._dispatcher.remove(node)
            new = free
        for _ in range(new):
            self._dispatcher.check_in(node)

    def _catch_up(self, dealer: Dealer) -> None:
        """Tell of what others gave away. Who keeps single slots learns it by the next `settle`:
        until then no node is offered that has none left."""
        for node, slots in self._taken.items():
            self._seats[node] = max(0, self._seats.get(node, 0) - slots)
            self._running[node] = self._running.get(node, 0) + slots
            dealer.room(node, self._seats[node], self._running[node])
        self._taken.clear()

    def _check_out(self, job: Offer) -> str | None:
        if self._taken and self._dealer is not None:
            self._catch_up(self._dealer)
        node = self._dispatcher.check_out(job)
        if node is None:
            return None
        if node not in job.nodes or self._seats.get(node, 0) < 1:
            raise ValueError(f"no room on {node!r}, which was chosen for a job of {job.queue!r}")
        self._seats[node] -= 1
        if self._dealer is not None:
            self._running[node] = self._running.get(node, 0) + 1
        return node

    def _ask(self, question: Callable[[], Answer], otherwise: Answer) -> Answer:
        asked = self._clock.monotonic()
        name = self.name
        try:
            answer = question()
        except Exception as error:  # noqa: BLE001 (logged; a user's code)
            log.error("dispatcher %s raised and is made anew", name, exc_info=error)
            self._renew()
            self.rest_until = asked + REST_S
            return otherwise
        took = self._clock.monotonic() - asked
        if took > DAWDLE_S:
            log.error("dispatcher %s took %d ms and is made anew", name, took * 1000)
            self._renew()
        return answer

    def _renew(self) -> None:
        self._dispatcher = self._made()
        self._dealer = self._dispatcher if isinstance(self._dispatcher, Dealer) else None
        self._seats: dict[str, int] = {}
        self._running: dict[str, int] = {}
        self._taken: dict[str, int] = {}  # by other dispatchers, and this one was not told yet

    def _made(self) -> Dispatcher:
        try:
            return self._make()
        except Exception as error:  # noqa: BLE001 (logged; a user's code)
            log.error("a dispatcher cannot be made, LRUNode takes its place", exc_info=error)
            return LRUNode()


class Seatings:
    """The dispatchers of one leadership: the default one, and those that queues name.

    Queues with the same maker share one. All are told of every slot, so one that gives a slot
    away says so to the others.
    """

    def __init__(
        self,
        make: Callable[[], Dispatcher],
        makers: Mapping[str, Callable[[], Dispatcher]],
        clock: Clock,
    ) -> None:
        self.default = Seating(make, clock)
        by_maker = {make: self.default}
        self._of: dict[str, Seating] = {}
        for queue, maker in makers.items():
            if maker not in by_maker:
                by_maker[maker] = Seating(maker, clock)
            self._of[queue] = by_maker[maker]
        self._all = list(by_maker.values())

    def of(self, queue: str) -> Seating:
        """The dispatcher of this queue."""
        return self._of.get(queue, self.default)

    def names(self) -> dict[str, str]:
        """The class of each queue's dispatcher, and under "" of the default one."""
        own = {queue: seating.name for queue, seating in sorted(self._of.items())}
        return {"": self.default.name} | own

    @property
    def is_resting(self) -> bool:
        """Did one of them crash a moment ago?"""
        return any(seating.is_resting for seating in self._all)

    def rest_end(self) -> float | None:
        """When the first of those that rest is asked again; None when none does."""
        return min((each.rest_until for each in self._all if each.is_resting), default=None)

    def settle(self, rooms: Collection[Room]) -> None:
        """Tell each what is free now, and which nodes are gone."""
        for seating in self._all:
            seating.settle(rooms)

    def taken(self, node: str, by: Seating) -> None:
        """One of them has given away a slot of `node`."""
        if len(self._all) > 1:
            for seating in self._all:
                if seating is not by:
                    seating.taken(node)
