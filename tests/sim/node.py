"""One whole node on virtual ground: the rooms of a member, wired as `exkiq.participant` does."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from exkiq.aggregator import Aggregator
from exkiq.aggregator import Settings as AggregatorSettings
from exkiq.errors import ExkiqError
from exkiq.machine import Applied, MemberChange, commands
from exkiq.operation_ids import OperationIds
from exkiq.queues.replicated import ReplicatedHouse
from exkiq.raft import Journal, Replica, ReplicaSettings
from exkiq.session import NodeSession
from exkiq.wire.messages import Kind
from tests.sim.clock import Handle, Host
from tests.sim.disk import Disk
from tests.sim.network import Network
from tests.sim.pool import PretendPool

BEAT_SECONDS = 0.25
CLUSTER = "simulated"
QUEUES = {"default": 2, "mail": 1}


class Watcher(Protocol):
    """Who looks at nodes from outside."""

    def applied(self, node: SimNode, applied: Applied) -> None: ...
    def installed(self, node: SimNode) -> None: ...
    def leadership(self, node: SimNode) -> None: ...
    def failed(self, node: SimNode, error: BaseException) -> None: ...


@dataclass
class Ground:
    """What a node stands on."""

    host: Host
    disk: Disk
    journal: Journal
    network: Network
    pool: PretendPool
    watcher: Watcher
    chance: Random
    members: tuple[str, ...]
    snapshot_seconds: float


class SimNode:
    """One life of one node."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.host, self.name, self.disk = ground.host, ground.host.name, ground.disk
        entropy = f"{self.name}{self.host.life:04}".encode()[-6:]
        self.ids = OperationIds(lambda _: entropy.rjust(6, b"-"))
        self.run_id = f"{self.name}-{self.host.life}"
        self.replica = Replica(
            ReplicaSettings(self.name, CLUSTER, ground.members, ground.disk.folder),
            ground.journal,
            self,
            self._send,
            self.host,
            self._work,
            ground.chance.random,
        )
        self.house = ReplicatedHouse(self.replica)
        self.aggregator = Aggregator(
            lambda: self.replica.machine, AggregatorSettings(self.name, self.ids), self.host
        )
        self.session = NodeSession(self.name, self.run_id, self.house, self.ids, self._tell_leader)
        ground.pool.report = self.session.report
        self._wake: Handle | None = None

    def begin(self) -> None:
        self.house.subscribe(self.session.applied)
        self.house.subscribe(self.aggregator.applied)
        self.replica.start(self.host)  # type: ignore[arg-type]
        self.session.begin(self.host, self._ground.pool, QUEUES, self.name)  # type: ignore[arg-type]
        self.house.propose_nowait(commands.declare(self.ids(), sorted(QUEUES)))
        self._beat()

    @property
    def pool(self) -> PretendPool:
        return self._ground.pool

    # ---- what the replica tells --------------------------------------------------------------

    def applied(self, applied: Applied) -> None:
        self._ground.watcher.applied(self, applied)
        self.house.applied(applied)

    def installed(self) -> None:
        self._ground.watcher.installed(self)
        self.session.installed()

    def leadership(self, _: str | None, term: int) -> None:
        self._ground.watcher.leadership(self)
        if self.replica.is_leader:
            self.aggregator.begin(term)
            self._found()
        else:
            self.aggregator.end()
        self.session.demand_soon()

    def before_flush(self, ops: list[bytes]) -> list[bytes]:
        return self.aggregator.before_flush(ops)

    def wants_flush(self) -> bool:
        wants = self.aggregator.wants_flush()
        self._wake_at(self.aggregator.next_wake())
        return wants

    def member_appended(self, change: MemberChange) -> None: ...

    def failed(self, error: BaseException) -> None:
        self._ground.watcher.failed(self, error)

    def _found(self) -> None:
        if not self.replica.machine.cluster_id:
            rows = [(name, name, name) for name in self._ground.members]
            self.house.propose_nowait(commands.found(self.ids(), CLUSTER, rows))

    def _wake_at(self, when: float | None) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if when is not None:
            delay = max(0.0, when - self.host.monotonic())
            self._wake = self.host.call_later(delay, self.replica.wake)

    def _work(self, write: Callable[[], bytes | None]) -> Future[bytes | None]:
        """The snapshot thread: done a while later, if the process still lives."""
        future: Future[bytes | None] = Future()

        def done() -> None:
            try:
                future.set_result(write())
            except OSError as error:
                future.set_exception(error)

        self.host.call_later(self._ground.snapshot_seconds * self._ground.chance.random(), done)
        return future

    # ---- peers -------------------------------------------------------------------------------

    def link_up(self, peer: str) -> None:
        self.replica.peer_up(peer)

    def link_down(self, peer: str) -> None:
        self.replica.peer_down(peer)

    def deliver(self, peer: str, message: list[Any]) -> None:
        if message[0] in (Kind.RAFT, Kind.PROPOSE):
            self.replica.receive(peer, message)
        elif message[0] == Kind.DEMAND:
            self.aggregator.demand(peer, message)
            self.replica.wake()

    def _send(self, to: str, message: list[Any]) -> bool:
        return self._ground.network.send(self.name, to, message)

    def _tell_leader(self, message: list[Any]) -> None:
        leader = self.replica.leader
        if leader == self.name:
            self.aggregator.demand(leader, message)
            self.replica.wake()
        elif leader is not None:
            self._send(leader, message)

    def _beat(self) -> None:
        self.host.call_later(BEAT_SECONDS, self._beat)
        if self.aggregator.is_active:
            for name, heard in self._ground.network.last_heard(self.name):
                self.aggregator.heard(name, heard)

    # ---- clients -----------------------------------------------------------------------------

    def ask(self, op: bytes, timeout: float, tell: Callable[[Any], None]) -> None:
        """A client's request; `tell` gets the answer, the refusal or the error."""
        try:
            self.house.propose_with(op, timeout, tell)
        except ExkiqError as error:
            tell(error)
