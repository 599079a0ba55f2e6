"""Snapshots: written off the hot path, sent in chunks, and taken in whole.

One file, `snapshot`, in the data folder. It is written under another name by a thread, synced,
renamed, and its folder synced, before the engine is told; only then is the log trimmed. A
received one is checked and read by the thread too; what the leader says meanwhile about the log
is set aside (`is_reading`), and then it replaces what is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from pysyncobj.config import SERIALIZER_STATE

from exkiq.durable import sync_folder
from exkiq.errors import DataError
from exkiq.machine import Machine
from exkiq.raft.chunks import Chunk, Incoming, chunk_of
from exkiq.raft.journal import Journal, type_entry
from exkiq.raft.membership import Roles, follow_changes
from exkiq.raft.snapshot_file import (
    Pause,
    Snapshot,
    decode,
    encode,
    no_pause,
    write,
    write_durably,
)
from exkiq.telemetry import log

COMPACT_BYTES = 32 * 1024 * 1024  # of log: some seconds to apply again at a restart
ALARM_FACTOR = 4  # times that: memory and disk fill, and somebody should know
HELD_FACTOR = 2  # times a snapshot of log, at most, is kept for those that are sent one
HELD_SECONDS_MAX = 60.0  # they may be too slow ever to have all
READ_STEPS = 4  # at once: who waits for a snapshot has nothing better to do
NEAR_ENTRIES = 1_000  # so close to the end of the log no snapshot is needed
FAILED_PAUSE_SECONDS = 30.0  # a full disk is full in the next turn too, and a capture costs time

T = TypeVar("T")


class Work(Protocol):
    """Runs a function elsewhere: a thread pool, or at once in a simulation."""

    def __call__(self, function: Callable[[], T], /) -> Future[T]: ...


class Stopped(Exception):
    """The node stops; what the thread was doing is of no use any more."""


class SnapshotStore:
    """Stands in for the engine's serializer, method by method.

    Duties: write a snapshot off the hot path; hand the newest out in chunks; take one in,
    check it, and only then let it replace what is here.
    """

    def __init__(
        self,
        path: Path | None,
        journal: Journal,
        machine: Callable[[], Machine],
        install: Callable[[Snapshot], None],
        work: Work,
        now: Callable[[], float],
        pause: Pause = no_pause,
        chance: Callable[[], float] = lambda: 1.0,
    ) -> None:
        if (path is None) != (journal.path is None):
            raise ValueError(
                "a log on disk would be trimmed to a snapshot that is not, or the like"
            )
        self.path = path
        self.failures = 0
        self._load_failure: Exception | None = None
        self._journal, self._now = journal, now
        self._pause_until = now()
        self._machine, self._install, self._work = machine, install, work
        self._in_memory: bytes | None = None
        self._received: bytes | None = None
        self._running: Future[bytes | None] | None = None
        self._running_id = 0
        self._size = self._last_index = 0  # of the newest snapshot
        self._has_warned = False
        self._pause, self._is_stopped = pause, False
        self._chance, self._share = chance, _share(chance)
        self._outgoing: dict[Any, tuple[bytes | IO[bytes], int]] = {}  # and how far it is sent
        self._held_for: dict[Any, float] = {}  # peers, and until when
        self._incoming = Incoming()
        self._reading: Future[Snapshot | DataError] | None = None
        self._checked: Snapshot | None = None  # received, and not loaded yet
        self.roles = Roles()  # as of the newest entry, when last loaded
        self._founders = self.roles
        self._at_start: Snapshot | None = None  # read, and not loaded yet

    # ---- what the engine calls ---------------------------------------------------------------

    def serialize(self, data: tuple[Any, type_entry, type_entry, Any], id_: int) -> None:
        if self._running is not None or self._now() < self._pause_until:
            return
        self._hold_on()
        _, last, previous, _ = data
        capture = self._machine().capture()
        path = self.path

        def work() -> bytes | None:
            if path is None:
                return encode(previous, last, capture, self._between_steps)
            write(path.with_suffix(".next"), previous, last, capture, self._between_steps)
            return None

        self._running_id = id_
        self._running = self._work(work)

    def checkSerializing(self) -> tuple[int, int | None]:  # noqa: N802 - the engine's name
        if self._running is None:
            return SERIALIZER_STATE.NOT_SERIALIZING, None
        if not self._running.done():
            return SERIALIZER_STATE.SERIALIZING, self._running_id
        running, self._running = self._running, None
        try:
            self._in_memory = running.result()
            if self.path is not None:
                self.path.with_suffix(".next").replace(self.path)
                sync_folder(self.path.parent)
        except Exception as error:  # noqa: BLE001 - the log is whole, so the node goes on without
            self.failures += 1
            self._pause_until = self._now() + FAILED_PAUSE_SECONDS
            log.error("a snapshot could not be written: %s; the log keeps growing", error)
            return SERIALIZER_STATE.FAILED, self._running_id
        self._has_warned, self._share = False, _share(self._chance)
        self._last_index = self._running_id
        self._note_size()
        return SERIALIZER_STATE.SUCCESS, self._running_id

    def deserialize(self) -> tuple[None, type_entry, type_entry, list[Any]]:
        """Hand the state over. What goes wrong is kept: the engine would go on half loaded."""
        try:
            return self._deserialize()
        except Exception as error:
            self._load_failure = error
            raise

    def _deserialize(self) -> tuple[None, type_entry, type_entry, list[Any]]:
        received, self._checked = self._checked, None
        at_start, self._at_start = self._at_start, None
        snapshot = received or at_start or self.load()
        if snapshot is None:
            raise DataError("there is no snapshot to load")
        self.roles = self._roles_after(snapshot, [] if received else self._kept_with(snapshot))
        former = self._machine()
        self._install(snapshot)
        self._let_go(former)
        return None, snapshot.last, snapshot.previous, []

    def getTransmissionData(self, transmissionID: Any) -> Chunk | None:  # noqa: N802, N803
        # While the next one is being written the present one serves: it is replaced at once.
        source, offset = self._outgoing.get(transmissionID) or (self._opened(), 0)
        if source is None:
            return None
        if offset == 0:
            self._hold(transmissionID)
        chunk = chunk_of(source, offset)
        self._outgoing[transmissionID] = (source, offset + len(chunk[0]))
        if chunk[2]:
            self._close(transmissionID)
        return chunk

    def _opened(self) -> bytes | IO[bytes] | None:
        """The newest snapshot; a file is read as it is sent, so that no peer costs memory."""
        if self.path is None:
            return self._in_memory
        try:
            return self.path.open("rb")
        except FileNotFoundError:
            return None

    def setTransmissionData(self, data: Chunk | None) -> bool:  # noqa: N802
        """Take a chunk in; True when a whole, checked, newer snapshot is ready to be loaded."""
        if self._reading is not None:
            return self._take_read()
        received = None if data is None else self._incoming.take(data)
        if received is None:
            return False
        self._reading = self._work(lambda: self._read(received))
        return self._take_read()

    def cancelTransmisstion(self, id_: Any) -> None:  # noqa: N802 - the engine spells it so
        """Said of every peer that is hidden for a while; `forget` is for those that are gone."""

    # ---- ours --------------------------------------------------------------------------------

    def is_due(self, entries_max: int) -> bool:
        """Whether the log that no snapshot holds has become long, or as large as a snapshot is.

        More often than that would write the same state again and again.
        """
        fresh, limit = self._journal.fresh_bytes, max(COMPACT_BYTES, self._size)
        if fresh > ALARM_FACTOR * limit and not self._has_warned:
            self._has_warned = True
            log.warning(
                "the log has grown to %d MiB since the last snapshot, %d tries failed: it takes"
                " memory and disk, and a restart becomes slow",
                fresh // 2**20,
                self.failures,
            )
        entries = self._journal.last_index - self._last_index
        is_long = fresh > limit * self._share or entries > entries_max * self._share
        return is_long and self._running is None and self._now() >= self._pause_until

    def forget(self, peer: Any = None) -> None:
        """Nothing more goes to this peer, or to any: its link is down, or we lead no more."""
        for each in list(self._outgoing) if peer is None else [peer]:
            self._close(each)
        self._held_for = {} if peer is None else _without(self._held_for, peer)
        self._hold_on()

    def _close(self, peer: Any) -> None:
        source, _ = self._outgoing.pop(peer, (b"", 0))
        if not isinstance(source, bytes):
            source.close()

    def _hold(self, peer: Any) -> None:
        """Keep the log behind what this peer is sent: else it needs the next snapshot too."""
        self._held_for[peer] = self._now() + HELD_SECONDS_MAX
        self._hold_on()

    def follows(self, peer: Any, next_index: int) -> None:
        """This peer has all up to there."""
        if peer in self._held_for and next_index + NEAR_ENTRIES > self._journal.last_index:
            self._held_for = _without(self._held_for, peer)
            self._hold_on()

    def _hold_on(self) -> None:
        now = self._now()
        self._held_for = {peer: until for peer, until in self._held_for.items() if now < until}
        self._journal.hold(HELD_FACTOR * max(COMPACT_BYTES, self._size) if self._held_for else 0)

    @property
    def is_reading(self) -> bool:
        """Whether a received snapshot is being read, or was and waits to be loaded."""
        return self._reading is not None

    @property
    def is_read(self) -> bool:
        """Whether a received snapshot waits to be loaded: a word of the leader will do it."""
        return self._reading is not None and self._reading.done()

    def give_up_reading(self) -> None:
        """We lead now, and need nothing that another one sent."""
        self._reading = None

    def stop(self) -> None:
        """The thread shall end what it does."""
        self._is_stopped = True
        self.forget()

    def _between_steps(self) -> None:
        if self._is_stopped:
            raise Stopped
        self._pause()

    def _every_few_steps(self) -> Pause:
        steps = count(1)
        return lambda: None if next(steps) % READ_STEPS else self._between_steps()

    def must_have_loaded(self) -> None:
        """Raise what went wrong while a state was loaded: the engine goes on without it."""
        if self._load_failure is not None:
            raise self._load_failure

    def roles_at_start(self, founders: Roles) -> Roles:
        """The roles as of the newest entry; log and snapshot are made to fit before.

        Errors: DataError when something between them is gone or damaged.
        """
        self._founders = founders
        snapshot = self.load()
        if snapshot is None:
            self._journal.must_be_whole()
            return follow_changes(self._founders, self._journal[:])
        # the engine compares the heads of log and snapshot at its first turn
        self._journal.align(snapshot.previous, snapshot.last)
        self._at_start, self._last_index = snapshot, snapshot.last[1]
        return self._roles_after(snapshot, self._kept_with(snapshot))

    def _kept_with(self, snapshot: Snapshot) -> list[type_entry]:
        """The log, unless the engine throws it away: then no change of members in it counts."""
        entries = self._journal[:]
        return entries if entries[:2] == [snapshot.previous, snapshot.last] else []

    def _let_go(self, machine: Machine) -> None:
        if machine.jobs:
            self._work(lambda: machine.let_go(self._every_few_steps()))

    def _roles_after(self, snapshot: Snapshot, entries: Iterable[type_entry]) -> Roles:
        later = (entry for entry in entries if entry[1] > snapshot.last[1])
        members = snapshot.machine.members  # none: the cluster is not founded yet
        known = self._founders.of(members.values()) if members else self._founders
        return follow_changes(known, later)

    def _note_size(self) -> None:
        if self.path is not None:
            self._size = self.path.stat().st_size
        elif self._in_memory is not None:
            self._size = len(self._in_memory)

    def load(self) -> Snapshot | None:
        """The newest snapshot, checked; None if there is none. Errors: DataError."""
        data = self._newest()
        if data is None:
            return None
        self._size = len(data)
        return decode(data, str(self.path or "the snapshot in memory"))

    def _newest(self) -> bytes | None:
        if self.path is None:
            return self._in_memory
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def _read(self, received: bytes) -> Snapshot | DataError:
        """On the thread: check and read what was received, and put it on the disk."""
        try:
            snapshot = decode(received, "the snapshot sent by the leader", self._every_few_steps())
        except DataError as error:
            return error
        if self.path is None:
            self._received = received
        else:
            write_durably(self.path.with_suffix(".received"), received)
        return snapshot

    def _take_read(self) -> bool:
        if self._reading is None or not self._reading.done():
            return False
        reading, self._reading = self._reading, None
        try:
            snapshot = reading.result()
            if isinstance(snapshot, DataError):
                raise snapshot
            is_accepted = self._accept(snapshot)
        except (DataError, OSError) as error:
            self.failures += 1
            log.error("%s; it is not used", error)
            return False
        if not is_accepted:
            self._let_go(snapshot.machine)
        return is_accepted

    def _accept(self, snapshot: Snapshot) -> bool:
        if snapshot.last[1] <= self._machine().index or self._journal.holds(snapshot.last):
            # Loading it would go back in time, or throw away entries behind it that were vouched
            # for; what is missing here comes with the next entries.
            return False
        if self.path is None:
            self._in_memory = self._received
        else:
            self.path.with_suffix(".received").replace(self.path)
            sync_folder(self.path.parent)
        self._running = None  # it is older: what the thread still writes must not come on top
        self._checked, self._last_index = snapshot, snapshot.last[1]
        self._note_size()
        return True


def _share(chance: Callable[[], float]) -> float:
    """Of the limit: all nodes have the same log, and should not write all at once."""
    return 0.75 + chance() / 2


def _without(held_for: dict[Any, float], peer: Any) -> dict[Any, float]:
    return {each: until for each, until in held_for.items() if each != peer}
