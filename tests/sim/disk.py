"""The virtual disk of a node: what its journal committed, and how commits go wrong.

The journal's own rules run unchanged; only the database is replaced, by a list that changes
when the transaction would. With `RealJournal` the database is real and the list follows it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exkiq.raft import Journal
from exkiq.raft.journal import type_entry
from tests.sim.clock import Host, PowerCut

SYNC_SECONDS = 0.0002


@dataclass
class Disk:
    """Survives the process."""

    name: str
    folder: Path
    entries: list[type_entry] = field(default_factory=list)
    hard_state: tuple[int, str | None, int] | None = None
    identity: dict[str, bytes] = field(default_factory=dict)
    sync_seconds: float = SYNC_SECONDS
    refuses: bool = False  # the next commit fails
    cut_before: Callable[[Journal], bool] | None = None  # power fails before this commit
    cut_after: Callable[[Journal], bool] | None = None
    commits: int = 0
    held_upto: int = 0  # up to here it held what is committed

    def term_at(self, index: int) -> int | None:
        """Term of a durable entry; 0 when compaction took it, None when it is not here."""
        if not self.entries:
            return None
        position = index - self.entries[0][1]
        if position < 0:
            return 0
        return self.entries[position][2] if position < len(self.entries) else None


Synced = Callable[[Disk], None]


class _Watched(Journal):
    """A journal on a `Disk`."""

    def __init__(self, disk: Disk, host: Host, synced: Synced) -> None:
        self.disk, self._host, self._synced = disk, host, synced
        super().__init__(disk.folder / "journal")

    def _write(self) -> None:
        disk = self.disk
        self._host.local += disk.sync_seconds
        if disk.refuses:
            disk.refuses = False
            raise sqlite3.OperationalError("disk I/O error")
        if disk.cut_before is not None and disk.cut_before(self):
            disk.cut_before = None
            raise PowerCut
        self._transact()
        disk.commits += 1
        self._synced(disk)
        if disk.cut_after is not None and disk.cut_after(self):
            disk.cut_after = None
            raise PowerCut

    def _transact(self) -> None:
        super()._write()

    def _follow(self) -> None:
        """What the transaction does to the durable rows, one statement after the other."""
        rows = self.disk.entries
        if self._cut_from is not None:
            first = rows[0][1] if rows else 0
            rows = rows[: max(0, self._cut_from - first)]
        if self._unwritten_from is not None:
            new = [(body, index, term) for index, term, body, _ in self._unwritten_rows()]
            if rows and new and new[0][1] <= rows[-1][1]:
                raise sqlite3.IntegrityError("UNIQUE constraint failed: entry.idx")
            rows.extend(new)
        if self._cut_below is not None and rows:
            rows = rows[max(0, self._cut_below - rows[0][1]) :]
        self.disk.entries = rows
        self.disk.hard_state = (self._term, self._vote, self._commit_index)


class _NoDatabase:
    def close(self) -> None: ...


class SimJournal(_Watched):
    """All of it in memory."""

    def _open(self, path: Path | None) -> Any:
        return _NoDatabase()

    def _load(self) -> None:
        self._entries = list(self.disk.entries)
        if self.disk.hard_state is not None:
            self._term, self._vote, self._commit_index = self.disk.hard_state

    def _transact(self) -> None:
        self._follow()
        self._cut_from = self._unwritten_from = self._cut_below = None
        self._hard_state_changed = False

    def identity(self, key: str) -> bytes | None:
        return self.disk.identity.get(key)

    def set_identity(self, facts: dict[str, bytes]) -> None:
        self.disk.identity.update(facts)


class RealJournal(_Watched):
    """SQLite in the disk's folder."""

    def _transact(self) -> None:
        before = (self._cut_from, self._unwritten_from, self._cut_below)
        super()._transact()
        after = (self._cut_from, self._unwritten_from, self._cut_below)
        self._cut_from, self._unwritten_from, self._cut_below = before
        self._follow()
        self._cut_from, self._unwritten_from, self._cut_below = after

    def _load(self) -> None:
        super()._load()
        if self._entries != self.disk.entries:
            raise AssertionError(f"{self.disk.name}: the database is not what was committed")
