"""The bytes of a snapshot: the state machine's, with the two log entries they end at.

    magic (8) | SHA-256 of the rest (32) | length of the head (4) | head, msgpack | machine bytes

The head holds the last two applied entries, which the engine needs to match the log to the
snapshot. Writing and reading go in small steps with pauses between them: they happen on a
thread, and the loop must not wait for the interpreter.
"""

from __future__ import annotations

import gc
import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgpack

from exkiq.errors import DataError
from exkiq.machine import Capture, Machine, encode_pieces
from exkiq.raft.journal import type_entry
from exkiq.raft.journal_file import WAY_OUT

MAGIC = b"exkiqsn1"
SYNC_BYTES = 4 * 1024 * 1024  # one sync of all of it would hold up those of the journal

Pause: TypeAlias = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A decoded snapshot: the state as of `last`, and the entry before it."""

    previous: type_entry
    last: type_entry
    machine: Machine

    def must_be_of(self, cluster_id: str, where: Path | None) -> None:
        """Errors: DataError when it was made by another cluster."""
        other = self.machine.cluster_id
        if other and other != cluster_id:
            raise DataError(f"{where} is a snapshot of another cluster, {other}: {WAY_OUT}")


def no_pause() -> None:
    """For those who have nobody to wait for."""


def encode(previous: type_entry, last: type_entry, capture: Capture, pause: Pause) -> bytes:
    """The bytes of a snapshot."""
    rest = bytearray()
    for piece in _pieces(previous, last, capture):
        rest += piece
        pause()
    return MAGIC + hashlib.sha256(rest).digest() + rest


def write(
    path: Path, previous: type_entry, last: type_entry, capture: Capture, pause: Pause
) -> None:
    """Write the bytes of a snapshot to a file, and return when they are on the disk."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        file.write(MAGIC + bytes(digest.digest_size))
        unsynced = 0
        for piece in _pieces(previous, last, capture):
            digest.update(piece)
            file.write(piece)
            unsynced += len(piece)
            if unsynced > SYNC_BYTES:
                file.flush()
                os.fsync(file.fileno())
                unsynced = 0
            pause()
        file.seek(len(MAGIC))
        file.write(digest.digest())
        file.flush()
        os.fsync(file.fileno())


def _pieces(previous: type_entry, last: type_entry, capture: Capture) -> Iterator[bytes]:
    head = msgpack.packb([list(previous), list(last)])
    yield struct.pack(">I", len(head)) + head
    yield from encode_pieces(capture)


def decode(data: bytes, where: str, pause: Pause = no_pause) -> Snapshot:
    """Check and read a snapshot.

    Errors: DataError naming `where` and what is wrong.
    """
    view = memoryview(data)
    if data[:8] != MAGIC:
        raise DataError(f"{where} is no snapshot of this exkiq: {WAY_OUT}")
    if hashlib.sha256(view[40:]).digest() != data[8:40]:
        raise DataError(f"{where} is damaged (its checksum is wrong): {WAY_OUT}")
    try:
        (length,) = struct.unpack_from(">I", data, 40)
        previous, last = msgpack.unpackb(view[44 : 44 + length])
        with _no_collections():
            machine = Machine.restore(view[44 + length :], pause)
        return Snapshot(_entry(previous), _entry(last), machine)
    except (ValueError, TypeError, struct.error) as error:
        raise DataError(f"{where} cannot be read ({error}): {WAY_OUT}") from error


def _entry(fields: list[object]) -> type_entry:
    body, index, term = fields
    if not (isinstance(body, bytes) and isinstance(index, int) and isinstance(term, int)):
        raise TypeError("an entry of other types")
    return body, index, term


@contextmanager
def _no_collections() -> Iterator[None]:
    """All that is made here stays: looking for garbage in it takes half as long again.

    It goes to the oldest objects at once, by way of the frozen ones: the first collection of new
    ones would walk all of it, and for a second the loop would stand still.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and return when it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
