"""A node that is a member: the rooms around the log, and what they are told.

Built when the cluster is settled; before that a node has only its door and its children.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from exkiq.aggregator import Aggregator
from exkiq.aggregator import Settings as AggregatorSettings
from exkiq.clock import Clock
from exkiq.config import Settings
from exkiq.declarations import DEFAULT_QUEUE, Declarations
from exkiq.discovery import Discovery, Island, Member, Membership
from exkiq.discovery.admission import Admission
from exkiq.discovery.promotion import VOTERS_MAX, Promotion
from exkiq.dispatchers import Dispatcher
from exkiq.errors import ExkiqError, NotRunning, Refused, Unavailable
from exkiq.governance import Governance
from exkiq.links import Link
from exkiq.machine import Applied, MemberChange, MemberRole, commands
from exkiq.operation_ids import OperationIds
from exkiq.peering import Peering
from exkiq.pool import Pool
from exkiq.queues.replicated import ReplicatedHouse
from exkiq.raft import DataFolder, Replica, ReplicaSettings
from exkiq.raft.pace import Pace
from exkiq.releases import Releases
from exkiq.server import ClientServer, Host
from exkiq.session import NodeSession
from exkiq.status import status_map
from exkiq.telemetry import log

BEAT_SECONDS = 0.25  # what peers are told of us, and what the aggregator is told of them
TOLD_SECONDS = 2.0  # for the last operations of a stopping node to be applied
NO_DECLARATIONS = Declarations()
HEIR_SECONDS = 1.0  # two elections: without an heir by then there is nobody to lead


@dataclass(frozen=True, slots=True)
class Ground:
    """What a member stands on: the rooms and sources it is handed."""

    loop: asyncio.AbstractEventLoop
    settings: Settings
    clock: Clock
    folder: DataFolder
    pool: Pool
    peering: Peering
    discovery: Discovery
    links: Callable[[], dict[str, Link]]
    ids: OperationIds
    run_id: str
    address: str
    work: Executor
    chance: Callable[[], float]
    failed: Callable[[BaseException], None]
    leave: Callable[[str], None]
    dispatchers: Mapping[str, Callable[[], Dispatcher]] = field(default_factory=dict)
    host: Host | None = None


class Participant:
    """One member of the cluster.

    Duties: build the rooms around the log; tell them what is applied and who leads; say to the
    cluster what it has to know of us; be over in order.
    """

    def __init__(self, ground: Ground, membership: Membership) -> None:
        self._ground, self._membership = ground, membership
        self.settings, self.name = ground.settings, ground.settings.name
        self._loop = ground.loop
        names = {member.name for member in membership.members}
        if membership.has_joined:
            names.discard(self.name)  # no voter yet
        incarnation = ground.folder.incarnation
        folder, cluster_id = self.settings.folder, membership.cluster_id
        self.replica = Replica(
            ReplicaSettings(self.name, cluster_id, tuple(sorted(names)), folder, incarnation),
            ground.folder.journal,
            self,
            ground.peering.send,
            ground.clock,
            ground.work.submit,
            ground.chance,
            Pace().pause,
        )
        self.house = ReplicatedHouse(self.replica)
        self.aggregator = Aggregator(
            lambda: self.replica.machine,
            AggregatorSettings(
                self.name,
                ground.ids,
                dispatchers=ground.dispatchers,
                node_timeout=self.settings.node_timeout,
            ),
            self.replica.log_clock,
        )
        admission = Admission(
            self.replica,
            cluster_id,
            ground.peering.send,
            Promotion(self.name, self.settings.replace_after),
        )
        self._admission = admission
        self.session = NodeSession(
            self.name,
            ground.run_id,
            self.house,
            ground.ids,
            ground.peering.tell_leader,
            ground.peering.tell_peers,
        )
        self.governance = Governance(self.replica, admission, ground.peering, self._told_to_leave)
        self.server = ClientServer(
            self.house, self.status, self.governance, ground.clock, self.progress_of
        )
        self.server.host = ground.host
        self._join_peers((self.name, incarnation, ground.address), cluster_id)
        self.declarations = NO_DECLARATIONS
        self._is_stopping = self._is_leaving = False
        self.ready = asyncio.Event()
        self._was_leading = self._said_address = False
        self._noted: list[Member] = []
        self._wake: asyncio.TimerHandle | None = None
        self._beat: asyncio.TimerHandle | None = None

    def _join_peers(self, own: tuple[str, str, str], cluster_id: str) -> None:
        """Have this node's rooms hear what peers say."""
        peering = self._ground.peering
        peering.on_progress = self.session.headway.heard
        peering.on_member_up = self._tell_progress
        peering.join(own, cluster_id, self.replica, self.aggregator, self._admission)
        peering.on_removed = self._removed
        peering.on_told_to_leave = self._told_to_leave

    def begin(self, queues: dict[str, int], declarations: Declarations = NO_DECLARATIONS) -> None:
        """Take part: tick, and have jobs of these queues claimed for us."""
        self.declarations = declarations
        self.house.subscribe(self.session.applied)
        self.house.subscribe(self.aggregator.applied)
        self.replica.start(self._loop)
        ground = self._ground
        if self.settings.concurrency:
            self.session.begin(self._loop, ground.pool, queues, ground.address)
        # served or not, they show with 0
        there = sorted({*queues, *declarations.queues, DEFAULT_QUEUE})
        self.house.propose_nowait(commands.declare(ground.ids(), there, declarations.paused))
        self._releases = Releases(self.replica, ground.links, self.house.propose_nowait, ground.ids)
        self._tell_peers()

    # ---- what the replica tells --------------------------------------------------------------

    def applied(self, applied: Applied) -> None:
        self.house.applied(applied)
        if not self.ready.is_set():
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
        self._note_members()
        self.session.demand_soon()
        if not self.ready.is_set():
            self._look_whether_ready()  # it may have been given its vote

    def before_flush(self, ops: list[bytes]) -> list[bytes]:
        return self.aggregator.before_flush(ops)

    def wants_flush(self) -> bool:
        wants = self.aggregator.wants_flush()
        self._wake_at(self.aggregator.next_wake())
        return wants

    def member_appended(self, change: MemberChange) -> None:
        self._admission.appended(change)

    def _removed(self) -> None:
        self._leave("this node was removed from its cluster; start it to join anew")

    def _told_to_leave(self) -> None:
        self._leave("this node was told to leave its cluster; start it to join anew")

    def _leave(self, why: str) -> None:
        if not self._is_stopping and not self._is_leaving:
            self._is_leaving = True
            self._ground.leave(why)

    def failed(self, error: BaseException) -> None:
        is_known = isinstance(error, ExkiqError)  # a full disk: the text says all there is to do
        log.critical("cannot go on: %s", error, exc_info=None if is_known else error)
        self._ground.failed(error)

    # ---- what the cluster has to know --------------------------------------------------------

    def _found(self) -> None:
        """The first words in the log of a cluster: its id and the members it began with."""
        if not self.replica.machine.cluster_id:
            rows = [(m.name, m.address, m.incarnation) for m in self._membership.members]
            op = commands.found(self._ground.ids(), self._membership.cluster_id, rows)
            self.house.propose_nowait(op)

    def _say_address(self) -> None:
        member = self.replica.machine.members.get(self.name)
        if member is None or self._said_address or self.replica.leader is None:
            return
        self._said_address = True
        if member.address != self._ground.address:
            op = commands.address(self._ground.ids(), self.name, self._ground.address)
            self.house.propose_nowait(op)

    def _note_members(self) -> None:
        """Dial where the members are, and tell clients; one may have come back elsewhere."""
        members = [
            Member(m.name, m.address, m.incarnation) for m in self.replica.machine.members.values()
        ]
        if members != self._noted:
            self._noted = members
            self._ground.discovery.sight(members)
            self.server.members_changed(self._addresses())

    def _look_whether_ready(self) -> None:
        member = self.replica.machine.members.get(self.name)
        if member is None or not (self.session.id or not self.settings.concurrency):
            return
        self._ground.peering.is_member = True
        if member.role == MemberRole.VOTER or len(self.replica.voters) >= VOTERS_MAX:
            self.ready.set()
            self.leadership(self.replica.leader, self.replica.term)
            log.info("ready: %s of cluster %r", self._ground.address, self.settings.cluster)

    def _tell_peers(self) -> None:
        self._beat = self._loop.call_later(BEAT_SECONDS, self._tell_peers)
        self._ground.peering.beat()
        self._note_members()
        self._releases.look()
        self._admission.look(self._ground.links().keys(), self._ground.clock.monotonic())

    def _wake_at(self, when: float | None) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if when is not None:
            delay = max(0.0, when - self._ground.clock.monotonic())
            self._wake = self._loop.call_later(delay, self.replica.wake)

    # ---- two clusters meet -------------------------------------------------------------------

    @property
    def island(self) -> Island:
        """This cluster as another one sees it; whatever is under way here may be a job."""
        replica, settings = self.replica, self.settings
        members = {*replica.machine.members, *replica.voters, *replica.non_voters}
        is_idle = (
            self.ready.is_set()
            and not self._is_stopping
            and not self._is_leaving
            and not replica.is_changing_members
            and not replica.waiting
            and replica.applied_index == replica.journal.last_index
        )
        has_held_jobs = not is_idle or replica.machine.totals.enqueued_total > 0
        return Island(settings.cluster, replica.machine.cluster_id, len(members), has_held_jobs)

    def fall_silent(self) -> None:
        """Take nothing more into the log, from this moment on."""
        self._is_stopping = True
        self.replica.stop()

    # ---- for clients -------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The map behind `exkiq status`."""
        return status_map(
            self.replica,
            self.settings.cluster,
            self._ground.links().keys(),
            self._ground.peering.applied,
            self._ground.clock.now_ms(),
        )

    def tree(self) -> dict[str, Any]:
        """The parts of this node that run, each with what it is about, for people.

        Shapes: raft, discovery, links by peer, aggregator on the leader only, children by name.
        """
        replica, links = self.replica, self._ground.links()
        standing = "leader" if replica.is_leader else "follower"
        parts: dict[str, Any] = {
            "raft": {"role": standing, "term": replica.term, "applied": replica.applied_index},
            "discovery": {"members": sorted(replica.machine.members)},
            "links": {name: link.peer.address for name, link in sorted(links.items())},
        }
        aggregator = self.aggregator.tree()
        if aggregator is not None:
            parts["aggregator"] = aggregator
        return parts | {"children": self._ground.pool.tree()}

    def progress_of(self, job_id: str) -> bytes | None:
        """What a running job said last, encoded; None when it does not run or said nothing."""
        return self.session.headway.of(job_id)

    def _tell_progress(self, name: str) -> None:
        """A peer that was away may have missed some."""
        for message in self.session.headway.messages():
            self._ground.peering.send(name, message)

    def _addresses(self) -> list[str]:
        """Where clients may go, this node first."""
        members = self.replica.machine.members.values()
        return [self._ground.address, *(m.address for m in members if m.name != self.name)]

    # ---- the end -----------------------------------------------------------------------------

    async def drain(self, timeout: float) -> None:
        """Take no more, give the lead away, let jobs end, hand back the rest, be over."""
        self._is_stopping = True
        self.session.stop_taking()
        await self._give_lead_away()
        await self._ground.pool.drain(timeout)
        self.session.end()
        await self._until_told()
        if len(self.replica.machine.members) == 1:
            self._say_what_is_lost()
        elif self.settings.leave_on_stop or self._is_leaving:
            await self._be_taken_out()

    async def _give_lead_away(self) -> None:
        if not self.replica.is_leader or not self._ground.links():
            return
        try:
            await self.governance.cluster_transfer(None, HEIR_SECONDS)
        except Unavailable as error:
            log.info("stops as leader: %s", error)

    async def _until_told(self) -> None:
        """Until everything this node had to say is in the log, or nobody leads any more."""
        now = self._ground.clock.monotonic
        end = now() + TOLD_SECONDS
        led_at = now()
        while self.replica.waiting and now() < end and now() - led_at < HEIR_SECONDS:
            if len(self.replica.voters) > 1 and not self._ground.links():
                break  # all stop at once: nobody is left to hear it
            if self.replica.leader is not None:
                led_at = now()
            await asyncio.sleep(0.01)
        if self.replica.waiting:
            log.warning(
                "stops before a majority had its last words (%d): they are made up for when it"
                " starts again, or when others call it lost",
                self.replica.waiting,
            )

    def _say_what_is_lost(self) -> None:
        counts = self.replica.machine.counts()
        left = sum(counts[state] for state in ("queued", "scheduled", "retry"))
        if left and self.settings.folder is None:
            log.warning("the last member stops and nothing is on disk: %d jobs are lost", left)

    async def _be_taken_out(self) -> None:
        try:
            await self.governance.take_out(self.name)
        except NotRunning:
            log.info("is no member any more")
        except (Unavailable, Refused) as error:
            log.warning("%s", error)
        if self._is_leaving:
            await asyncio.sleep(BEAT_SECONDS)  # whoever asked for it here has no answer yet

    async def stop(self) -> None:
        """Close these rooms at once."""
        for timer in (self._wake, self._beat):
            if timer is not None:
                timer.cancel()
        self.session.stop()
        await self.server.stop()
        self.replica.stop()
