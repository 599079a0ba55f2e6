"""The rooms around a machine without a cluster: its hand, its sessions, the server of clients."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from exkiq.aggregator import Aggregator
from exkiq.aggregator import Settings as AggregatorSettings
from exkiq.clock import Clock
from exkiq.errors import UnsupportedOperation
from exkiq.machine import Applied, Machine, commands
from exkiq.machine import schema as schemas
from exkiq.queues.local import TERM, Book, LocalHouse
from exkiq.server import ClientServer
from exkiq.session import NodeSession, Runner

NAME = "local"


class Rooms:
    """A house and what works in it, on one loop.

    `new_queues` is called with the queues that turned up, within the turn in which they did.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        next_pid: Callable[[], bytes],
        new_queues: Callable[[list[str]], None],
        book: Book | None = None,
        machine: Machine | None = None,
    ) -> None:
        self._loop, self._clock, self._pid = loop, clock, next_pid
        self._new_queues = new_queues
        self._known: set[str] = set()
        self._sessions: list[NodeSession] = []
        self._wake: asyncio.TimerHandle | None = None
        self._is_over = False
        self.house = LocalHouse(clock, NAME, loop.call_soon, book, machine)
        settings = AggregatorSettings(NAME, next_pid, node_timeout=math.inf)
        self._aggregator = Aggregator(lambda: self.house.machine, settings, clock)
        self._aggregator.begin(TERM)
        self.house.accompany(self)
        if self.machine.schema < schemas.SCHEMA:  # there is no other member to wait for
            self.house.propose_nowait(commands.schema(next_pid(), schemas.SCHEMA))
        self.server = ClientServer(self.house, dict, _NoCluster(), clock, self._progress_of)

    @property
    def machine(self) -> Machine:
        return self.house.machine

    def add(self, name: str, runner: Runner, queues: Iterable[str]) -> NodeSession:
        """Have these queues run by `runner`, whose reports go to the session that comes back."""
        demand = partial(self._demand, name)
        session = NodeSession(name, self._pid().hex(), self.house, self._pid, demand)
        self._sessions.append(session)
        self.house.subscribe(session.applied)
        session.begin(self._loop, runner, dict.fromkeys(queues, 1), NAME)
        return session

    def _demand(self, name: str, message: list[Any]) -> None:
        self._aggregator.demand(name, message)
        self.house.turn_soon()

    def _progress_of(self, job_id: str) -> bytes | None:
        told = (session.headway.of(job_id) for session in self._sessions)
        return next((said for said in told if said is not None), None)

    # ---- as the companion of the house -----------------------------------------------------------

    def before_flush(self, ops: list[bytes]) -> list[bytes]:
        return self._aggregator.before_flush(ops)

    def applied(self, applied: Applied) -> None:
        self._aggregator.applied(applied)
        if len(self.machine.queues) > len(self._known):
            self._look_for_queues()

    def _look_for_queues(self) -> None:
        new = [name for name in self.machine.queues if name not in self._known]
        self._known.update(new)
        if new:
            self._new_queues(new)

    def wants_flush(self) -> bool:
        if self._is_over:
            return False
        wants = self._aggregator.wants_flush()
        self._wake_at(self._aggregator.next_wake())
        return wants

    def _wake_at(self, when: float | None) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if when is not None:
            delay = max(0.0, when - self._clock.monotonic())
            self._wake = self._loop.call_later(delay, self.house.turn)

    # ---- the end ---------------------------------------------------------------------------------

    def stop_taking(self) -> None:
        """Start no more jobs."""
        for session in self._sessions:
            session.stop_taking()

    async def stop(self) -> int:
        """Be over, once the runners have drained; how many jobs are left."""
        self.stop_taking()
        for session in self._sessions:
            session.end()
        self.house.turn()
        self._is_over = True
        if self._wake is not None:
            self._wake.cancel()
        await self.server.stop()
        counts = self.machine.counts()
        return sum(counts[state] for state in ("queued", "scheduled", "retry"))


class _NoCluster:
    """In place of what an operator asks of a cluster."""

    async def cluster_remove(self, name: str, force: bool) -> None:  # noqa: ARG002
        raise UnsupportedOperation("a local queue has no members")

    async def cluster_leave(self) -> None:
        raise UnsupportedOperation("a local queue has no members")

    async def cluster_transfer(self, name: str | None) -> None:  # noqa: ARG002
        raise UnsupportedOperation("a local queue has no leader to choose")
