"""The virtual disk of a node: what its journal committed, and how commits go wrong.

The journal's own rules run unchanged; only the database is replaced, by rows that change when
the transaction would. With `RealJournal` the database is real and the rows follow it. The
snapshot is a real file in both, and may be torn at a crash or damaged like the rows.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from exkiq.raft import Journal
from exkiq.raft.journal_file import facts_crc
from tests.sim.clock import Host, PowerCut

SYNC_SECONDS = 0.0002
SECTOR = 512

Row = tuple[bytes, int, int, int]  # body, index, term, checksum


@dataclass
class Disk:
    """Survives the process."""

    name: str
    folder: Path
    entries: list[Row] = field(default_factory=list)
    hard_state: tuple[int, str | None, int, int] | None = None  # with its checksum
    is_real: bool = False  # the journal is a file, of SQLite
    identity: dict[str, bytes] = field(default_factory=dict)
    incarnation: str = "1"
    members: tuple[tuple[str, str], ...] = ()  # names and incarnations with whom it began
    has_joined: bool = False  # by a welcome, as no voter yet
    sync_seconds: float = SYNC_SECONDS
    is_full: bool = False  # no commit succeeds until it is freed
    refuses: bool = False  # syncs fail
    keeps_refused: bool = False  # and yet what they wrote is there after a restart
    former: Disk | None = None  # as it was before it was damaged or replaced
    is_damaged: bool = False  # something in it was changed while the node was down
    failed_life: int = 0  # of the process that has seen a commit fail
    cut_before: Callable[[Journal], bool] | None = None  # power fails before this commit
    cut_after: Callable[[Journal], bool] | None = None
    commits: int = 0
    fresh_from: int = 0  # entries from here on are durable only at `fresh_at`
    fresh_at: float = 0.0
    held_upto: int = 0  # up to here it held what is committed

    def term_at(self, index: int) -> int | None:
        """Term of a durable entry; 0 when compaction took it, None when it is not here."""
        if not self.entries:
            return None
        position = index - self.entries[0][1]
        if position < 0:
            return 0
        return self.entries[position][2] if position < len(self.entries) else None

    def holds(self, index: int, term: int, at: float) -> bool:
        """Whether the entry is durable at that time; it counts if the disk was lost since."""
        if self.former is not None and self.former.holds(index, term, at):
            return True
        is_written = index < self.fresh_from or at >= self.fresh_at
        return is_written and not self.is_damaged and self.term_at(index) in (0, term)

    @property
    def snapshot(self) -> Path:
        return self.folder / "snapshot"

    # ---- while the node is down --------------------------------------------------------------

    def flip(self, chance: Random) -> str:
        """Change one bit of what a restart reads; says where, nothing when there is nothing."""
        files = [self.snapshot]
        if self.is_real:
            files += [self.folder / name for name in ("journal", "journal-wal", "journal-mark")]
        places: list[str | Path] = [path for path in files if path.exists() and path.stat().st_size]
        if not self.is_real:
            places += ["entry"] * bool(self.entries) + ["hard state"] * bool(self.hard_state)
        if not places:
            return ""
        self.former = replace(self, entries=list(self.entries), former=None)
        self.is_damaged = True
        place = chance.choice(places)
        if isinstance(place, Path):
            place.write_bytes(_changed(place.read_bytes(), chance))
            return place.name
        if self.hard_state is not None and place == "hard state":
            term, vote, commit_index, crc = self.hard_state
            numbers = [term, commit_index, crc]
            numbers[chance.randrange(3)] ^= 1 << chance.randrange(20)
            self.hard_state = numbers[0], vote, numbers[1], numbers[2]
            return place
        position = chance.randrange(len(self.entries))
        self.entries[position] = _flipped(self.entries[position], chance)
        return f"entry {position}"


def _changed(data: bytes, chance: Random) -> bytes:
    changed = bytearray(data)
    changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _flipped(row: Row, chance: Random) -> Row:
    body, index, term, crc = row
    column = chance.randrange(4)
    if column == 0 and body:
        return _changed(body, chance), index, term, crc
    bit = 1 << chance.randrange(20)
    if column == 1:
        return body, index ^ bit, term, crc
    return (body, index, term ^ bit, crc) if column == 2 else (body, index, term, crc ^ bit)


class Files:
    """Stands in for `os` where snapshots are written: knows what of them is on the disk."""

    def __init__(self, disks: dict[str, Disk]) -> None:
        self._disks = disks
        self._synced: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        disk = self._disks.get(path.parent.name)
        if disk is not None and disk.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._synced.add(os.fstat(descriptor).st_ino)

    def power_cut(self, disk: Disk, chance: Random) -> None:
        """Of a file that was not synced a part is there; of one being written, too."""
        for path in (disk.snapshot, *map(disk.snapshot.with_suffix, (".next", ".received"))):
            if path.exists() and path.stat().st_ino not in self._synced:
                _tear(path, path.read_bytes(), chance)
            elif not path.exists() and path != disk.snapshot and disk.snapshot.exists():
                _tear(path, disk.snapshot.read_bytes(), chance)


def _tear(path: Path, whole: bytes, chance: Random) -> None:
    path.write_bytes(whole[: SECTOR * chance.randrange(len(whole) // SECTOR + 1)])


Synced = Callable[[Disk], None]


class _Watched(Journal):
    """A journal on a `Disk`."""

    def __init__(self, disk: Disk, host: Host, synced: Synced) -> None:
        self.disk, self._host, self._synced = disk, host, synced
        super().__init__(disk.folder / "journal")

    def _write(self) -> None:
        disk = self.disk
        if disk.failed_life == self._host.life:
            raise AssertionError(f"{disk.name} writes again after a commit that failed")
        self._host.local += disk.sync_seconds
        if disk.is_full or disk.refuses:
            self._fails()
        if disk.cut_before is not None and disk.cut_before(self):
            disk.cut_before = None
            raise PowerCut
        if self._unwritten_from is not None:
            disk.fresh_from, disk.fresh_at = self._unwritten_from, self._host.local
        self._transact()
        disk.commits += 1
        self._synced(disk)
        if disk.cut_after is not None and disk.cut_after(self):
            disk.cut_after = None
            raise PowerCut

    def _fails(self) -> None:
        """Full: nothing is written. A failed sync: it may be there all the same."""
        disk = self.disk
        disk.failed_life = self._host.life
        if disk.is_full:
            raise sqlite3.OperationalError("database or disk is full")
        if disk.keeps_refused:
            self._transact()
            self._synced(disk)
        raise sqlite3.OperationalError("disk I/O error")

    def abandon(self) -> None:
        """The process is gone."""
        self._db.close()
        if self._mark is not None:
            self._mark.close()

    def _transact(self) -> None:
        super()._write()

    def _follow(self) -> None:
        """What the transaction does to the durable rows, one statement after the other."""
        rows = self.disk.entries
        if self._cut_from is not None:
            first = rows[0][1] if rows else 0
            rows = rows[: max(0, self._cut_from - first)]
        if self._unwritten_from is not None:
            new = [(body, index, term, crc) for index, term, body, crc in self._unwritten_rows()]
            if rows and new and new[0][1] <= rows[-1][1]:
                raise sqlite3.IntegrityError("UNIQUE constraint failed: entry.idx")
            rows.extend(new)
        if self._cut_below is not None and rows:
            rows = rows[max(0, self._cut_below - rows[0][1]) :]
        self.disk.entries = rows
        facts = (self._term, self._vote, self._commit_index)
        self.disk.hard_state = (*facts, facts_crc(*facts))


class _Answer(list[tuple[Any, ...]]):
    def fetchone(self) -> tuple[Any, ...] | None:
        return self[0] if self else None


class _Rows:
    """In place of the database: what the journal asks when it is opened."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def execute(self, statement: str) -> _Answer:
        if "quick_check" in statement:
            return _Answer([("ok",)])
        if "hard_state" in statement:
            return _Answer([] if self._disk.hard_state is None else [self._disk.hard_state])
        return _Answer((index, term, body, crc) for body, index, term, crc in self._disk.entries)

    def close(self) -> None: ...


class SimJournal(_Watched):
    """All of it in memory."""

    def _open(self, path: Path | None) -> Any:
        return _Rows(self.disk)

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
        disk = self.disk
        there = (self._term, self._vote, self._commit_index)
        if self._entries != [row[:3] for row in disk.entries] or (
            disk.hard_state is not None and there != disk.hard_state[:3]
        ):
            raise AssertionError(f"{disk.name}: the database is not what was committed")

    def abandon(self) -> None:
        """As a crash leaves the files: closing them in good order would tidy up."""
        folder = self.disk.folder
        images = {path: path.read_bytes() for path in folder.glob("journal*")}
        super().abandon()
        for path, image in images.items():
            path.write_bytes(image)
