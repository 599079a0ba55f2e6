"""Every room of a node, built and wired; the order of start and of stop.

Start:  data folder, children with the APP, the door, the cluster, then the rooms of a member.
Stop:   the rooms of a member drain and close, then the door, the children, the data folder.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Protocol

from exkiq.clock import SystemClock
from exkiq.config import Settings, split_address
from exkiq.config.plugins import load_plugin
from exkiq.declarations import Declarations
from exkiq.discovery import (
    Discovery,
    FileFoundingStore,
    Member,
    Membership,
    MemoryFoundingStore,
    Search,
    island_of,
    should_yield,
)
from exkiq.dispatchers import Dispatcher, LRUNode
from exkiq.errors import ExkiqError, NotRunning, Unavailable
from exkiq.links import Link, Listener, Mesh
from exkiq.links.complaints import Complaints
from exkiq.local.hosting import Host
from exkiq.machine import schema as schemas
from exkiq.operation_ids import OperationIds
from exkiq.participant import Ground, Participant
from exkiq.peering import Peering
from exkiq.pool import Pool, Report
from exkiq.raft import DataFolder, unused_folder
from exkiq.rendezvous import make_runtime_folder, socket_path
from exkiq.service import Tasks
from exkiq.staffing import make_pool
from exkiq.telemetry import log
from exkiq.wire.hello import Hello, Role

Dispatchers = dict[str, Callable[[], Dispatcher]]  # queue -> how its own is made


def dispatchers_of(declarations: Declarations) -> Dispatchers:
    """How each queue's own dispatcher is made; queues that name the same share one.

    Errors: ConfigError for one that cannot be made.
    """
    makers: Dispatchers = {}
    shared: dict[str, Callable[[], Dispatcher]] = {}
    for queue, row in declarations.dispatchers.items():
        what = f"dispatcher of queue {queue!r}"
        maker = shared.setdefault(repr(row), partial(load_plugin, what, row, Dispatcher))  # type: ignore[type-abstract]
        if type(maker()) is not LRUNode:  # that one is the default, and quicker shared
            makers[queue] = maker
    return makers


class Room(Protocol):
    """What can be taken down; `stop` may be called twice."""

    async def stop(self) -> None: ...


class Assembly:
    """One running node.

    Duties: build the rooms in order and hand each what it needs; take them down in order.

    `failed(error)` is called once when the node cannot go on: a disk that refuses, a bug.
    `leave(why)` is called once when it was removed or told to go: it is to be drained.
    """

    def __init__(
        self,
        settings: Settings,
        failed: Callable[[BaseException], None],
        leave: Callable[[str], None],
    ) -> None:
        self.settings = settings
        self.address = ""
        self._failed, self._leave = failed, leave
        self._draining, self._is_drained = asyncio.Lock(), False
        self._tasks, self._is_yielding = Tasks(lambda _, error: failed(error)), False
        self._clock = SystemClock()
        self._run_id = ""
        self._chance = Random().random  # noqa: S311 - spreads waits, keeps no secret
        self._folder: DataFolder | None = None
        self._discovery: Discovery | None = None
        self._participant: Participant | None = None
        self._host: Host | None = None
        self._work: Executor = ThreadPoolExecutor(1, thread_name_prefix="exkiq-snapshot")
        self._rooms: list[Room] = []  # to stop, the newest first
        self._early: set[Link] = set()  # clients that came before this node was a member

    @property
    def participant(self) -> Participant:
        """The rooms of a member. Errors: NotRunning while this node is none."""
        if self._participant is None:
            raise NotRunning(f"node {self.settings.name} is no member yet")
        return self._participant

    def tree(self) -> dict[str, Any]:
        """The node with the parts that run in it, nested; see `Participant.tree`."""
        parts = {"node": self.settings.name, "address": self.address} | self.participant.tree()
        return parts if self._host is None else parts | self._host.tree()

    # ---- start -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Build everything; returns when the node takes part in its cluster.

        Errors: ConfigError, DataError: each names the thing and the way out.
        """
        settings = self.settings
        self._run_id = secrets.token_hex(8)
        folder = DataFolder(settings.folder, settings.name, settings.cluster, secrets.token_hex(8))
        self._folder = folder
        pool = await self._start_pool()
        declarations = pool.declarations.overridden(settings.queue_tables)
        dispatchers = await self._find_dispatchers(declarations)
        peering, mesh, listener = self._make_door(folder)
        await self._open_door(listener)
        discovery = self._make_discovery(folder, mesh)
        peering.discovery = discovery
        membership = await discovery.settle()
        folder.belongs_to(membership.cluster_id)
        ground = Ground(
            asyncio.get_running_loop(),
            settings,
            self._clock,
            folder,
            pool,
            peering,
            discovery,
            lambda: mesh.links,
            OperationIds(os.urandom),
            self._run_id,
            self.address,
            self._work,
            self._chance,
            self._failed,
            self._leave,
            dispatchers,
            self._make_host(declarations, peering),
        )
        self._take_part(ground, membership, declarations)
        mesh.announce()

    async def _start_pool(self) -> Pool:
        settings = self.settings
        pool = make_pool(
            settings,
            self._report,
            self._clock,
            processes=settings.processes,
            concurrency=settings.concurrency,
        )
        self._rooms.append(pool)
        await pool.start()
        return pool

    def _make_host(self, declarations: Declarations, peering: Peering) -> Host:
        """Who answers for local queues; its children, with all slots in one, start when needed."""
        settings = self.settings
        slots = settings.processes * settings.concurrency
        host = Host(
            settings.name,
            declarations.local_to(settings.name) if slots else (),
            peering,
            lambda report: make_pool(settings, report, self._clock, processes=1, concurrency=slots),
            self._clock,
            OperationIds(os.urandom),
        )
        self._rooms.append(host)
        self._host = host
        return host

    async def _find_dispatchers(self, declarations: Declarations) -> Dispatchers:
        """How the dispatcher of each queue that names one is made, should this node lead.

        Only what this node's own APP or settings say is imported; off the loop, since it is
        user code. Errors: ConfigError for one that cannot be made.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._work, dispatchers_of, declarations)

    def _report(self, report: Report) -> None:
        if self._participant is not None:  # before that the pool can only say that it has room
            self._participant.session.report(report)

    def _make_door(self, folder: DataFolder) -> tuple[Peering, Mesh, Listener]:
        secret, clock = self.settings.secret, self._clock
        complaints = Complaints(clock)  # one for both: a peer is warned of once
        peering = Peering(lambda: mesh.links)

        def hello() -> Hello:
            return self._hello(folder)

        mesh = Mesh(
            hello,
            secret,
            clock=clock,
            nonce=os.urandom,
            jitter=self._chance,
            on_up=peering.link_up,
            on_down=peering.link_down,
            on_message=peering.message,
            on_changed=peering.link_changed,
            on_stranger=self._met,
            complaints=complaints,
            certificates=self.settings.tls,
        )
        listener = Listener(
            hello,
            secret,
            clock=clock,
            nonce=os.urandom,
            on_client=self._client,
            on_peer=mesh.adopt,
            on_stranger=self._met,
            complaints=complaints,
            certificates=self.settings.tls,
        )
        self._rooms += [mesh, listener]
        return peering, mesh, listener

    async def _open_door(self, listener: Listener) -> None:
        self.address = await listener.start(*split_address(self.settings.bind))
        make_runtime_folder(self.settings.cluster)
        listener.start_unix(socket_path(self.settings.cluster, self.settings.name))

    def _make_discovery(self, folder: DataFolder, mesh: Mesh) -> Discovery:
        settings = self.settings
        search = Search(
            own=Member(settings.name, self.address, folder.incarnation),
            cluster=settings.cluster,
            expect=settings.bootstrap_expect,
            join_wait=settings.join_wait,
            peers=settings.peers,
            mdns=settings.mdns,
            interfaces=settings.interfaces,
            secret=settings.secret,
        )
        store = (
            MemoryFoundingStore() if settings.folder is None else FileFoundingStore(settings.folder)
        )
        self._discovery = Discovery(
            search,
            mesh=mesh,
            store=store,
            clock=self._clock,
            new_id=lambda: secrets.token_hex(8),
        )
        self._rooms.append(self._discovery)
        folder.belongs_to(self._discovery.cluster_id)
        return self._discovery

    def _take_part(
        self, ground: Ground, membership: Membership, declarations: Declarations
    ) -> None:
        self._participant = Participant(ground, membership)
        self._rooms.append(self._participant)
        for link in self._early:
            self._participant.server.adopt(link)
        self._early.clear()
        settings = self.settings
        for line in declarations.warnings:
            log.warning("%s", line)
        served = declarations.served(ground.pool.queues, settings.queues, settings.queue_tables)
        self._participant.begin(served, declarations)

    def _hello(self, folder: DataFolder) -> Hello:
        cluster_id = "" if self._discovery is None else self._discovery.cluster_id
        return Hello(
            role=self._role(cluster_id),
            name=self.settings.name,
            run_id=self._run_id,
            incarnation=folder.incarnation,
            address=self.address,
            cluster=self.settings.cluster,
            cluster_id=cluster_id,
            schema=schemas.SCHEMA,
        )

    def _role(self, cluster_id: str) -> Role:
        if not cluster_id:
            return "fresh"
        return "member" if self._participant is None else self._participant.island.role

    def _client(self, link: Link) -> None:
        if self._participant is not None:
            self._participant.server.adopt(link)
            return
        self._early.add(link)
        link.on_message = self._not_ready
        link.on_close = lambda link, _: self._early.discard(link)

    def _not_ready(self, link: Link, message: list[Any]) -> None:
        """A definite "not now": whoever asked knows that nothing was done, and asks elsewhere."""
        reason = "it starts" if self._discovery is None else self._discovery.waits_for
        text = f"node {self.settings.name} is not ready: {reason}"
        link.send([message[0], 1, Unavailable.__name__, text])

    async def wait_ready(self) -> None:
        """Return when this node is a member and may be given jobs."""
        await self.participant.ready.wait()

    # ---- two clusters meet -------------------------------------------------------------------

    def _met(self, stranger: Hello, _: ExkiqError) -> None:
        """A node of another cluster of our name: whoever has nothing to lose joins the other."""
        participant = self._participant
        if participant is None or self._is_yielding or not stranger.address:
            return
        if not should_yield(participant.island, island_of(stranger)):
            return
        aside = unused_folder(self.settings.folder, participant.island.cluster_id)
        if self.settings.folder is not None and aside is None:
            return
        log.warning(
            "this node's own cluster %s never held a job: gives it up and joins %s, the cluster "
            "of %s%s",
            participant.island.cluster_id,
            stranger.cluster_id,
            stranger.name,
            f"; the former data is kept in {aside}" if aside else "",
        )
        self._is_yielding = True
        participant.fall_silent()  # at once: no job may come in any more
        self._tasks.start(self._start_anew(stranger.address, aside), name="start anew")

    async def _start_anew(self, address: str, aside: Path | None) -> None:
        try:
            await self._close()
            if self.settings.folder is not None and aside is not None:
                self.settings.folder.rename(aside)
            peers = tuple(dict.fromkeys((*self.settings.peers, address)))
            self.settings = replace(self.settings, peers=peers, bind=self.address)
            await self.start()
        finally:
            self._is_yielding = False

    # ---- stop --------------------------------------------------------------------------------

    async def drain(self, timeout: float) -> None:
        """Stop in order: no job is lost, none is counted as failed, the lead changes at once."""
        await self._tasks.stop()
        async with self._draining:  # told to leave and stopped at once: the second one waits
            if self._participant is not None and not self._is_drained:
                self._is_drained = True
                await asyncio.gather(self._participant.drain(timeout), self._drain_host(timeout))
            await self.stop()

    async def _drain_host(self, timeout: float) -> None:
        if self._host is not None:
            await self._host.drain(timeout)

    async def stop(self) -> None:
        """Close everything at once. May be called twice, or after a start that failed."""
        await self._tasks.stop()
        await self._close()
        self._work.shutdown(wait=True)

    async def _close(self) -> None:
        for link in list(self._early):
            link.close("this node stops")
        while self._rooms:
            await self._rooms[-1].stop()
            self._rooms.pop()
        self._participant = self._discovery = self._host = None
        if self._folder is not None:
            self._folder.close()
