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
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgpack
from pysyncobj.config import SERIALIZER_STATE

from exkiq.errors import DataError
from exkiq.machine import Machine, encode_snapshot
from exkiq.machine.limits import FRAME_BYTES_MAX
from exkiq.raft.journal import type_entry
from exkiq.telemetry import log

MAGIC = b"exkiqsn1"
CHUNK_BYTES = 256 * 1024  # well under a frame, so that heartbeats pass between chunks
RECEIVED_BYTES_MAX = 1024 * FRAME_BYTES_MAX  # 16 GiB: no peer can fill the disk without end


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
        machine: Callable[[], Machine],
        members: Callable[[Snapshot], list[Any]],
        install: Callable[[Snapshot], None],
        work: Work,
    ) -> None:
        self.path = path
        self.failures = 0
        self._machine, self._members, self._install, self._work = machine, members, install, work
        self._in_memory: bytes | None = None
        self._running: Future[bytes | None] | None = None
        self._running_id = 0
        self._outgoing: dict[Any, tuple[bytes, int]] = {}
        self._incoming: bytearray | None = None
        self._checked: Snapshot | None = None

    # ---- what the engine calls ---------------------------------------------------------------

    def serialize(self, data: tuple[Any, type_entry, type_entry, Any], id_: int) -> None:
        if self._running is not None:
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
        except OSError as error:
            self.failures += 1
            log.error("a snapshot could not be written: %s; the log keeps growing", error)
            return SERIALIZER_STATE.FAILED, self._running_id
        return SERIALIZER_STATE.SUCCESS, self._running_id

    def deserialize(self) -> tuple[None, type_entry, type_entry, list[Any]]:
        snapshot = self._checked if self._checked is not None else self.load()
        self._checked = None
        if snapshot is None:
            raise DataError("there is no snapshot to load")
        self._install(snapshot)
        return None, snapshot.last, snapshot.previous, self._members(snapshot)

    def getTransmissionData(self, transmissionID: Any) -> tuple[bytes, bool, bool] | None:  # noqa: N802, N803
        if self._running is not None:
            return None
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
        self._outgoing.pop(id_, None)

    # ---- ours --------------------------------------------------------------------------------

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
        if snapshot.last[1] <= self._machine().index:
            return False  # older than what is applied here: loading it would go back in time
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
