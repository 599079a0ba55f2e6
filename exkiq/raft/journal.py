"""The Raft journal in SQLite: entries, term, vote, commit index and who we are.

The rules of this file:

- The engine reads entries from memory; the file is read once, when it is opened.
- Changes are gathered and written by `commit`, one transaction for however many entries.
- `commit` returns after the bytes are on the disk (WAL, synchronous=FULL). Nothing may be
  acknowledged, voted or counted before. Once it has failed it fails for ever: a node whose
  disk refused a write stops, since nobody knows what a second sync would mean.
- After a snapshot a tail of what it holds is kept, so that a follower a little behind needs no
  snapshot. Rows are deleted some at a time; the file does not shrink, its pages are used again.
- Every entry carries a CRC-32 over index, term and body, checked when the file is opened.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import overload

from exkiq.errors import DataError
from exkiq.raft.high_water import HighWaterMark, Reach
from exkiq.raft.journal_file import (
    FILE_ERRORS,
    WAY_OUT,
    JournalError,
    delete_some,
    entry_crc,
    facts_crc,
    is_entry,
    is_unused,
    open_database,
)

KEPT_ENTRIES = 10_000  # some ten seconds at full load
KEPT_BYTES = 16 * 1024 * 1024  # of memory

type_entry = tuple[bytes, int, int]  # (body, index, term): the order the engine wants


def _bytes_of(entries: list[type_entry]) -> int:
    return sum([len(body) for body, _, _ in entries])


class Journal:
    """The log of one node, in the shape that the engine expects.

    Duties: keep the log in memory for reading; write changes in one durable transaction; never
    let damage pass for data.

    `path` None keeps everything in memory and promises nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._where = str(path) if path is not None else "the journal in memory"
        self._entries: list[type_entry] = []
        self._unwritten_from: int | None = None  # index of the first entry not in the file
        self._cut_from: int | None = None  # rows at or above it are to be deleted
        self._cut_below: int | None = None  # rows below it are to be deleted
        self._hard_state_changed = False
        self._failure: str | None = None
        self._is_closed = False
        self._term = self._commit_index = 0
        self._vote: str | None = None
        self._mark: HighWaterMark | None = None
        self._db = self._open(path)
        try:
            self._load()
        except BaseException:
            self._close_files()
            raise
        self._bytes = self._fresh_bytes = _bytes_of(self._entries)
        self._held_from, self._held_bytes_max = 0, 0

    # ---- opening -----------------------------------------------------------------------------

    def _open(self, path: Path | None) -> sqlite3.Connection:
        db = open_database(path, self._damaged)
        if path is not None:
            try:
                self._mark = HighWaterMark(path, is_new=is_unused(db, self._damaged))
            except BaseException:
                db.close()
                raise
        return db

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self._where} is damaged ({what}): {WAY_OUT}")

    def _load(self) -> None:
        try:
            verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise self._damaged(" ".join(str(verdict).split()))  # it has several lines
            row = self._db.execute(
                "SELECT term, vote, commit_index, crc FROM hard_state"
            ).fetchone()
            rows = self._db.execute("SELECT idx, term, body, crc FROM entry ORDER BY idx")
            self._entries = list(self._verified(rows))
        except FILE_ERRORS as error:
            raise self._damaged(str(error)) from error
        if row is not None:
            self._term, self._vote, self._commit_index, crc = row
            if crc != facts_crc(*row[:3]):
                raise self._damaged("the checksum of term and vote is wrong")
        elif self._entries:
            raise self._damaged("term and vote are missing")
        if self._mark is not None and self._mark.is_beyond(self._term, self._reach):
            raise self._damaged(
                f"it ends at entry {self.last_index} in term {self._term}, and has held entry "
                f"{self._mark.reach.last_index} in term {self._mark.term}"
            )

    def _verified(self, rows: sqlite3.Cursor) -> Iterator[type_entry]:
        expected: int | None = None
        for index, term, body, crc in rows:
            if expected is not None and index != expected:
                raise self._damaged(f"entry {expected} is missing")
            if not is_entry(index, term, body) or entry_crc(index, term, body) != crc:
                raise self._damaged(f"the checksum of entry {index} is wrong")
            expected = index + 1
            yield body, index, term

    # ---- what the engine calls ---------------------------------------------------------------

    def add(self, command: bytes, idx: int, term: int) -> None:
        self._entries.append((command, idx, term))
        self._bytes += len(command)
        self._fresh_bytes += len(command)
        if self._unwritten_from is None or idx < self._unwritten_from:
            self._unwritten_from = idx

    def clear(self) -> None:
        self._cut_rows_from(0)
        self._cut_below = None
        self._entries = []
        self._bytes = self._fresh_bytes = 0

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803 - the engine's names
        if entryFrom < len(self._entries):
            if self._entries[entryFrom][1] <= self._commit_index:
                raise self._damaged(f"committed entry {self._entries[entryFrom][1]} was to be cut")
            self._cut_rows_from(self._entries[entryFrom][1])
            cut_bytes = _bytes_of(self._entries[entryFrom:])
            self._bytes -= cut_bytes
            self._fresh_bytes -= cut_bytes
            del self._entries[entryFrom:]

    def deleteEntriesTo(self, entryTo: int) -> None:  # noqa: N802, N803
        """A snapshot holds what is before this place."""
        self._fresh_bytes = _bytes_of(self._entries[entryTo:])
        self._drop_to(self._tail_before(entryTo))

    def _tail_before(self, place: int) -> int:
        """Where the entries begin that are kept although a snapshot holds them."""
        first = place = min(place, len(self._entries))
        if self._is_held(place):
            return max(0, self._held_from - self.first_index)
        room = KEPT_BYTES
        while first > 0 and place - first < KEPT_ENTRIES:
            room -= len(self._entries[first - 1][0])
            if room < 0:
                break
            first -= 1
        return first

    def hold(self, size_max: int) -> None:
        """Keep all from the present beginning on, up to so many bytes; 0 to hold no more."""
        if size_max and not self._held_bytes_max:
            self._held_from = self.first_index
        self._held_bytes_max = size_max

    def _is_held(self, place: int) -> bool:
        if not self._held_bytes_max:
            return False
        held = self._entries[max(0, self._held_from - self.first_index) : place]
        return _bytes_of(held) <= self._held_bytes_max

    def _drop_to(self, place: int) -> None:
        # The engine reads the first two entries without asking whether they are there.
        place = min(place, len(self._entries) - 2)
        if place > 0:
            self._bytes -= _bytes_of(self._entries[:place])
            self._entries = self._entries[place:]
            self._cut_below = self._entries[0][1]

    @overload
    def __getitem__(self, item: int) -> type_entry: ...
    @overload
    def __getitem__(self, item: slice) -> list[type_entry]: ...
    def __getitem__(self, item: int | slice) -> type_entry | list[type_entry]:
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    def _destroy(self) -> None:
        """The engine's goodbye; the file is closed by `close`."""

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:  # noqa: N802, N803
        if raftCommitIndex == self._commit_index:
            return
        self._commit_index = raftCommitIndex
        # A leader counts itself: what it counts must be on its own disk first.
        if self._unwritten_from is not None and raftCommitIndex >= self._unwritten_from:
            self.commit()

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        return self._commit_index

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803
        self._term, self._vote = term, votedForNodeId
        self._hard_state_changed = True
        self.commit()  # a vote that can be forgotten is two votes in one term

    def getCurrentTerm(self) -> int:  # noqa: N802
        return self._term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802
        return self._vote

    def onOneSecondTimer(self) -> None:  # noqa: N802
        """Nothing is put off to a timer here."""

    # ---- ours --------------------------------------------------------------------------------

    @property
    def is_clean(self) -> bool:
        """Whether all that the engine added is on the disk."""
        return self._unwritten_from is None and self._cut_from is None

    @property
    def last_index(self) -> int:
        """Index of the newest entry, 0 without one."""
        return self._entries[-1][1] if self._entries else 0

    @property
    def first_index(self) -> int:
        """Index of the oldest entry kept, 0 without one."""
        return self._entries[0][1] if self._entries else 0

    @property
    def size_bytes(self) -> int:
        """How large the entries are, all together."""
        return self._bytes

    @property
    def fresh_bytes(self) -> int:
        """How large those are that no snapshot holds."""
        return self._fresh_bytes

    @property
    def _reach(self) -> Reach:
        return Reach(self._entries[-1][2], self._entries[-1][1]) if self._entries else Reach()

    @property
    def commit_index(self) -> int:
        """The highest index known to be committed."""
        return self._commit_index

    def term_at(self, index: int) -> int | None:
        """Term of an entry, None when it is not here."""
        position = index - self.first_index
        if 0 <= position < len(self._entries):
            return self._entries[position][2]
        return None

    def holds(self, entry: type_entry) -> bool:
        """Whether this entry is in the log, or one that is committed in its place."""
        _, index, term = entry
        return index <= self._commit_index or self.term_at(index) == term

    def commit(self) -> None:
        """Put everything gathered on the disk; return when it is there.

        Errors: JournalError, now and for ever, when the disk refused.
        """
        if self._failure is not None:
            raise JournalError(self._failure)
        if self.is_clean and not self._hard_state_changed and self._cut_below is None:
            return
        try:
            self._write()
        except (sqlite3.Error, OSError) as error:
            self._failure = f"{self._where}: {error}; the node stops, free the disk and restart it"
            raise JournalError(self._failure) from error

    def _write(self) -> None:
        execute = self._db.execute
        execute("BEGIN IMMEDIATE")
        if self._cut_from is not None:
            execute("DELETE FROM entry WHERE idx >= ?", (self._cut_from,))
        if self._unwritten_from is not None:
            self._db.executemany("INSERT INTO entry VALUES (?, ?, ?, ?)", self._unwritten_rows())
        compacted = self._cut_some_below()
        facts = (self._term, self._vote, self._commit_index)
        execute(
            "INSERT OR REPLACE INTO hard_state VALUES (1, ?, ?, ?, ?)", (*facts, facts_crc(*facts))
        )
        if self._mark is not None:
            self._mark.lower(self._reach)
        execute("COMMIT")
        if self._mark is not None:
            self._mark.put(self._term, self._reach)
        self._cut_from = self._unwritten_from = None
        self._hard_state_changed = False
        if compacted:
            self._cut_below = None

    def _unwritten_rows(self) -> list[tuple[int, int, bytes, int]]:
        if not self._entries or self._unwritten_from is None:
            return []
        start = max(0, self._unwritten_from - self._entries[0][1])
        return [
            (index, term, body, entry_crc(index, term, body))
            for body, index, term in self._entries[start:]
        ]

    def _cut_some_below(self) -> bool:
        """Delete a slice of what compaction left behind; True when nothing is left of it."""
        return self._cut_below is None or delete_some(self._db, self._cut_below)

    def _cut_rows_from(self, index: int) -> None:
        if self._cut_from is None or index < self._cut_from:
            self._cut_from = index
        if self._unwritten_from is not None and index <= self._unwritten_from:
            self._unwritten_from = None

    def align(self, first: type_entry, second: type_entry) -> None:
        """Make a snapshot's two entries the head of the log, if the log holds them.

        The engine throws the whole log away at a restart when its head differs from the
        snapshot's, which it does whenever a crash fell between the snapshot and the trim.

        Errors: DataError when entries between the snapshot and the log are gone.
        """
        if not self._entries:
            return
        position = first[1] - self._entries[0][1]
        if position < 0:
            raise self._damaged(f"the snapshot ends before entry {self.first_index}, the oldest")
        if self._entries[position : position + 2] == [first, second]:
            self._drop_to(position)
        self._fresh_bytes = _bytes_of(self._entries[2:])

    def must_be_whole(self) -> None:
        """There is no snapshot. Errors: DataError when the log needs one."""
        if self.first_index > 1:
            raise self._damaged(f"the snapshot of what was before entry {self.first_index} is gone")

    def identity(self, key: str) -> bytes | None:
        """A fact about this node kept beside the log, None if it was never set."""
        query = "SELECT value, crc FROM identity WHERE key = ?"
        try:
            row = self._db.execute(query, (key,)).fetchone()
        except FILE_ERRORS as error:
            raise self._damaged(str(error)) from error
        if row is None:
            return None
        value, crc = row
        if not isinstance(value, bytes) or crc != facts_crc(key, value):
            raise self._damaged(f"the checksum of {key!r} is wrong")
        return value

    def set_identity(self, facts: dict[str, bytes]) -> None:
        """Keep facts about this node, all or none, durably."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            rows = [(key, value, facts_crc(key, value)) for key, value in facts.items()]
            self._db.executemany("INSERT OR REPLACE INTO identity VALUES (?, ?, ?)", rows)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._failure = f"{self._where}: {error}"
            raise JournalError(self._failure) from error

    def close(self) -> None:
        """Write what is left and close the file. May be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._failure is None:
                self._hard_state_changed = True  # the commit index is written seldom otherwise
                self.commit()
        finally:
            self._close_files()

    def _close_files(self) -> None:
        self._db.close()
        if self._mark is not None:
            self._mark.close()
