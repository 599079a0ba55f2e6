"""The journal's file: its tables, how it is opened, and the checksums in it."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path

from exkiq.errors import DataError, ExkiqError

SCHEMA_VERSION = 2

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
    try:
        db = sqlite3.connect(
            path if path is not None else ":memory:",
            isolation_level=None,
            check_same_thread=False,
        )
        for pragma in _PRAGMAS:
            db.execute(f"PRAGMA {pragma}")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for table in _TABLES:
                db.execute(table)
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    except sqlite3.Error as error:
        raise damaged(str(error)) from error
    if version not in (0, SCHEMA_VERSION):
        db.close()
        raise DataError(
            f"{path} has format {version}; this exkiq reads {SCHEMA_VERSION}: "
            "start the exkiq that wrote it"
        )
    return db


def is_unused(db: sqlite3.Connection, damaged: Callable[[str], DataError]) -> bool:
    """Whether nothing was ever committed to it. Errors: DataError."""
    query = "SELECT (SELECT count(*) FROM hard_state) + (SELECT count(*) FROM identity)"
    try:
        return not db.execute(query).fetchone()[0]
    except sqlite3.Error as error:
        raise damaged(str(error)) from error
