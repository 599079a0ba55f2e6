"""One member of the cluster's Raft group: the turn, and what goes in and out of it.

A turn, in this order (the numbers are used below):

    1  messages of the peers have been handed to the engine as they came
    2  the engine ticks: elections, commits, `apply` of what is committed
    3  inside the tick, after `apply`: what was gathered becomes one entry
    4  one journal commit for everything that must be durable
    5  only now the answers that vouch for it leave
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pysyncobj.node import Node

from exkiq.clock import Clock
from exkiq.errors import RemoteWireError
from exkiq.machine import Machine, MemberChange
from exkiq.machine.commands import encode_entry
from exkiq.raft.engine import ELECTION_SECONDS_MAX, ELECTION_SECONDS_MIN, Engine
from exkiq.raft.gathering import Gathering, in_frames
from exkiq.raft.handover import Handover
from exkiq.raft.journal import Journal
from exkiq.raft.listener import Listener
from exkiq.raft.log_clock import LogClock
from exkiq.raft.membership import MemberChanges, Roles, decode_change, encode_change
from exkiq.raft.outcomes import Done, Outbox
from exkiq.raft.settings import ReplicaSettings
from exkiq.raft.snapshot import SnapshotStore, Work
from exkiq.raft.snapshot_file import Pause, Snapshot, no_pause
from exkiq.raft.standing import Standing
from exkiq.raft.transport import EngineTransport
from exkiq.telemetry import log
from exkiq.wire.messages import Kind

HEIR_SECONDS = 0.05  # two ticks: who lost its link to the leader asks in its turn, by name
TICK_SECONDS = 0.025  # half a heartbeat
OUTBOX_TICKS = 4  # a pass over all that wait, ten times a second: callers allow 0.2 s for it
SLOW_TURN_SECONDS = 0.25  # half an election: longer ones cost the lead


class Replica:
    """A member of the Raft group.

    Duties: turn the loop's events into turns of the engine; group operations into entries;
    find the outcome of each operation in the applied log; keep the machine; change members
    one at a time.
    """

    def __init__(
        self,
        settings: ReplicaSettings,
        journal: Journal,
        listener: Listener,
        send: Callable[[str, list[Any]], bool],
        clock: Clock,
        work: Work,
        chance: Callable[[], float],
        pause: Pause = no_pause,
    ) -> None:
        self.name, self._cluster_id = settings.name, settings.cluster_id
        self.machine = Machine()
        self.journal = journal
        self.log_clock = LogClock(clock, lambda: self.machine.now_ms)
        self._listener, self._clock, self._send = listener, clock, send
        path = None if settings.folder is None else settings.folder / "snapshot"
        self.snapshots = SnapshotStore(
            path, journal, lambda: self.machine, self._install, work, clock.monotonic, pause, chance
        )
        first = Roles(frozenset(settings.members), frozenset(), self.name, settings.incarnation)
        roles = self.snapshots.roles_at_start(first)
        self.standing = standing = Standing(
            journal,
            clock.monotonic,
            applied=lambda: self.machine.index,
            has_leader=lambda: self.leader is not None,
            votes_as_applied=lambda: self.name in first.of(self.machine.members.values()).voters,
        )
        self._transport = EngineTransport(send, clock.monotonic, standing, self.snapshots)
        self._engine = Engine(
            settings.name,
            roles,
            journal,
            self.snapshots,
            self._transport,
            self._apply,
            self._gather,
        )
        standing.engine = self._engine
        self._outbox = Outbox()
        self._gathering = Gathering()
        self._in_flight = 0  # index of the entry that is not applied yet, 0 for none
        self._changes = MemberChanges()
        self._handover = Handover(self._engine, clock.monotonic)
        self._has_flushed, self._ticks = False, 0
        self._seen: tuple[str | None, int, bool] = (None, 0, False)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_turn_due = self._is_sync_due = False
        self._last_turn = clock.monotonic()
        self._chance = chance

    # ---- starting and stopping ---------------------------------------------------------------

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to tick on `loop`."""
        self._loop = loop
        self._last_turn = self._clock.monotonic()
        self._tick()

    def stop(self) -> None:
        """Stop ticking and close the journal. May be called twice."""
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
        self.snapshots.stop()
        self._engine.destroy()
        self.journal.close()

    # ---- what the node asks ------------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        """Leader, and everything of earlier terms is applied here."""
        return self._loop is not None and self._engine.is_leader_ready

    @property
    def leader(self) -> str | None:
        """The leader's name; None when there is none, or no link to it, or we do not run."""
        leader = None if self._loop is None else self._engine.leader
        if leader is None or leader == self.name or self._transport.is_connected(leader):
            return leader
        return None

    @property
    def term(self) -> int:
        return int(self._engine.raftCurrentTerm)

    @property
    def commit_index(self) -> int:
        return int(self._engine.raftCommitIndex)

    @property
    def applied_index(self) -> int:
        return int(self._engine.raftLastApplied)

    @property
    def waiting(self) -> int:
        """Operations proposed here that are not applied yet."""
        return len(self._outbox)

    @property
    def log_length(self) -> int:
        return len(self.journal)

    @property
    def voters(self) -> frozenset[str]:
        """The voters as of the newest entry in the log."""
        return self._engine.roles.voters

    @property
    def non_voters(self) -> frozenset[str]:
        return self._engine.roles.non_voters

    @property
    def is_changing_members(self) -> bool:
        """Leader only: whether a change of members is under way."""
        return not self._changes.is_idle

    def matched(self, name: str) -> int:
        """Leader only: up to which entry this member is known to have the log."""
        return self._engine.matched(name)

    def propose(self, op: bytes, timeout: float | None, done: Done | None) -> None:
        """Have an operation committed; `done` is told its outcome, or why there is none.

        Units:  timeout in seconds; None keeps trying until it is applied.
        Errors: Unavailable at once when too many wait already; else through `done`:
                NoQuorum (surely not done) or OutcomeUnknown.
        """
        deadline = None if timeout is None else self._clock.monotonic() + timeout
        self._outbox.add(op, deadline, done)
        self.wake()

    def change_members(self, change: MemberChange) -> None:
        """Leader only: have the members changed so, after the changes asked for before."""
        self._changes.want(change)
        self.wake()

    def transfer_leadership(self, name: str | None) -> None:
        """Leader only: have `name`, or the most caught up follower, campaign at once."""
        self._handover.to(name)
        self.wake()

    def peer_up(self, name: str) -> None:
        """A link to this member is up."""
        self._transport.peer_up(name)
        self.wake()

    def peer_down(self, name: str) -> None:
        """The link to this member is gone; if it led, the next election comes soon."""
        was_leader = name == self._engine.leader
        self._transport.peer_down(name, was_leader)
        if was_leader:
            turn = self._engine.roles.heirs_before(name) + self._chance() / 5
            self._engine.set_election_in(min(self._engine.election_in, HEIR_SECONDS * turn))
        self.snapshots.forget(Node(name))

    def receive(self, sender: str, message: list[Any]) -> None:
        """A RAFT or PROPOSE message of a member. Errors: RemoteWireError."""
        if self._loop is None:
            return
        if message[0] == Kind.PROPOSE:
            for op in message[1]:
                self._gathering.add(op)
        else:
            self._receive(sender, message[1])
        self.wake()

    def _receive(self, sender: str, message: object) -> None:
        try:
            self._transport.receive(sender, message)
            self.snapshots.must_have_loaded()
        except RemoteWireError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the node stops
            self._fail(error)

    # ---- the turn ----------------------------------------------------------------------------

    def wake(self) -> None:
        """Have a turn soon."""
        if not self._is_turn_due and self._loop is not None:
            self._is_turn_due = True
            self._loop.call_soon(self._turn)

    def _tick(self) -> None:
        if self._loop is not None:
            self._timer = self._loop.call_later(TICK_SECONDS, self._tick)
            self._ticks += 1
            if self._ticks % OUTBOX_TICKS == 0:
                self._outbox.tick(self._clock.monotonic())
            self.wake()

    def _turn(self) -> None:
        self._is_turn_due = False
        if self._loop is None:
            return
        started = self._clock.monotonic()
        try:
            self._forgive_a_pause(started)
            self._transport.before_tick()
            self._engine.doTick(0)
            self._transport.after_tick()
            self.snapshots.must_have_loaded()
            self._note_appended()
            self._notice_leadership()
            self._forward()
            self._sync_soon()
            if self._engine.is_behind:
                self.wake()
        except Exception as error:  # noqa: BLE001 - whatever it is, the node stops
            self._fail(error)
        self._last_turn = self._clock.monotonic()
        if self._last_turn - started > SLOW_TURN_SECONDS:
            log.warning("a turn took %d ms", (self._last_turn - started) * 1000)

    def _forgive_a_pause(self, now: float) -> None:
        """After a pause of ours the leader's messages wait in the socket: read them first."""
        if now - self._last_turn > ELECTION_SECONDS_MIN / 2:
            spread = ELECTION_SECONDS_MAX - ELECTION_SECONDS_MIN
            wait = ELECTION_SECONDS_MIN + spread * self._chance()
            self._engine.set_election_in(max(self._engine.election_in, wait))

    def _sync_soon(self) -> None:
        """Steps 4 and 5. A leader lets its messages leave first: followers sync meanwhile."""
        if self._loop is not None and self._engine.is_leader and not self.journal.is_clean:
            if not self._is_sync_due:
                self._is_sync_due = True
                self._loop.call_soon(self._sync_on_loop)
        else:
            self._sync()

    def _sync_on_loop(self) -> None:
        self._is_sync_due = False
        if self._loop is None:
            return
        try:
            self._sync()
        except Exception as error:  # noqa: BLE001 - whatever it is, the node stops
            self._fail(error)

    def _sync(self) -> None:
        had_news = not self.journal.is_clean
        self.journal.commit()
        self._transport.release()
        if had_news and self._engine.is_leader and not self._engine.others:
            self.wake()  # alone, our own disk is the majority: commit it now

    def _fail(self, error: Exception) -> None:
        self._loop = None  # no turn after this one: what the disk or the engine did is unknown
        self._listener.failed(error)

    # ---- gathering: step 3 -------------------------------------------------------------------

    def _gather(self) -> None:
        """Make one entry of what was gathered, unless one is on its way already."""
        if self._in_flight and self._in_flight > self.applied_index and self._engine.is_leader:
            return
        self._in_flight = 0
        if not self._engine.is_leader:
            self._gathering.drop()
            return
        if self._handover.goes_on():
            return
        if self._engine.leader == self.name:
            for op in self._outbox.take_unsent(self._clock.monotonic()):
                self._gathering.add(op)
        self._propose_change()
        if not self._engine.is_leader_ready:
            return
        if self._gathering or self._listener.wants_flush():
            self._flush()

    def _flush(self) -> None:
        ops = self._gathering.take()
        ops += self._listener.before_flush(ops)
        if not ops:
            return
        self._engine.append(encode_entry(self.log_clock.now_ms(), self.term, ops))
        self._has_flushed = True

    def _note_appended(self) -> None:
        """After the tick: where the gathered entry went, and whether a change is in the log."""
        if self._has_flushed:
            self._has_flushed = False
            self._in_flight = self._engine.last_index
        change = self._changes.newly_appended(self._engine.roles)
        if change is not None:
            self._listener.member_appended(change)

    def _forward(self) -> None:
        """Send what waits here to the leader, in frames of an entry's size."""
        leader = self.leader
        if leader is None or leader == self.name or not self._outbox.has_unsent:
            return
        for batch in in_frames(self._outbox.take_unsent(self._clock.monotonic())):
            self._send(leader, [int(Kind.PROPOSE), batch])

    def _notice_leadership(self) -> None:
        seen = (self.leader, self.term, self._engine.is_leader_ready)
        if seen == self._seen:
            return
        if seen[:2] != self._seen[:2]:
            self._outbox.leader_changed()
            self._in_flight = 0
            self._handover.forget()
            self._changes.forget()
            self.snapshots.forget()
            self.wake()
        self._seen = seen
        self._listener.leadership(self.leader, self.term)

    # ---- applying: step 2 --------------------------------------------------------------------

    def _apply(self, index: int, command: bytes) -> None:
        change = decode_change(command)
        if change is not None:
            self.machine.apply_member(index, change)
            self._changes.over(change)
            log.info("members: %s %s", change.verb, change.name)
            self._listener.leadership(self.leader, self.term)
            return
        applied = self.machine.apply(index, command)
        self._outbox.applied(applied.results)
        self._listener.applied(applied)

    # ---- members -----------------------------------------------------------------------------

    def _propose_change(self) -> None:
        if not self._engine.is_leader_ready:
            return
        if self.name not in self.voters:  # elected to commit its own removal; that is done now
            self._handover.to(None)
        elif (wish := self._changes.next()) is not None:
            change = self._engine.roles.exact(wish)
            if change is None:
                self._listener.member_appended(wish)  # done before: whoever asks again is told
            else:
                self._changes.begin(change)
                self._engine.append(encode_change(change), lambda *_: self._changes.over(change))

    def _install(self, snapshot: Snapshot) -> None:
        snapshot.must_be_of(self._cluster_id, self.snapshots.path)
        self.machine = snapshot.machine
        self._listener.installed()
