"""The dispatcher under guard: told what is free, asked who is next.

A dispatcher may be a user's. One that raises, dawdles or names a node that cannot be is logged
and made anew; what it handed out before still counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container
from typing import TypeVar

from exkiq.aggregator.demand import Room
from exkiq.clock import Clock
from exkiq.dispatchers import Dealer, Dispatcher, Offer
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

    def _settle(self, rooms: Collection[Room]) -> None:
        present = {room.node for room in rooms}
        for node in self._seats.keys() - present:
            self._dispatcher.remove(node)
            del self._seats[node]
        for room in rooms:
            if self._dealer is not None:
                self._dealer.room(room.node, room.free, room.running)
            else:
                self._seat(room)
            self._seats[room.node] = room.free

    def _seat(self, room: Room) -> None:
        """The same for a dispatcher that keeps each slot: check in what is new."""
        new = room.free - self._seats.get(room.node, 0)
        if new < 0:
            self._dispatcher.remove(room.node)
            new = room.free
        for _ in range(new):
            self._dispatcher.check_in(room.node)

    def _check_out(self, job: Offer) -> str | None:
        node = self._dispatcher.check_out(job)
        if node is None:
            return None
        if node not in job.nodes or self._seats.get(node, 0) < 1:
            raise ValueError(f"no room on {node!r}, which was chosen for a job of {job.queue!r}")
        self._seats[node] -= 1
        return node

    def _ask(self, question: Callable[[], Answer], otherwise: Answer) -> Answer:
        asked = self._clock.monotonic()
        name = type(self._dispatcher).__name__
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
        self._dispatcher = self._make()
        self._dealer = self._dispatcher if isinstance(self._dispatcher, Dealer) else None
        self._seats: dict[str, int] = {}
