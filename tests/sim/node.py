"""One whole node on virtual ground: the rooms of a member, as `exkiq.participant` wires them.

A node whose disk names no cluster asks to be taken in, as `exkiq.discovery.joining` does, and
gets its rooms when it is told the members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Protocol

from exkiq import errors
from exkiq.aggregator import Aggregator
from exkiq.config import Settings
from exkiq.discovery import Member, Membership
from exkiq.errors import NotRunning, Unavailable
from exkiq.machine import Applied, Machine
from exkiq.machine.outcomes import Refused
from exkiq.operation_ids import OperationIds
from exkiq.participant import Ground as MemberGround
from exkiq.participant import Participant
from exkiq.peering import Peering
from exkiq.raft import Journal
from exkiq.wire.hello import Hello
from exkiq.wire.messages import Kind
from tests.sim.clock import Host
from tests.sim.disk import Disk
from tests.sim.network import Network
from tests.sim.pool import PretendPool
from tests.sim.violation import Violation

ASK_SECONDS = 0.5
CLUSTER = "simulated"
QUEUES = {"default": 2, "mail": 1}


class Watcher(Protocol):
    """Who looks at nodes from outside."""

    def applied(self, node: SimNode, applied: Applied) -> None: ...
    def installed(self, node: SimNode) -> None: ...
    def leadership(self, node: SimNode) -> None: ...
    def failed(self, node: SimNode, error: BaseException) -> None: ...
    def hello(self, name: str) -> Hello: ...


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
    snapshot_seconds: float


class SimLink:
    """A link as the rooms see it."""

    def __init__(self, network: Network, own: str, hello: Hello) -> None:
        self._network, self._own, self.peer = network, own, hello

    def send(self, message: list[Any]) -> bool:
        return self._network.send(self._own, self.peer.name, message)

    @property
    def last_heard(self) -> float:
        return dict(self._network.last_heard(self._own)).get(self.peer.name, 0.0)


@dataclass
class _Folder:
    """What a member asks of its data folder."""

    journal: Journal
    incarnation: str


class Asking:
    """What discovery does for a node that was started without a cluster."""

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self._leader = ""

    def link_up(self, _: object) -> None: ...
    def link_changed(self, _: object) -> None: ...
    def link_down(self, _: object) -> None: ...
    def sight(self, _: Iterable[Member]) -> None: ...

    def message(self, _: object, message: list[Any]) -> bool:
        if self._node.rooms is not None:
            return False
        match message:
            case [Kind.WELCOME, _, list(members)]:
                self._node.welcome(members)
            case [Kind.NOT_LEADER, leader, _]:
                self._leader = leader or ""
        return True

    def ask(self) -> None:
        """Again and again, until a leader takes us in."""
        node = self._node
        if node.rooms is not None:
            return
        node.host.call_later(ASK_SECONDS, self.ask)
        founded = [name for name in sorted(node.links) if node.links[name].peer.cluster_id]
        if founded:
            name = self._leader if self._leader in founded else node.ground.chance.choice(founded)
            self._leader = ""
            node.links[name].send([int(Kind.JOIN), node.name, node.disk.incarnation, node.name])


class Door:
    """A client's link to a node: requests in, answers out."""

    def __init__(self) -> None:
        self.on_message: Callable[[Any, list[Any]], None]
        self.on_close: Callable[[Any, str], None]
        self._asked: dict[int, Callable[[Any], None]] = {}
        self._count = 0

    def ask(self, request: list[Any], tell: Callable[[Any], None]) -> None:
        self._count += 1
        self._asked[self._count] = tell
        self.on_message(self, [self._count, *request])

    def send(self, message: list[Any]) -> bool:
        match message:
            case [int(rid), 0, answer] if rid in self._asked:
                self._asked.pop(rid)(answer)
            case [int(rid), 1, kind, text]:
                error = getattr(errors, kind)
                is_refused = issubclass(error, errors.Refused)
                self._asked.pop(rid)(Refused(kind, text) if is_refused else error(text))
        return True

    def close(self, _: str) -> None: ...

    async def wait_closed(self) -> None: ...


class _NotYet:
    """In place of the replica of a node that is no member."""

    def __init__(self, journal: Journal) -> None:
        self.journal, self.machine = journal, Machine()
        self.is_leader, self.leader = False, None
        self.term = self.commit_index = self.applied_index = 0
        self.voters: frozenset[str] = frozenset()
        self._loop: object = None


class _Rooms(Participant):
    """A participant that is looked at before it is told."""

    def __init__(self, node: SimNode, ground: MemberGround, membership: Membership) -> None:
        self._sim, self._watcher = node, node.ground.watcher
        super().__init__(ground, membership)

    def applied(self, applied: Applied) -> None:
        self._watcher.applied(self._sim, applied)
        super().applied(applied)
        if self.aggregator.failures:
            raise Violation("stop", f"{self.name}: a bug in the aggregator, which started anew")

    def installed(self) -> None:
        self._watcher.installed(self._sim)
        super().installed()

    def leadership(self, leader: str | None, term: int) -> None:
        self._watcher.leadership(self._sim)
        super().leadership(leader, term)


class SimNode:
    """One life of one node."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.host, self.name, self.disk = ground.host, ground.host.name, ground.disk
        entropy = f"{self.name}{self.host.life:04}".encode()[-6:]
        self.ids = OperationIds(lambda _: entropy.rjust(6, b"-"))
        self.run_id = f"{self.name}-{self.host.life}"
        self.links: dict[str, SimLink] = {}
        self.peering = Peering(lambda: self.links)  # type: ignore[arg-type,return-value]
        self._asking = Asking(self)
        self.peering.discovery = self._asking  # type: ignore[assignment]
        self.replica: Any = _NotYet(ground.journal)
        self.rooms: Participant | None = None
        self._door = Door()
        if self.disk.members:
            self._build()

    def leave_files(self) -> None:
        """What the system does with the files of a process that is gone."""
        self.replica.journal.abandon()
        if self.rooms is not None:
            self.rooms.replica.snapshots.forget()

    def begin(self) -> None:
        if self.rooms is not None:
            self.rooms.begin(QUEUES)
        else:
            self._asking.ask()

    def _build(self) -> None:
        """The rooms of a member. Errors: DataError when something on the disk is damaged."""
        disk, host = self.disk, self.host
        ground = MemberGround(
            loop=host,  # type: ignore[arg-type]
            settings=Settings(name=self.name, cluster=CLUSTER, data_dir=disk.folder),
            clock=host,
            folder=_Folder(self.ground.journal, disk.incarnation),  # type: ignore[arg-type]
            pool=self.pool,  # type: ignore[arg-type]
            peering=self.peering,
            discovery=self._asking,  # type: ignore[arg-type]
            links=lambda: self.links,  # type: ignore[arg-type,return-value]
            ids=self.ids,
            run_id=self.run_id,
            address=self.name,
            work=self,  # type: ignore[arg-type]
            chance=self.ground.chance.random,
            failed=self._failed,
            leave=lambda why: self._failed(NotRunning(why)),
        )
        members = tuple(Member(name, name, incarnation) for name, incarnation in disk.members)
        self.rooms = _Rooms(self, ground, Membership(CLUSTER, members, False, disk.has_joined))
        self.replica = self.rooms.replica
        self.pool.report = self.rooms.session.report
        self.rooms.server.adopt(self._door)

    def _failed(self, error: BaseException) -> None:
        self.ground.watcher.failed(self, error)

    @property
    def pool(self) -> PretendPool:
        return self.ground.pool

    @property
    def aggregator(self) -> Aggregator:
        if self.rooms is None:
            raise AssertionError(f"{self.name} is no member yet")
        return self.rooms.aggregator

    @property
    def hello(self) -> Hello:
        cluster_id = CLUSTER if self.disk.members else ""
        role = "member" if cluster_id else "fresh"
        incarnation = self.disk.incarnation
        return Hello(role, self.name, self.run_id, incarnation, self.name, CLUSTER, cluster_id)

    def submit(self, write: Callable[[], bytes | None]) -> Future[bytes | None]:
        """The snapshot thread: done a while later, if the process still lives."""
        future: Future[bytes | None] = Future()

        def done() -> None:
            try:
                future.set_result(write())
            except OSError as error:
                future.set_exception(error)

        seconds = self.ground.snapshot_seconds * self.ground.chance.random()
        self.host.call_later(seconds, done)
        return future

    # ---- peers -------------------------------------------------------------------------------

    def link_up(self, peer: str) -> None:
        link = SimLink(self.ground.network, self.name, self.ground.watcher.hello(peer))
        self.links[peer] = link
        self.peering.link_up(link)  # type: ignore[arg-type]

    def link_down(self, peer: str) -> None:
        link = self.links.pop(peer, None)
        if link is not None:
            self.peering.link_down(link, "")  # type: ignore[arg-type]

    def deliver(self, peer: str, message: list[Any]) -> None:
        link = self.links.get(peer)
        if link is None:
            return
        if message[0] == Kind.HELLO:
            link.peer = replace(link.peer, cluster_id=message[1])
            self.peering.link_changed(link)  # type: ignore[arg-type]
        else:
            self.peering.message(link, message)  # type: ignore[arg-type]

    def welcome(self, members: list[list[str]]) -> None:
        """A cluster took this node in, with these members."""
        self.disk.members = tuple((name, incarnation) for name, _, incarnation in members)
        self.disk.has_joined = True
        self._build()
        for link in self.links.values():
            link.send([int(Kind.HELLO), CLUSTER])
        self.begin()

    # ---- clients -----------------------------------------------------------------------------

    def ask(self, op: bytes, timeout: float, tell: Callable[[Any], None]) -> None:
        """A client's request; `tell` gets the answer, the refusal or the error."""
        if self.rooms is None:
            tell(Unavailable(f"node {self.name} is not ready"))
        else:
            self._door.ask(["propose", op, round(timeout * 1000)], tell)
