"""The file of a queue of one process: entries, and the state that they begin from, in SQLite.

The rules of this file:

- `append` returns after the entry is on the disk (WAL, synchronous=FULL). Once it has failed it
  fails for ever, since nobody knows what a second sync would mean.
- The state is written piece by piece, made on a thread, each with the entry that comes next; it
  counts from the commit of its last piece on. Then what it holds is deleted, some at a time.
- Every row carries a CRC-32, checked when the file is opened, and a state its own hash besides.
- SQLite's log of the file is looked at first: where it is damaged SQLite would take that for its
  end, and what stands behind it would be lost unsaid.
- SQLite's own lock keeps a second process away; it is held as long as the file is open.
"""

from __future__ import annotations

import ctypes
import sqlite3
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

from exkiq.errors import ConfigError, DataError, ExkiqError
from exkiq.machine import Capture, Machine, encode_pieces
from exkiq.queues.local_wal import is_log_damaged
from exkiq.telemetry import log

P = ParamSpec("P")
T = TypeVar("T")

FORMAT = 1
APPLICATION_ID = 0x65786B71  # "exkq": `file` and SQLite's own tools show it

SNAPSHOT_ENTRIES = 10_000
SNAPSHOT_BYTES = 32 * 1024 * 1024  # of entries: a second or two of reading at a start
PIECE_BYTES = 512 * 1024  # what one commit takes along
DELETED_ROWS = 1_000  # with one commit; more would be felt

_PRAGMAS = (
    "locking_mode=EXCLUSIVE",
    "journal_mode=WAL",
    "synchronous=FULL",
)
_TABLES = (
    "CREATE TABLE entry (idx INTEGER PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL)",
    "CREATE TABLE piece (upto INTEGER, number INTEGER, body BLOB NOT NULL, crc INTEGER NOT NULL,"
    " PRIMARY KEY (upto, number))",
    "CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), upto INTEGER, pieces INTEGER)",
    f"PRAGMA application_id={APPLICATION_ID}",
    f"PRAGMA user_version={FORMAT}",
)
WAY_OUT = "put a copy of it back, or move it away and begin with an empty one"
LOG_WAY_OUT = "put copies of both back, or move both away and begin with an empty one"
_ERRORS = (sqlite3.Error, UnicodeDecodeError)


class LocalJournal:
    """The file of one house, open and locked. `machine` is what it holds.

    Errors: ConfigError when it is in use or cannot be opened; DataError when it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._failure: ExkiqError | None = None
        self._writing: _Writing | None = None
        self._db = _opened(path)
        try:
            self._upto = 0
            self.machine = self._read()
        except _ERRORS as error:
            self._db.close()
            raise self._damaged(str(error)) from error
        except BaseException:
            self._db.close()
            raise
        self._delete_below, self._is_deleting = self._upto + 1, True
        self._fresh_entries = self.machine.index - self._upto
        self._fresh_bytes = 0

    # ---- reading -----------------------------------------------------------------------------

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self.path} is damaged ({what}): {WAY_OUT}")

    def _read(self) -> Machine:
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise self._damaged(" ".join(str(verdict).split()))
        machine = self._read_state()
        rows = self._db.execute(
            "SELECT idx, body, crc FROM entry WHERE idx > ? ORDER BY idx", (self._upto,)
        )
        for index, body, crc in rows:
            if index != machine.index + 1:
                raise self._damaged(f"entry {machine.index + 1} is missing")
            if type(body) is not bytes or crc != _crc(index, 0, body):
                raise self._damaged(f"the checksum of entry {index} is wrong")
            self._understood(machine.apply, index, body)
        return machine

    def _understood(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the machine makes of it. Errors: DataError for what another release wrote."""
        try:
            return read(*args, **kwargs)
        except DataError as error:
            way_out = f"use the exkiq that wrote it, or {WAY_OUT}"
            raise DataError(f"{self.path} cannot be read here ({error}): {way_out}") from error

    def _read_state(self) -> Machine:
        row = self._db.execute("SELECT upto, pieces FROM state").fetchone()
        self._upto, count = row or (0, 0)
        self._db.execute("DELETE FROM piece WHERE upto <> ?", (self._upto,))  # cut off by a crash
        if not self._upto:
            return Machine()
        data = bytearray()
        number = 0
        query = "SELECT number, body, crc FROM piece WHERE upto = ? ORDER BY number"
        for number, body, crc in self._db.execute(query, (self._upto,)):
            if type(body) is not bytes or crc != _crc(self._upto, number, body):
                raise self._damaged(f"the checksum of piece {number} of its state is wrong")
            data += body
        if number != count:
            raise self._damaged(f"its state has {number} pieces of {count}")
        machine = self._understood(Machine.restore, bytes(data))
        if machine.index != self._upto:
            raise self._damaged(f"its state ends at {machine.index} and not at {self._upto}")
        return machine

    # ---- writing -----------------------------------------------------------------------------

    def append(self, index: int, body: bytes) -> None:
        """Keep an entry; it is on the disk when this returns. Errors: DataError, for ever."""
        if self._failure is not None:
            raise self._failure
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "INSERT INTO entry VALUES (?, ?, ?)", (index, body, _crc(index, 0, body))
            )
            if self._writing is not None:
                self._write_some(self._writing)
            if self._is_deleting:
                self._delete_some()
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._failure = DataError(
                f"{self.path}: {error}; its queues stop, free the disk and start this process again"
            )
            raise self._failure from error
        self._fresh_entries += 1
        self._fresh_bytes += len(body)

    def applied(self, machine: Machine) -> None:
        """An entry was applied: begin a snapshot if there is enough that it would replace."""
        is_due = self._fresh_entries >= SNAPSHOT_ENTRIES or self._fresh_bytes >= SNAPSHOT_BYTES
        if is_due and self._writing is None and not self._is_deleting:
            self._writing = _Writing(machine.index, machine.capture())
            self._fresh_entries = self._fresh_bytes = 0

    def _write_some(self, writing: _Writing) -> None:
        is_over = writing.is_over  # asked first: what is there then is all there will be
        if not is_over and not writing.pieces:
            return
        if writing.pieces:
            writing.written += 1
            piece = writing.pieces.popleft()
            row = (writing.upto, writing.written, piece, _crc(writing.upto, writing.written, piece))
            self._db.execute("INSERT INTO piece VALUES (?, ?, ?, ?)", row)
        if is_over and not writing.pieces:
            self._writing = None
            if writing.error is not None:
                log.error("%s: %s", self.path, writing.error)  # the next one may come to its end
                return
            self._upto = writing.upto
            reach = (self._upto, writing.written)
            self._db.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?)", reach)
            self._delete_below, self._is_deleting = self._upto + 1, True

    def _delete_some(self) -> None:
        """What the state holds goes, bit by bit; so do the pieces of an earlier one."""
        entries = self._db.execute(
            "DELETE FROM entry WHERE idx IN (SELECT idx FROM entry WHERE idx < ? LIMIT ?)",
            (self._delete_below, DELETED_ROWS),
        ).rowcount
        pieces = self._db.execute(
            "DELETE FROM piece WHERE rowid IN (SELECT rowid FROM piece WHERE upto < ? LIMIT 8)",
            (self._upto,),
        ).rowcount
        self._is_deleting = entries == DELETED_ROWS or pieces == 8

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        if self._writing is not None:
            self._writing.is_given_up = True
            self._writing.thread.join()
            self._writing = None
        self._db.close()

    def leave_to_parent(self) -> None:
        """In a child after a fork: never close it here, which would write to the parent's file."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._db))


class _Writing:
    """A snapshot that is being made: pieces come from a thread."""

    def __init__(self, upto: int, capture: Capture) -> None:
        self.upto = upto
        self.pieces: deque[bytes] = deque()
        self.written = 0
        self.is_over = self.is_given_up = False
        self.error: ExkiqError | None = None
        self._capture: Capture | None = capture
        self.thread = threading.Thread(
            target=self._make, name="exkiq local snapshot", args=(capture,), daemon=True
        )
        self.thread.start()

    def _make(self, capture: Capture) -> None:
        try:
            for piece in _large(encode_pieces(capture)):
                if self.is_given_up:
                    return
                self.pieces.append(piece)
        except Exception as error:  # noqa: BLE001 - told to who writes
            self.error = DataError(f"a snapshot could not be made: {error!r}")
        finally:
            self._capture = None
            self.is_over = True


def _large(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces worth a row."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        if len(gathered) >= PIECE_BYTES:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)


def _crc(*facts_and_body: int | bytes) -> int:
    *facts, body = facts_and_body
    return zlib.crc32(body, zlib.crc32(repr(facts).encode()))  # type: ignore[arg-type]


def _opened(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_log_damaged(path):
            raise DataError(f"{path}-wal, a part of {path.name}, is damaged: {LOG_WAY_OUT}")
        db = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
    except (OSError, *_ERRORS) as error:
        raise ConfigError(f"the queue's file {path} cannot be opened: {error}") from error
    try:
        _prepare(db, path)
    except sqlite3.OperationalError as error:
        db.close()
        if "locked" in str(error):
            raise ConfigError(
                f"the queue's file {path} is in use by another process: end that one first, or"
                " choose another path"
            ) from error
        raise ConfigError(f"the queue's file {path} cannot be used: {error}") from error
    except _ERRORS as error:
        db.close()
        raise DataError(f"{path} is no file of a queue, or damaged ({error}): {WAY_OUT}") from error
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Lock the file, and make its tables if it is new."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    is_empty = not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if version != FORMAT and not (version == 0 and is_empty):
        owner = db.execute("PRAGMA application_id").fetchone()[0]
        whose = (
            "has another format: use the exkiq that wrote it"
            if owner == APPLICATION_ID
            else ("belongs to something else: choose another path")
        )
        raise DataError(f"{path} is no file of a queue of this exkiq, it {whose}")
    for pragma in _PRAGMAS:
        db.execute(f"PRAGMA {pragma}")
    db.execute("BEGIN EXCLUSIVE")
    if version == 0:
        for table in _TABLES:
            db.execute(table)
    db.execute("COMMIT")
