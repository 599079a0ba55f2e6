"""How far a journal reached, kept outside of it: its own file cannot tell that its end is gone.

SQLite reads its write-ahead log up to the first frame that is wrong and takes the rest for
what a crash left unfinished; and a journal that was put back from a copy is whole in itself.
Both would make a node forget what it vouched for. So the term, and the place of the newest
entry, are written to a file of 32 bytes after each commit. It is not synced each time: after a
power cut it may be behind the journal, by what the system had not written yet, never ahead.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from exkiq.durable import sync_folder
from exkiq.errors import DataError
from exkiq.raft.journal_file import WAY_OUT

FILE_NAME = "journal-mark"
_FIELDS = struct.Struct(">4sQQQ")
_CRC = struct.Struct(">I")
_MAGIC = b"exkm"


@dataclass(frozen=True, slots=True, order=True)
class Reach:
    """Where a log ends: entries of a newer term replace longer ones of an older term."""

    last_term: int = 0
    last_index: int = 0


class HighWaterMark:
    """The file beside a journal. Errors: OSError from the disk."""

    def __init__(self, path: Path, *, is_new: bool) -> None:
        """Open the mark of the journal at `path`. Errors: DataError when it is gone or damaged."""
        self.path = path.with_name(FILE_NAME)
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        is_made = is_new and not (self.path.exists() and self.path.stat().st_size)
        try:
            self._file = os.open(self.path, flags | (os.O_CREAT if is_made else 0), 0o600)
        except FileNotFoundError as error:
            raise self._damaged("is missing") from error
        self.term, self.reach = 0, Reach()
        try:
            if is_made:
                self._make()
            else:
                self.term, self.reach = self._read()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        """The file, and its name, must be there when the journal's first commit is."""
        self.put(0, Reach())
        os.fsync(self._file)
        sync_folder(self.path.parent)

    def _read(self) -> tuple[int, Reach]:
        data = os.pread(self._file, 64, 0)
        fields = data[: _FIELDS.size]
        if data[_FIELDS.size :] != _CRC.pack(zlib.crc32(fields)) or fields[:4] != _MAGIC:
            raise self._damaged("is damaged")
        _, term, last_term, last_index = _FIELDS.unpack(fields)
        return term, Reach(last_term, last_index)

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self.path} {what}: {WAY_OUT}")

    def is_beyond(self, term: int, reach: Reach) -> bool:
        """Whether the journal had more than this."""
        return self.term > term or self.reach > reach

    def lower(self, reach: Reach) -> None:
        """The journal is about to end here: if that is a step back, a crash must not find us ahead.

        A log may lose its end to a leader that sends what replaces it in several messages, or to a
        snapshot.
        """
        if reach < self.reach:
            self.put(self.term, reach)
            os.fsync(self._file)

    def put(self, term: int, reach: Reach) -> None:
        """Note what the journal has on the disk now."""
        fields = _FIELDS.pack(_MAGIC, term, reach.last_term, reach.last_index)
        os.pwrite(self._file, fields + _CRC.pack(zlib.crc32(fields)), 0)
        self.term, self.reach = term, reach

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
