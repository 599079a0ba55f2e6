"""One member for the exhaustive search: the real replica, engine, guard and journal.

Its state is lifted out after each step and put back before the next, so that thousands of
branches share one replica. Nothing waits: the clock stands still, elections and heartbeats are
steps, and everything a step sends is handed to the caller.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack
from pysyncobj import syncobj
from pysyncobj.node import Node

from exkiq.machine import Machine, MemberChange
from exkiq.raft import Journal, Replica, ReplicaSettings
from exkiq.raft import chunks as chunks_module
from exkiq.raft import engine as engine_module
from exkiq.raft import journal as journal_module
from exkiq.raft.journal import type_entry
from exkiq.raft.membership import Roles
from tests.raft.world import run_at_once

NOW = 1000.0
LEADER = 2
PLAIN = (int, float, str, bytes, type(None), tuple, frozenset, Node, Roles)
COPIED = (dict, set, list, bytearray, defaultdict)
# What never changes after an engine is built, and is large.
FIXED = {
    "_methodToID",
    "_idToMethod",
    "_idToConsumer",
    "_SyncObj__properies",
    "_SyncObj__currentVersionFuncNames",
    "_SyncObj__consumers",
    "_SyncObj__onTickCallbacks",
}


class StillClock:
    """Time is a step of the search, not a number."""

    def monotonic(self) -> float:
        return NOW

    def now_ms(self) -> int:
        return 0


class NoChance:
    """Every patience is the same: who loses it first is a step of the search."""

    def random(self) -> float:
        return 1.0


class PowerFailure(BaseException):
    """The power fails at a commit of the journal: nothing of it is on the disk."""


class Disk(NamedTuple):
    """What a restart finds."""

    entries: tuple[type_entry, ...] = ()
    term: int = 0
    vote: str | None = None
    commit_index: int = 0


class DiskJournal(Journal):
    """The real journal over a disk that is a value."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.power_fails = False
        super().__init__(None)
        self._entries = list(disk.entries)
        self._term, self._vote, self._commit_index = disk.term, disk.vote, disk.commit_index

    def _write(self) -> None:
        if self.power_fails:
            raise PowerFailure
        self.disk = Disk(tuple(self._entries), self._term, self._vote, self._commit_index)
        self._cut_from = self._unwritten_from = self._cut_below = None
        self._hard_state_changed = False


class Ledger:
    """Stands in for the machine: remembers what was applied at which index."""

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self.applied: dict[int, bytes] = {}
        self.members: dict[str, Any] = {}
        self.now_ms = 0

    def apply(self, index: int, body: bytes) -> Any:
        self.index = index
        self.applied[index] = body
        return NO_RESULTS

    def apply_member(self, index: int, change: MemberChange) -> None:
        self.index = index

    def capture(self) -> Any:
        machine = Machine()
        machine.index = self.index
        return machine.capture()


class _NoResults:
    results: tuple[Any, ...] = ()


NO_RESULTS = _NoResults()


class Loop:
    """Runs what is to be called soon when it is asked to."""

    def __init__(self) -> None:
        self.due: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def call_soon(self, function: Callable[..., None], *args: Any) -> None:
        self.due.append((function, args))

    def run(self) -> None:
        while self.due:
            function, args = self.due.pop(0)
            function(*args)


class Listener:
    """Nobody is above: only a failure is news."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []

    def applied(self, applied: Any) -> None: ...
    def installed(self) -> None: ...
    def leadership(self, leader: str | None, term: int) -> None: ...
    def before_flush(self, ops: list[bytes]) -> list[bytes]:
        return []

    def wants_flush(self) -> bool:
        return False

    def member_appended(self, change: MemberChange) -> None: ...
    def failed(self, error: Exception) -> None:
        self.failures.append(error)


Sent = list[tuple[str, dict[str, Any]]]  # (to whom, the engine's message)


@dataclass(frozen=True, slots=True)
class Lifted:
    """A member between two steps: its fields for putting it back, and what the rules look at."""

    fields: tuple[list[Any], ...]
    key: int
    term: int
    is_leader: bool
    commit_index: int
    log: tuple[type_entry, ...]
    applied: tuple[tuple[int, bytes], ...]
    disk: Disk
    rewound_at: dict[str, int]
    fault: str | None

    @property
    def can_restart(self) -> bool:
        """Its snapshot is in memory: a log that needs it is gone after a restart."""
        return not self.disk.entries or self.disk.entries[0][1] == 1


class ExploredMember:
    """A replica of which a step can be tried and taken back."""

    def __init__(self, name: str, members: tuple[str, ...]) -> None:
        self.name, self.members = name, members
        self.sent: Sent = []
        self._fresh: dict[Disk, Lifted] = {}
        self._build(Disk())

    def _build(self, disk: Disk) -> None:
        self.loop, self.listener = Loop(), Listener()
        self.journal = DiskJournal(disk)
        settings = ReplicaSettings(self.name, "c", self.members, None)
        self.replica = Replica(
            settings,
            self.journal,
            self.listener,  # type: ignore[arg-type]
            self._send,
            StillClock(),
            run_at_once,
            NoChance().random,
        )
        self.replica._loop = self.loop  # type: ignore[assignment]
        self.ledger = self.replica.machine = Ledger()  # type: ignore[assignment]
        self.engine = self.replica._engine
        self.transport = self.replica._transport
        self._parts = self._find_parts()

    def _send(self, to: str, frame: list[Any]) -> bool:
        self.sent.append((to, frame[1]))
        return True

    # ---- steps ---------------------------------------------------------------------------------

    def started(self, disk: Disk) -> Lifted:
        """As after a start from this disk."""
        if disk not in self._fresh:
            self._build(disk)
            self.replica.wake()
            self.loop.run()
            self._fresh[disk] = self.lift()
        return self._fresh[disk]

    def step(self, before: Lifted, do: Callable[[ExploredMember], None]) -> tuple[Lifted, Sent]:
        """Take a step and the turn after it. Errors: PowerFailure, with `sent` as far as it got."""
        self._put_back(before)
        self.sent = []
        do(self)
        self.replica.wake()
        self.loop.run()
        if self.replica.machine is not self.ledger:  # a snapshot was installed
            self.ledger.index, self.ledger.applied = self.replica.machine.index, {}
            self.replica.machine = self.ledger  # type: ignore[assignment]
        return self.lift(), self.sent

    def receive(self, sender: str, message: bytes, seq: int | None) -> None:
        body = msgpack.unpackb(message)
        if seq is not None:
            body["seq"] = seq
        self.replica.receive(sender, [1, body])

    def campaign(self) -> None:
        """Patience is over and the round of asking is won."""
        self.transport._campaign.is_open = True
        self.engine.set_election_in(-1.0)

    def beat(self) -> None:
        """A heartbeat is due."""
        self.engine._SyncObj__newAppendEntriesTime = 0.0

    def compact(self) -> None:
        self.engine.forceLogCompaction()
        self.replica.wake()
        self.loop.run()

    # ---- lifting and putting back --------------------------------------------------------------

    def _find_parts(self) -> list[tuple[Any, tuple[str, ...]]]:
        t = self.transport
        parts = (self.engine, self.replica, self.journal, t, t._guard, t._campaign, t._pieces)
        store = self.replica.snapshots
        all_parts = (*parts, store, store._incoming, self.ledger, self.listener)
        return [(part, _changing(part)) for part in all_parts]

    def lift(self) -> Lifted:
        engine, guard = self.engine, self.transport._guard
        return Lifted(
            tuple([getattr(part, name) for name in names] for part, names in self._parts),
            hash(self._key()),
            int(engine.raftCurrentTerm),
            engine.is_leader,
            int(engine.raftCommitIndex),
            tuple(self.journal[:]),
            tuple(self.ledger.applied.items()),
            self.journal.disk,
            guard.rewound_at,
            str(self.listener.failures[0]) if self.listener.failures else None,
        )

    def _put_back(self, lifted: Lifted) -> None:
        for (part, names), values in zip(self._parts, lifted.fields, strict=True):
            for name, value in zip(names, values, strict=True):
                setattr(part, name, value.copy() if type(value) in COPIED else value)
        self.replica._loop = self.loop  # type: ignore[assignment]
        self.loop.due = []
        self.journal.power_fails = False

    def _key(self) -> tuple[Any, ...]:
        """Equal for states with an equal future, apart from what is on its way."""
        engine, transport, store = self.engine, self.transport, self.replica.snapshots
        state = int(engine._SyncObj__raftState)
        is_leader = state == LEADER
        leader = engine._SyncObj__raftLeader
        if store._outgoing:
            raise ValueError("a snapshot of more pieces than go at once cannot be put back")
        return (
            state,
            int(engine.raftCurrentTerm),
            engine._SyncObj__votedForNodeId,
            engine._SyncObj__votesCount,
            None if leader is None else leader.id,
            int(engine.raftCommitIndex),
            int(engine.raftLastApplied),
            tuple(self.journal[:]),
            self.journal.disk,
            _by_name(engine._SyncObj__raftNextIndex) if is_leader else None,
            _by_name(engine._SyncObj__raftMatchIndex) if is_leader else None,
            frozenset(transport._shown),
            frozenset(transport._connected),
            frozenset(transport._guard.votes),
            transport._campaign.is_open,
            store._in_memory,
            bytes(store._incoming._data or b""),
            tuple(self.ledger.applied.items()),
        )


def _changing(part: Any) -> tuple[str, ...]:
    """The names of the fields that a step may change."""
    names = vars(part) if hasattr(part, "__dict__") else type(part).__slots__
    kinds = (*PLAIN, *COPIED)
    return tuple(
        name for name in names if name not in FIXED and isinstance(getattr(part, name), kinds)
    )


def _by_name(indexes: dict[Node, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((str(node.id), index) for node, index in indexes.items()))


@contextmanager
def small_parts() -> Iterator[None]:
    """Two entries a message, two pieces a snapshot, and time that stands still."""
    places: list[tuple[Any, str, Any]] = [
        (syncobj, "monotonicTime", lambda: NOW),
        (syncobj, "random", NoChance()),
        (engine_module, "BATCH_BYTES", 4),
        (chunks_module, "CHUNK_BYTES", 64),
        (journal_module, "KEPT_ENTRIES", 0),
    ]
    before = [(place, name, getattr(place, name)) for place, name, _ in places]
    for place, name, value in places:
        setattr(place, name, value)
    try:
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)
