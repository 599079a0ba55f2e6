"""The journal's file: its tables, how it is opened, and the checksums in it."""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path

from exkiq.errors import DataError, ExkiqError

SCHEMA_VERSION = 2
COMPACT_ROWS_A_COMMIT = 1_000  # deleting more rows or bytes at once would stall the turn
COMPACT_BYTES_A_COMMIT = 4 * 1024 * 1024

WAY_OUT = (
    "move the folder away and start the node again, "
    "it then joins as a new member and copies everything from the others"
)

_PRAGMAS = (
    "locking_mode=EXCLUSIVE",
    "journal_mode=WAL",
    "synchronous=FULL",
    "wal_autocheckpoint=1000",  # 4 MiB: the commit that has to copy more is felt
    "secure_delete=OFF",  # some builds overwrite what is deleted
)
_TABLES = (
    "CREATE TABLE IF NOT EXISTS entry"
    " (idx INTEGER PRIMARY KEY, term INTEGER NOT NULL, body BLOB NOT NULL, crc INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS hard_state (id INTEGER PRIMARY KEY CHECK (id = 1),"
    " term INTEGER NOT NULL, vote TEXT, commit_index INTEGER NOT NULL, crc INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS identity"
    " (key TEXT PRIMARY KEY, value BLOB NOT NULL, crc INTEGER NOT NULL)",
)


# What a damaged file does to SQLite: where its name for something is no text, even the error is.
FILE_ERRORS = (sqlite3.Error, UnicodeDecodeError)


class JournalError(ExkiqError):
    """The disk refused a commit: the node must stop."""


def entry_crc(index: int, term: int, body: bytes) -> int:
    """The checksum kept beside an entry."""
    return zlib.crc32(body, zlib.crc32(b"%d %d" % (index, term)))


def is_entry(index: object, term: object, body: object) -> bool:
    """Whether a row has the types that were written: a flipped bit may change those too."""
    return type(index) is int and type(term) is int and type(body) is bytes


def facts_crc(*facts: int | str | bytes | None) -> int:
    """The checksum kept beside other rows."""
    return zlib.crc32(repr(facts).encode())


def open_database(path: Path | None, damaged: Callable[[str], DataError]) -> sqlite3.Connection:
    """Open the file, or memory, with its tables. Errors: DataError."""
    if path is not None and path.exists() and not os.access(path, os.W_OK):
        raise DataError(f"{path} cannot be written by this user: see to its owner and mode")
    try:
        db = sqlite3.connect(
            path if path is not None else ":memory:",
            isolation_level=None,
            check_same_thread=False,
        )
    except FILE_ERRORS as error:
        raise damaged(str(error)) from error
    try:
        for pragma in _PRAGMAS:
            db.execute(f"PRAGMA {pragma}")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for table in _TABLES:
                db.execute(table)
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        else:
            _write_in_vain(db, version)
    except FILE_ERRORS as error:
        db.close()
        raise damaged(str(error)) from error
    if version not in (0, SCHEMA_VERSION):
        db.close()
        raise DataError(
            f"{path} has format {version}; this exkiq reads {SCHEMA_VERSION}: "
            "start the exkiq that wrote it"
        )
    return db


def _write_in_vain(db: sqlite3.Connection, version: int) -> None:
    """A header may say "only to be read", and SQLite tells it no sooner than at a write."""
    db.execute("BEGIN IMMEDIATE")
    db.execute(f"PRAGMA user_version={version}")
    db.execute("ROLLBACK")


def is_unused(db: sqlite3.Connection, damaged: Callable[[str], DataError]) -> bool:
    """Whether nothing was ever committed to it. Errors: DataError."""
    query = "SELECT (SELECT count(*) FROM hard_state) + (SELECT count(*) FROM identity)"
    try:
        return not db.execute(query).fetchone()[0]
    except FILE_ERRORS as error:
        raise damaged(str(error)) from error


def delete_some(db: sqlite3.Connection, below: int) -> bool:
    """Delete some of the entries below this index, the oldest; True when none is left."""
    rows = db.execute(
        "SELECT idx, length(body) FROM entry WHERE idx < ? ORDER BY idx LIMIT ?",
        (below, COMPACT_ROWS_A_COMMIT),
    ).fetchall()
    room = COMPACT_BYTES_A_COMMIT
    for count, (index, length) in enumerate(rows, 1):
        room -= length
        if room <= 0 or count == COMPACT_ROWS_A_COMMIT:
            db.execute("DELETE FROM entry WHERE idx <= ?", (index,))
            return False
    db.execute("DELETE FROM entry WHERE idx < ?", (below,))
    return True
