"""A snapshot on its way: cut into chunks here, put together there.

Each chunk says which snapshot it is of and where in it it stands. Without that the rest of one
leader's snapshot could be taken for the rest of another's: the checksum would find it out, but
only after all of it was sent, and each time again.
"""

from __future__ import annotations

from os import SEEK_END
from typing import IO, TypeAlias

from exkiq.machine.limits import FRAME_BYTES_MAX

CHUNK_BYTES = 256 * 1024  # well under a frame, so that heartbeats pass between chunks
RECEIVED_BYTES_MAX = 1024 * FRAME_BYTES_MAX  # 16 GiB: no peer can fill the disk without end
ID_BEGIN, ID_END = 8, 16  # in the file: the beginning of its checksum

# (data, its place in the file, whether it is the last, which snapshot); the engine reads the third
Chunk: TypeAlias = tuple[bytes, int, bool, bytes]


def chunk_of(source: bytes | IO[bytes], offset: int) -> Chunk:
    """The chunk at `offset` of a snapshot in memory or in a file."""
    if isinstance(source, bytes):
        size, id_ = len(source), source[ID_BEGIN:ID_END]
        data = source[offset : offset + CHUNK_BYTES]
    else:
        size = source.seek(0, SEEK_END)
        source.seek(ID_BEGIN)
        id_ = source.read(ID_END - ID_BEGIN)
        source.seek(offset)
        data = source.read(CHUNK_BYTES)
    return data, offset, not data or offset + len(data) >= size, id_


class Incoming:
    """What has come of one snapshot."""

    def __init__(self) -> None:
        self._data: bytearray | None = None
        self._id = b""

    def take(self, chunk: Chunk) -> bytes | None:
        """One more chunk; the whole snapshot with its last one.

        A chunk that does not continue what is here ends it: the next first one begins anew.
        """
        data, offset, is_last, id_ = chunk
        if offset == 0:
            self._data, self._id = bytearray(), id_
        if self._data is None:
            return None
        fits = (offset, id_) == (len(self._data), self._id)
        if not fits or offset + len(data) > RECEIVED_BYTES_MAX:
            self._data = None
            return None
        self._data += data
        if not is_last:
            return None
        whole, self._data = bytes(self._data), None
        return whole
