"""What the aggregator knows and does during one leadership; thrown away at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from exkiq.aggregator.claims import Plan, has_claims, plan
from exkiq.aggregator.demand import Demand, Room
from exkiq.aggregator.fairness import Fairness
from exkiq.aggregator.parking import RELEASE_MAX, Parking
from exkiq.aggregator.reaper import Reaper
from exkiq.aggregator.seating import Seatings
from exkiq.aggregator.timekeeper import Timekeeper
from exkiq.aggregator.unserved import Unserved
from exkiq.clock import Clock
from exkiq.dispatchers import Dispatcher, LRUNode
from exkiq.errors import RemoteWireError
from exkiq.machine import Applied, Machine, commands
from exkiq.telemetry import log
from exkiq.wire.messages import COMMON

_OF_SESSIONS = frozenset({commands.Op.SESSION_BEGIN, commands.Op.SESSION_OVER})

REFUSED_REST_S = 0.05
"""After a claim of waiting jobs that came to nothing: planning it again at once would spin."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`node` is our own name; `pid` makes the ids of operations; times in seconds.

    Shapes: `dispatchers` makes those of queues that have one of their own, by queue; queues with
            the same maker share one.
    """

    node: str
    pid: Callable[[], bytes]
    make_dispatcher: Callable[[], Dispatcher] = LRUNode
    dispatchers: Mapping[str, Callable[[], Dispatcher]] = field(default_factory=dict)
    node_timeout: float = 2.0


class Leadership:
    """The leader's part while it leads.

    Duties:
      1. Hear demand and signs of life.
      2. Add to each entry what the leader has to say: sessions that are over, that time has
         passed, claims, jobs that no node can run.
      3. Follow what was applied.
      4. Say when it wants an entry of its own, and when to be asked again.
    """

    def __init__(self, machine: Callable[[], Machine], settings: Settings, clock: Clock) -> None:
        self._machine = machine
        self._pid = settings.pid
        self._clock = clock
        self._demand = Demand()
        self._fairness = Fairness()
        self._seatings = Seatings(settings.make_dispatcher, settings.dispatchers, clock)
        self._parking = Parking(clock)
        self._timekeeper = Timekeeper(clock)
        self._reaper = Reaper(clock, settings.node, settings.node_timeout)
        self._unserved = Unserved(clock)
        self._claims_in_flight: dict[bytes, bool] = {}
        self._rest_until = clock.monotonic()
        self._is_stirred = True

    def heard(self, node: str, at: float | None) -> None:
        self._reaper.heard(node, self._clock.monotonic() if at is None else at)

    def demand(
        self,
        node: str,
        session: int,
        seen_total: int,
        free: Mapping[str, int],
        queues: Mapping[str, int],
        unable: Sequence[str],
    ) -> None:
        self.heard(node, None)
        self._demand.hear(node, session, seen_total, free, queues, unable)
        self._is_stirred = True

    def tree(self) -> dict[str, Any]:
        """What it goes by, for people: free slots of each node, and the dispatchers."""
        rooms = self._demand.rooms(self._machine())
        return {
            "nodes": {room.node: {COMMON: room.free, **room.pools} for room in rooms},
            "dispatchers": self._seatings.names(),
        }

    def before_flush(self, ops: list[bytes]) -> list[bytes]:
        machine = self._machine()
        extra = self._sessions_over(machine)
        if self._timekeeper.is_due(machine):
            pid = self._pid()
            self._timekeeper.proposed(pid)
            extra.append(commands.due(pid))
        return extra + self._of_jobs(machine, ops)

    def _of_jobs(self, machine: Machine, ops: list[bytes]) -> list[bytes]:
        if self._is_resting:
            return []
        # a claim for a session that ends in the same entry is refused, and others overtake
        gone, moves = changes_by(ops)
        rooms = [room for room in self._demand.rooms(machine) if room.node not in gone]
        claims, unknown = self._plan(machine, ops, rooms, moves)
        extra = []
        if claims:
            pid = self._pid()
            self._demand.proposed(pid, claims)
            self._claims_in_flight[pid] = not ops
            extra.append(commands.claim(pid, claims))
        if unknown:
            self._parking.put_aside(unknown)
            extra += [commands.park(self._pid(), task, ids) for task, ids in unknown.items()]
        for task in self._parking.releases(machine, rooms):
            self._parking.released(task)
            extra.append(commands.unpark(self._pid(), task, RELEASE_MAX))
        return extra

    def applied(self, applied: Applied) -> None:
        for node, session in applied.over:
            self._demand.forget(node, session)
            self._reaper.over(node)
        for node, _ in applied.begun:
            self._reaper.begun(node)
        self._is_stirred = True
        # Ours are the last of an entry: look from the end, and no further than needed.
        for pid, answer in reversed(applied.results):
            if not self._claims_in_flight and not self._timekeeper.is_in_flight:
                break
            self._timekeeper.applied(self._machine(), pid)
            self._claim_applied(pid, answer)

    def wants_flush(self) -> bool:
        machine = self._machine()
        if self._unserved.is_due:
            rooms = self._demand.rooms(machine)
            self._unserved.look(machine, {queue for room in rooms for queue in room.queues})
        return (
            self._timekeeper.is_wanted(machine)
            or self._has_claims(machine)
            or (self._reaper.is_due and bool(self._reaper.silent(machine.sessions)))
        )

    def next_wake(self) -> float | None:
        machine = self._machine()
        wakes = [
            self._timekeeper.next_wake(machine),
            self._reaper.next_wake(machine.sessions),
            self._rest_end() if self._is_stirred else None,
            self._unserved.next_look if machine.queues else None,
        ]
        return min((wake for wake in wakes if wake is not None), default=None)

    def _sessions_over(self, machine: Machine) -> list[bytes]:
        over = []
        for session in self._reaper.silent(machine.sessions):
            if session.node in machine.members:
                log.warning("%s is silent; what it ran is handed out again", session.node)
            else:
                log.info("%s left; what it still ran is handed out again", session.node)
            self._reaper.proposed(session.node, session.id)
            self._demand.forget(session.node, session.id)
            pid = self._pid()
            over.append(commands.session_over(pid, session.node, session.id, is_orderly=False))
        return over

    def _plan(
        self, machine: Machine, ops: list[bytes], rooms: list[Room], moves: set[tuple[str, str]]
    ) -> Plan:
        now_ms = max(machine.now_ms, self._clock.now_ms())
        planned = plan(machine, ops, now_ms, rooms, self._seatings, self._fairness, moves)
        # a dispatcher that crashed: plan again after its rest
        self._is_stirred = self._seatings.is_resting
        return planned

    def _claim_applied(self, pid: bytes, answer: object) -> None:
        is_alone = self._claims_in_flight.pop(pid, None)
        if is_alone is None:
            return
        self._demand.applied(pid)
        is_in_vain = type(answer) is not int or answer == 0
        if is_alone and is_in_vain:
            log.warning("a claim of waiting jobs came to nothing: %s", answer)
            self._rest_until = self._clock.monotonic() + REFUSED_REST_S

    def _has_claims(self, machine: Machine) -> bool:
        if not self._is_stirred or self._is_resting:
            return False
        rooms = self._demand.rooms(machine)
        has = has_claims(machine, rooms, self._seatings)
        has = has or bool(self._parking.releases(machine, rooms))
        self._is_stirred = has or self._seatings.is_resting
        return has

    @property
    def _is_resting(self) -> bool:
        return self._clock.monotonic() < self._rest_until

    def _rest_end(self) -> float | None:
        return self._rest_until if self._is_resting else self._seatings.rest_end()


def changes_by(ops: list[bytes]) -> tuple[set[str], set[tuple[str, str]]]:
    """What these operations change: the nodes whose sessions begin or end, and the jobs that
    move, with the queue that each is to go to."""
    nodes: set[str] = set()
    moves: set[tuple[str, str]] = set()
    for op in ops:
        code = commands.peek_code(op)
        if code not in _OF_SESSIONS and code != commands.Op.MOVE:
            continue
        try:
            match commands.decode_op(op):
                case [commands.Op.MOVE, _, str(job_id), str(queue)]:
                    moves.add((job_id, queue))
                case [_, _, str(node), *_] if code in _OF_SESSIONS:
                    nodes.add(node)
        except RemoteWireError:
            continue  # the machine refuses it
    return nodes, moves
