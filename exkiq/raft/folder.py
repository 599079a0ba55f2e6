"""A node's data folder: one process at a time, one identity for life, and its check.

lock       held by the running node
journal    SQLite: the Raft log, term, vote, and who this node is
snapshot   the newest snapshot
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgpack

from exkiq.errors import ConfigError, DataError
from exkiq.machine import Machine, check_invariants
from exkiq.raft.journal import Journal
from exkiq.raft.journal_file import WAY_OUT
from exkiq.raft.membership import decode_change
from exkiq.raft.snapshot_file import decode

JOURNAL = "journal"
LOCK = "lock"
CLUSTER_ID = "cluster_id"
LATER_FILES = ("snapshot", "founding.msgpack")  # never there before the journal knows its node


class DataFolder:
    """Opens and locks a folder; knows whose it is. `path` None is a folder in memory."""

    def __init__(self, path: Path | None, name: str, cluster: str, new_incarnation: str) -> None:
        """Errors: ConfigError when it is in use or another node's; DataError when damaged."""
        self.path = path
        self._lock: IO[bytes] | None = None if path is None else _locked(path)
        try:
            self.journal = Journal(None if path is None else path / JOURNAL)
        except BaseException:
            self._unlock()
            raise
        self._take_identity(name, cluster, new_incarnation)

    def _take_identity(self, name: str, cluster: str, new_incarnation: str) -> None:
        saved = self.journal.identity("node")
        if saved is None:
            self._must_be_new()
            self.incarnation = new_incarnation
            facts = msgpack.packb([name, cluster, new_incarnation])
            self.journal.set_identity({"node": facts})
            return
        saved_name, saved_cluster, self.incarnation = msgpack.unpackb(saved)
        if (saved_name, saved_cluster) != (name, cluster):
            self.close()
            raise ConfigError(
                f"{self.path} belongs to node {saved_name!r} of cluster {saved_cluster!r}, not to "
                f"{name!r} of {cluster!r}: choose another --data-dir, or start it as that node"
            )

    def _must_be_new(self) -> None:
        """Without its journal this node would forget its votes and what it vouched for."""
        if self.path is None:
            return
        for name in LATER_FILES:
            if (self.path / name).exists():
                self.close()
                raise DataError(
                    f"{self.path / JOURNAL} is missing or empty, and {name} is there: {WAY_OUT}"
                )

    def belongs_to(self, cluster_id: str) -> None:
        """Keep the cluster's id, or see that it is the one that was kept.

        Errors: DataError when the files of this folder are of two clusters.
        """
        must_agree(self.path, self.journal, cluster_id)
        if cluster_id and self.journal.identity(CLUSTER_ID) is None:
            self.journal.set_identity({CLUSTER_ID: cluster_id.encode()})

    def close(self) -> None:
        """Close the journal and free the lock. May be called twice."""
        self.journal.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def must_agree(path: Path | None, journal: Journal, cluster_id: str) -> None:
    """Errors: DataError when a journal is of another cluster than the file of its founding."""
    saved = journal.identity(CLUSTER_ID)
    if saved is not None and saved != cluster_id.encode():
        what = f"says cluster {cluster_id}" if cluster_id else "is missing or says none"
        raise DataError(
            f"the journal in {path} is of cluster {saved.decode()}, but the file of its "
            f"founding {what}: put the right file back, or {WAY_OUT}"
        )


def unused_folder(path: Path | None, cluster_id: str) -> Path | None:
    """Where the folder of a cluster that was never used can be moved to; None when it cannot."""
    if path is None or path.is_mount() or not os.access(path.parent, os.W_OK):
        return None
    aside = path.with_name(f"{path.name}.unused-{cluster_id}")
    return None if aside.exists() else aside


def _locked(path: Path) -> IO[bytes]:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (path / LOCK).open("ab")
    except OSError as error:
        raise ConfigError(f"the data folder {path} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise ConfigError(
            f"the data folder {path} is in use by another process: stop that node first, "
            "or choose another --name or --data-dir"
        ) from error
    lock.truncate(0)
    lock.write(b"%d\n" % os.getpid())
    lock.flush()
    return lock


@dataclass(slots=True)
class FolderReport:
    """What an offline check found. `faults` empty means the folder is sound."""

    facts: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def check(path: Path, founded: Callable[[], str]) -> FolderReport:
    """Read a whole data folder as a restart would, and verify it.

    Shapes: founded() reads the id of the cluster that the folder was founded with, or DataError.
    Errors: ConfigError when there is no such folder or a node is running on it.
    """
    if not (path / JOURNAL).is_file():
        raise ConfigError(f"{path} is no data folder of a node: there is no journal in it")
    report = FolderReport()
    with _locked(path):
        try:
            _check_locked(path, report, founded)
        except DataError as error:
            report.faults.append(str(error))
    return report


def _check_locked(path: Path, report: FolderReport, founded: Callable[[], str]) -> None:
    journal = Journal(path / JOURNAL)
    try:
        must_agree(path, journal, founded())
        node = journal.identity("node")
        if node is not None:
            report.facts["node"], report.facts["cluster"], _ = msgpack.unpackb(node)
        report.facts["journal"] = f"entries {journal.first_index} to {journal.last_index}"
        machine = _machine_after(path / "snapshot", journal, report)
    finally:
        journal.close()
    report.facts["applied"] = str(machine.index)
    report.facts["state hash"] = machine.state_hash
    report.facts["jobs"] = str(len(machine.jobs))
    report.faults.extend(check_invariants(machine))


def _machine_after(snapshot_path: Path, journal: Journal, report: FolderReport) -> Machine:
    machine = Machine()
    if snapshot_path.is_file():
        snapshot = decode(snapshot_path.read_bytes(), str(snapshot_path))
        cluster_id = journal.identity(CLUSTER_ID)
        if cluster_id is not None:
            snapshot.must_be_of(cluster_id.decode(), snapshot_path)
        machine = snapshot.machine
        report.facts["snapshot"] = f"ends at entry {snapshot.last[1]}"
    else:
        journal.must_be_whole()
    if journal.first_index > machine.index + 1:
        report.faults.append(f"entries {machine.index + 1} to {journal.first_index - 1} are gone")
    for position in range(len(journal)):
        body, index, _ = journal[position]
        if machine.index < index <= journal.getRaftCommitIndex():
            _apply(machine, index, body)
    return machine


def _apply(machine: Machine, index: int, body: bytes) -> None:
    change = decode_change(body)
    if change is not None:
        machine.apply_member(index, change)
    else:
        machine.apply(index, body)
