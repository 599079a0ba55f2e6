"""Snapshots: the state machine's bytes with the two log entries they end at.

One file, `snapshot`, in the data folder:

    magic (8) | SHA-256 of the rest (32) | length of the head (4) | head, msgpack | machine bytes

The head holds the last two applied entries, which the engine needs to match the log to the
snapshot. A snapshot is written under another name by a thread, synced, renamed, and its folder
synced, before the engine is told; only then is the log trimmed. A received one is checked whole
before it replaces anything.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgpack
from pysyncobj.config import SERIALIZER_STATE
from pysyncobj.node import Node

from exkiq.errors import DataError
from exkiq.machine import Machine, encode_snapshot
from exkiq.machine.limits import FRAME_BYTES_MAX
from exkiq.raft.journal import Journal, type_entry
from exkiq.raft.membership import follow_changes
from exkiq.telemetry import log

MAGIC = b"exkiqsn1"
CHUNK_BYTES = 256 * 1024  # well under a frame, so that heartbeats pass between chunks
RECEIVED_BYTES_MAX = 1024 * FRAME_BYTES_MAX  # 16 GiB: no peer can fill the disk without end
FAILED_PAUSE_SECONDS = 30.0  # a full disk is full in the next turn too, and a capture costs time


class Work(Protocol):
    """Runs a function elsewhere: a thread pool, or at once in a simulation."""

    def __call__(self, function: Callable[[], bytes | None], /) -> Future[bytes | None]: ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A decoded snapshot: the state as of `last`, and the entry before it."""

    previous: type_entry
    last: type_entry
    machine: Machine


def encode(previous: type_entry, last: type_entry, machine: bytes) -> bytes:
    """The bytes of a snapshot file."""
    head: bytes = msgpack.packb([list(previous), list(last)])
    rest = struct.pack(">I", len(head)) + head + machine
    return MAGIC + hashlib.sha256(rest).digest() + rest


def decode(data: bytes, where: str) -> Snapshot:
    """Check and read a snapshot.

    Errors: DataError naming `where` and what is wrong.
    """
    if data[:8] != MAGIC:
        raise DataError(f"{where} is no snapshot of this exkiq")
    if hashlib.sha256(memoryview(data)[40:]).digest() != data[8:40]:
        raise DataError(f"{where} is damaged: its checksum is wrong")
    try:
        (length,) = struct.unpack_from(">I", data, 40)
        previous, last = msgpack.unpackb(data[44 : 44 + length])
        machine = Machine.restore(data[44 + length :])
        return Snapshot(_entry(previous), _entry(last), machine)
    except (ValueError, TypeError, struct.error) as error:
        raise DataError(f"{where} cannot be read: {error}") from error


def _entry(fields: list[Any]) -> type_entry:
    body, index, term = fields
    return bytes(body), int(index), int(term)


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
        self._running: Future[bytes | None] | None = None
        self._running_id = 0
        self._outgoing: dict[Any, tuple[bytes, int]] = {}
        self._incoming: bytearray | None = None
        self._checked: Snapshot | None = None  # received, and not loaded yet
        self._founders: tuple[str, ...] = ()
        self._at_start: Snapshot | None = None  # read, and not loaded yet

    # ---- what the engine calls ---------------------------------------------------------------

    def serialize(self, data: tuple[Any, type_entry, type_entry, Any], id_: int) -> None:
        if self._running is not None or self._now() < self._pause_until:
            return
        _, last, previous, _ = data
        capture = self._machine().capture()
        path = self.path

        def write() -> bytes | None:
            encoded = encode(previous, last, encode_snapshot(capture))
            if path is None:
                return encoded
            _write_durably(path.with_suffix(".next"), encoded)
            return None

        self._running_id = id_
        self._running = self._work(write)

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
                _sync_folder(self.path.parent)
        except Exception as error:  # noqa: BLE001 - the log is whole, so the node goes on without
            self.failures += 1
            self._pause_until = self._now() + FAILED_PAUSE_SECONDS
            log.error("a snapshot could not be written: %s; the log keeps growing", error)
            return SERIALIZER_STATE.FAILED, self._running_id
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
        # of a log that is about to be thrown away no change of members counts
        names = self._members_after(snapshot, self._journal[:] if received is None else [])
        self._install(snapshot)
        return None, snapshot.last, snapshot.previous, [Node(name) for name in sorted(names)]

    def getTransmissionData(self, transmissionID: Any) -> tuple[bytes, bool, bool] | None:  # noqa: N802, N803
        # While the next one is being written the present one serves: it is replaced at once.
        data, offset = self._outgoing.get(transmissionID) or (self._newest(), 0)
        if data is None:
            return None
        chunk = data[offset : offset + CHUNK_BYTES]
        is_last = offset + len(chunk) >= len(data)
        if is_last:
            self._outgoing.pop(transmissionID, None)
        else:
            self._outgoing[transmissionID] = (data, offset + len(chunk))
        return chunk, offset == 0, is_last

    def setTransmissionData(self, data: tuple[bytes, bool, bool] | None) -> bool:  # noqa: N802
        """Take a chunk in; True when a whole, checked, newer snapshot is ready to be loaded."""
        if data is None:
            return False
        chunk, is_first, is_last = data
        if is_first:
            self._incoming = bytearray()
        if self._incoming is None or len(self._incoming) + len(chunk) > RECEIVED_BYTES_MAX:
            self._incoming = None
            return False
        self._incoming += chunk
        if not is_last:
            return False
        received, self._incoming = bytes(self._incoming), None
        return self._accept(received)

    def cancelTransmisstion(self, id_: Any) -> None:  # noqa: N802 - the engine spells it so
        """Said of every peer that is hidden for a while; `forget` is for those that are gone."""

    # ---- ours --------------------------------------------------------------------------------

    def forget(self, peer: Any = None) -> None:
        """Nothing more goes to this peer, or to any: its link is down, or we lead no more."""
        if peer is None:
            self._outgoing.clear()
        else:
            self._outgoing.pop(peer, None)

    def must_have_loaded(self) -> None:
        """Raise what went wrong while a state was loaded: the engine goes on without it."""
        if self._load_failure is not None:
            raise self._load_failure

    def members_at_start(self, founders: Iterable[str]) -> set[str]:
        """The members as of the newest entry; log and snapshot are made to fit before.

        Errors: DataError when something between them is gone or damaged.
        """
        self._founders = tuple(founders)
        snapshot = self.load()
        if snapshot is None:
            self._journal.must_be_whole()
            return follow_changes(self._founders, self._journal[:])
        # the engine compares the heads of log and snapshot at its first turn
        self._journal.align(snapshot.previous, snapshot.last)
        self._at_start = snapshot
        return self._members_after(snapshot, self._journal[:])

    def _members_after(self, snapshot: Snapshot, entries: Iterable[type_entry]) -> set[str]:
        later = (entry for entry in entries if entry[1] > snapshot.last[1])
        known = snapshot.machine.members or self._founders  # none: the cluster is not founded yet
        return follow_changes(known, later)

    def load(self) -> Snapshot | None:
        """The newest snapshot, checked; None if there is none. Errors: DataError."""
        data = self._newest()
        return None if data is None else decode(data, str(self.path or "the snapshot in memory"))

    def _newest(self) -> bytes | None:
        if self.path is None:
            return self._in_memory
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def _accept(self, received: bytes) -> bool:
        try:
            snapshot = decode(received, "the snapshot sent by the leader")
        except DataError as error:
            self.failures += 1
            log.error("%s; it is not used", error)
            return False
        if snapshot.last[1] <= self._machine().index or self._journal.holds(snapshot.last):
            # Loading it would go back in time, or throw away entries behind it that were vouched
            # for; what is missing here comes with the next entries.
            return False
        if self.path is None:
            self._in_memory = received
        else:
            _write_durably(self.path.with_suffix(".received"), received)
            self.path.with_suffix(".received").replace(self.path)
            _sync_folder(self.path.parent)
        self._checked = snapshot
        return True


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
