"""Every room of a node, built and wired; the order of start and of drain.

Start:  data folder, children with the APP, the door, the cluster, Raft, the queue, the session.
Drain:  take no more, give the lead away, let jobs end, hand back the rest, be over, close.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from random import Random
from typing import Any

from exkiq.aggregator import Aggregator
from exkiq.aggregator import Settings as AggregatorSettings
from exkiq.clock import SystemClock
from exkiq.config import Settings, split_address
from exkiq.discovery import (
    Discovery,
    FileFoundingStore,
    Member,
    Membership,
    MemoryFoundingStore,
    Search,
)
from exkiq.discovery.admission import Admission
from exkiq.errors import Unavailable
from exkiq.governance import Governance
from exkiq.links import Listener, Mesh
from exkiq.machine import Applied, MemberChange, commands
from exkiq.operation_ids import OperationIds
from exkiq.peering import Peering
from exkiq.pool import Pool, Report
from exkiq.queues.replicated import ReplicatedHouse
from exkiq.raft import DataFolder, Replica, ReplicaSettings
from exkiq.rendezvous import make_runtime_folder, socket_path
from exkiq.server import ClientServer
from exkiq.service import Tasks
from exkiq.session import NodeSession
from exkiq.status import status_map
from exkiq.telemetry import log
from exkiq.wire.hello import Hello

LOADER = "exkiq.task:load_app"
BEAT_SECONDS = 0.25  # what peers are told of us, and what the aggregator is told of them
SETTLE_SECONDS = 2.0  # for the last operations of a stopping node to be applied
DEFAULT_QUEUE = "default"


class Assembly:
    """One running node.

    Duties: build the rooms in order and hand each what it needs; tell them what happens to the
    log and to leadership; take them down in order.

    `failed(error)` is called once when the node cannot go on: a disk that refuses, a bug.
    """

    def __init__(self, settings: Settings, failed: Callable[[BaseException], None]) -> None:
        self.settings = settings
        self.name = settings.name
        self.clock = SystemClock()
        self.is_ready = False
        self._failed = failed
        self._ids = OperationIds(os.urandom)
        self._run_id = secrets.token_hex(8)
        self._tasks = Tasks(lambda _, error: failed(error))
        self._work: Executor = ThreadPoolExecutor(1, thread_name_prefix="exkiq-snapshot")
        self._cluster_id = ""
        self._was_leading = False
        self._said_address = False
        self._wake: asyncio.TimerHandle | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._ready = asyncio.Event()
        self._is_stopped = False

    # ---- start -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Build everything; returns when the node takes part in its cluster.

        Errors: ConfigError, DataError: each names the thing and the way out.
        """
        self.loop = asyncio.get_running_loop()
        settings = self.settings
        self.folder = DataFolder(
            settings.folder, settings.name, settings.cluster, secrets.token_hex(8)
        )
        self.pool = Pool(
            settings.app,
            LOADER,
            settings.processes,
            settings.concurrency,
            self._report,
            self.clock,
            tuple(sys.path),
            os.getcwd(),  # noqa: PTH109 - a plain string for the children
        )
        await self.pool.start()
        await self._open_door()
        self._join(await self._settle())
        self._begin()

    async def _open_door(self) -> None:
        secret, clock = self.settings.secret, self.clock
        self.mesh = Mesh(
            self._hello,
            secret,
            clock=clock,
            nonce=os.urandom,
            jitter=Random().random,  # noqa: S311 - spreads redials, keeps no secret
            on_up=lambda link: self.peering.link_up(link),
            on_down=lambda link, why: self.peering.link_down(link, why),
            on_message=lambda link, message: self.peering.message(link, message),
            on_changed=lambda link: self.peering.link_changed(link),
        )
        self.peering = Peering(lambda: self.mesh.links)
        self.listener = Listener(
            self._hello,
            secret,
            clock=clock,
            nonce=os.urandom,
            on_client=self._client,
            on_peer=self.mesh.adopt,
        )
        await self.listener.start(*split_address(self.settings.bind))
        make_runtime_folder(self.settings.cluster)
        self.listener.start_unix(socket_path(self.settings.cluster, self.name))

    async def _settle(self) -> Membership:
        settings, folder = self.settings, self.settings.folder
        search = Search(
            own=Member(self.name, self.listener.address, self.folder.incarnation),
            cluster=settings.cluster,
            expect=settings.bootstrap_expect,
            join_wait=settings.join_wait,
            peers=settings.peers,
            mdns=settings.mdns,
            interfaces=settings.interfaces,
            secret=settings.secret,
        )
        self.discovery = Discovery(
            search,
            mesh=self.mesh,
            store=MemoryFoundingStore() if folder is None else FileFoundingStore(folder),
            clock=self.clock,
            new_id=lambda: secrets.token_hex(8),
        )
        self.peering.discovery = self.discovery
        return await self.discovery.settle()

    def _join(self, membership: Membership) -> None:
        """Raft and the queue on it; from here on this node is a member."""
        self._cluster_id = membership.cluster_id
        self._membership = membership
        names = tuple(member.name for member in membership.members)
        self.replica = Replica(
            ReplicaSettings(self.name, self._cluster_id, names, self.settings.folder),
            self.folder.journal,
            self,
            self.peering.send,
            self.clock,
            self._work.submit,
        )
        self.house = ReplicatedHouse(self.replica)
        self.aggregator = Aggregator(
            lambda: self.replica.machine,
            AggregatorSettings(self.name, self._ids, node_timeout=self.settings.node_timeout),
            self.clock,
        )
        self.admission = Admission(self.replica, self._cluster_id, self.peering.send)
        self.session = NodeSession(
            self.name, self._run_id, self.house, self._ids, self.peering.tell_leader
        )
        self.governance = Governance(self.replica, self.admission, self.peering)
        self.server = ClientServer(self.house, self.status, self.governance, self.clock)
        self.peering.join(self._cluster_id, self.replica, self.aggregator, self.admission)

    def _begin(self) -> None:
        self.replica.start(self.loop)
        self.mesh.announce()
        self.house.subscribe(self.session.applied)
        self.house.subscribe(self.aggregator.applied)
        if self.settings.concurrency:
            self.session.begin(self.loop, self.pool, self._queues(), self.listener.address)
            self.house.propose_nowait(commands.declare(self._ids(), sorted(self._queues())))
        self._tell_peers()

    def _report(self, report: Report) -> None:
        if self._cluster_id:  # before that the pool can only say that it has room
            self.session.report(report)

    def _queues(self) -> dict[str, int]:
        if self.settings.queues:
            return dict(self.settings.queues)
        return dict.fromkeys((*self.pool.queues, DEFAULT_QUEUE), 1)

    def _hello(self) -> Hello:
        return Hello(
            role="member" if self._cluster_id else "fresh",
            name=self.name,
            run_id=self._run_id,
            incarnation=self.folder.incarnation,
            address=self.listener.address,
            cluster=self.settings.cluster,
            cluster_id=self._cluster_id,
        )

    def _client(self, link: Any) -> None:
        if hasattr(self, "server"):
            self.server.adopt(link)
        else:
            link.close(f"not ready: {self.discovery.waits_for}")

    # ---- what the replica tells --------------------------------------------------------------

    def applied(self, applied: Applied) -> None:
        self.house.applied(applied)
        if not self.is_ready:
            self._look_whether_ready()

    def installed(self) -> None:
        self.session.installed()
        self.server.installed()

    def leadership(self, _: str | None, term: int) -> None:
        is_leading = self.replica.is_leader
        if is_leading:
            self.aggregator.begin(term)
            self._found()
        else:
            self.aggregator.end()
        if is_leading != self._was_leading:
            self._was_leading = is_leading
            log.info("leads in term %d" if is_leading else "leads no more (term %d)", term)
        self._say_address()
        self.discovery.sight(
            Member(m.name, m.address, m.incarnation)
            for m in self.replica.machine.members.values()
        )
        self.session.demand_soon()
        self.server.members_changed(self._addresses())

    def before_flush(self, ops: list[bytes]) -> list[bytes]:
        return self.aggregator.before_flush(ops)

    def wants_flush(self) -> bool:
        wants = self.aggregator.wants_flush()
        self._wake_at(self.aggregator.next_wake())
        return wants

    def member_appended(self, change: MemberChange) -> None:
        self.admission.appended(change)

    def failed(self, error: BaseException) -> None:
        log.critical("cannot go on: %s", error, exc_info=error)
        self._failed(error)

    def _found(self) -> None:
        """The first words in the log of a cluster: its id and the members it began with."""
        if not self.replica.machine.cluster_id:
            rows = [(m.name, m.address, m.incarnation) for m in self._membership.members]
            op = commands.found(self._ids(), self._cluster_id, rows)
            self.house.propose_nowait(op)

    def _say_address(self) -> None:
        member = self.replica.machine.members.get(self.name)
        if member is None or self._said_address or self.replica.leader is None:
            return
        self._said_address = True
        if member.address != self.listener.address:
            op = commands.address(self._ids(), self.name, self.listener.address)
            self.house.propose_nowait(op)

    def _look_whether_ready(self) -> None:
        machine = self.replica.machine
        is_in = self.name in machine.members
        if is_in and (self.session.id or not self.settings.concurrency):
            self.is_ready = True
            self._ready.set()
            self.leadership(self.replica.leader, self.replica.term)
            log.info("ready: %s of cluster %r", self.listener.address, self.settings.cluster)

    async def wait_ready(self) -> None:
        """Return when this node is a member and may be given jobs."""
        await self._ready.wait()

    # ---- time --------------------------------------------------------------------------------

    def _wake_at(self, when: float | None) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if when is not None:
            delay = max(0.0, when - self.clock.monotonic())
            self._wake = self.loop.call_later(delay, self.replica.wake)

    def _tell_peers(self) -> None:
        self._beat = self.loop.call_later(BEAT_SECONDS, self._tell_peers)
        self.peering.tell_applied()
        self.peering.heard()

    # ---- for clients -------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The map behind `exkiq status`."""
        return status_map(
            self.replica,
            self.settings.cluster,
            self.mesh.links.keys(),
            self.peering.applied,
            self.clock.now_ms(),
        )

    def _addresses(self) -> list[str]:
        """Where clients may go, this node first."""
        members = self.replica.machine.members.values()
        return [self.listener.address, *(m.address for m in members if m.name != self.name)]

    # ---- drain -------------------------------------------------------------------------------

    async def drain(self, timeout: float) -> None:
        """Stop in order: no job is lost, none is counted as failed, the lead changes at once."""
        if hasattr(self, "session"):
            self.session.stop_taking()
            await self._give_lead_away()
            await self.pool.drain(timeout)
            self.session.end()
            await self._until_told()
            if self.settings.leave_on_stop:
                await self._leave()
        await self.stop()

    async def _give_lead_away(self) -> None:
        if not self.replica.is_leader or not self.mesh.links:
            return
        try:
            await self.governance.cluster_transfer(None)
        except Unavailable as error:
            log.info("stops as leader: %s", error)

    async def _until_told(self) -> None:
        """Until everything this node had to say is in the log."""
        end = self.clock.monotonic() + SETTLE_SECONDS
        while self.replica.waiting and self.clock.monotonic() < end:
            await asyncio.sleep(0.01)
        if self.replica.waiting:
            log.warning("stops with %d operations unanswered", self.replica.waiting)

    async def _leave(self) -> None:
        if len(self.replica.voters) == 1:
            counts = self.replica.machine.counts()
            left = sum(counts[state] for state in ("queued", "scheduled", "retry"))
            if left and self.settings.folder is None:
                log.warning("the last member stops and nothing is on disk: %d jobs are lost", left)
            return
        try:
            await self.governance.cluster_leave()
        except Unavailable as error:
            log.warning("%s", error)

    async def stop(self) -> None:
        """Close everything at once. May be called twice, or after a start that failed."""
        if self._is_stopped:
            return
        self._is_stopped = True
        for timer in (self._wake, self._beat):
            if timer is not None:
                timer.cancel()
        for name in ("server", "listener", "discovery", "mesh", "pool"):
            room = getattr(self, name, None)
            if room is not None:
                await room.stop()
        if hasattr(self, "replica"):
            self.replica.stop()
        await self._tasks.stop()
        self._work.shutdown(wait=True)
        if hasattr(self, "folder"):
            self.folder.close()
