"""Damaged data folders: refused with a line that names the file, or as good as before.

A real folder - journal, mark, snapshot, founding, and after a kill the write-ahead log that holds
most of the journal - is changed in one place at a time. Whatever is opened after that must hold
the very same facts.

EXKIQ_TEST_DAMAGES=10000 tries as many changes; the run's seed is in the name of each.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from exkiq.discovery import FileFoundingStore
from exkiq.discovery.facts import Facts, Member
from exkiq.errors import ConfigError, DataError
from exkiq.machine import commands
from exkiq.raft import DataFolder, check
from exkiq.raft.snapshot_file import decode
from tests.raft.world import enqueue_op, pid, world

TRIALS = int(os.environ.get("EXKIQ_TEST_DAMAGES", "300"))
FILES = ("journal", "journal-wal", "journal-mark", "snapshot", "founding.msgpack")
ENTRIES = 60


def make(path: Path, name: str, cluster_id: str) -> Path:
    """A folder as a killed node leaves it: a snapshot, a log behind it, a write-ahead log."""
    data, copy = path / f"{name}-{cluster_id}", path / f"killed-{name}-{cluster_id}"
    folder = DataFolder(data, name, "c", "incarnation")
    folder.close()
    store = FileFoundingStore(data)
    store.save(Facts(cluster_id, (Member("n1", "127.0.0.1:1", "incarnation"),), "n1", None))
    with world() as w:
        member = w.start(name, (name,), data)
        member.journal.set_identity({"cluster_id": cluster_id.encode()})
        replica = w.leader().replica
        found = commands.found(pid(0), cluster_id, [("n1", "incarnation", "127.0.0.1:1")])
        replica.propose(found, 5.0, None)
        for number in range(1, ENTRIES):
            answers: list[object] = []
            replica.propose(enqueue_op(number, size=number * 7), 5.0, answers.append)
            w.run_until(lambda answers=answers: bool(answers))
            if number == ENTRIES // 2:
                replica._engine.forceLogCompaction()
                w.run(0.2)
        shutil.copytree(data, copy)
    return copy


@dataclass(frozen=True)
class Beliefs:
    """Everything that a folder makes a node believe."""

    report: dict[str, str]
    term: int
    vote: str | None
    commit_index: int
    entries: tuple[tuple[bytes, int, int], ...]
    identity: tuple[bytes | None, ...]
    founding: Facts
    snapshot: tuple[object, ...]


def facts_of(path: Path, name: str = "n1") -> Beliefs:
    """What a start reads. Errors: as a start's."""
    report = check(path, lambda: FileFoundingStore(path).load().cluster_id)
    if report.faults:
        raise DataError("; ".join(report.faults))
    folder = DataFolder(path, name, "c", "another")
    with closing(folder):
        founding = FileFoundingStore(path).load()
        folder.belongs_to(founding.cluster_id)
        journal = folder.journal
        snapshot = decode((path / "snapshot").read_bytes(), str(path / "snapshot"))
        snapshot.must_be_of(founding.cluster_id, path / "snapshot")
        return Beliefs(
            report.facts,
            journal.getCurrentTerm(),
            journal.getVotedForNodeId(),
            journal.getRaftCommitIndex(),
            tuple(journal[:]),
            (journal.identity("node"), journal.identity("cluster_id")),
            founding,
            (snapshot.previous, snapshot.last, snapshot.machine.state_hash),
        )


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("folders"), "n1", "id-1")


@pytest.fixture(scope="module")
def stopped(killed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stopped") / "n1"
    shutil.copytree(killed, path)
    facts_of(path)  # opened and closed: the write-ahead log is in the journal now
    return path


@pytest.fixture(scope="module")
def whole(stopped: Path, tmp_path_factory: pytest.TempPathFactory) -> Beliefs:
    copy = tmp_path_factory.mktemp("whole") / "n1"
    shutil.copytree(stopped, copy)
    return facts_of(copy)


def test_the_folder_has_all_that_can_be_damaged(killed: Path, whole: Beliefs) -> None:
    """Damage that is done to nothing shows nothing."""
    assert all((killed / name).stat().st_size > 20 for name in FILES)
    assert int(whole.report["jobs"]) >= ENTRIES - 2  # what was committed last was not said yet
    assert len(whole.entries) > ENTRIES / 3


Damage = Callable[[bytes, Random], bytes]


def flipped(data: bytes, chance: Random) -> bytes:
    spoilt = bytearray(data)
    spoilt[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(spoilt)


def zeroed(data: bytes, chance: Random) -> bytes:
    begin = chance.randrange(len(data))
    end = min(len(data), begin + chance.choice((1, 16, 512, 4096)))
    return data[:begin] + bytes(end - begin) + data[end:]


def noise(data: bytes, chance: Random) -> bytes:
    begin = chance.randrange(len(data))
    end = min(len(data), begin + chance.choice((1, 16, 512, 4096)))
    return data[:begin] + chance.randbytes(end - begin) + data[end:]


def cut(data: bytes, chance: Random) -> bytes:
    return data[: chance.randrange(len(data))]


def emptied(data: bytes, chance: Random) -> bytes:
    return b""


def longer(data: bytes, chance: Random) -> bytes:
    return data + chance.randbytes(chance.choice((1, 24, 4120)))


def moved(data: bytes, chance: Random) -> bytes:
    """A page at the place of another."""
    pages = [data[at : at + 4096] for at in range(0, len(data), 4096)]
    one, other = chance.randrange(len(pages)), chance.randrange(len(pages))
    pages[one] = pages[other]
    return b"".join(pages)


DAMAGES: tuple[Damage, ...] = (flipped, zeroed, noise, cut, emptied, longer, moved)


def must_be_seen_or_harmless(path: Path, damaged: str, whole: Beliefs) -> bool:
    """True when it was refused."""
    line = ""
    try:
        found = facts_of(path)
    except (DataError, ConfigError) as error:
        line = str(error)
    if line:
        assert str(path) in line, f"{damaged}: {line}"
        assert "\n" not in line
        return True
    assert found == whole, f"{damaged} passed for data"
    return False


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_no_damage_passes_for_data(
    end: str, killed: Path, stopped: Path, whole: Beliefs, tmp_path: Path
) -> None:
    """A node would carry on with half a state, or forget what it vouched for."""
    source = killed if end == "killed" else stopped
    files = [name for name in FILES if (source / name).exists()]
    seen = 0
    for seed in range(TRIALS // 2):
        chance = Random(seed)
        name, damage = files[seed % len(files)], DAMAGES[seed // len(files) % len(DAMAGES)]
        path = tmp_path / "n1"
        shutil.copytree(source, path)
        data = (path / name).read_bytes()
        (path / name).write_bytes(damage(data, chance))
        seen += must_be_seen_or_harmless(path, f"{damage.__name__} {name}, seed {seed}", whole)
        shutil.rmtree(path)
    assert seen > TRIALS / 4


def missing() -> Iterator[tuple[str, ...]]:
    yield from ((name,) for name in FILES)
    yield ("journal", "journal-wal")
    yield ("journal", "journal-wal", "journal-mark")
    yield ("journal", "journal-wal", "journal-mark", "snapshot")


@pytest.mark.parametrize("names", list(missing()), ids=" ".join)
def test_a_file_that_is_gone_is_missed(
    killed: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    """The node would begin anew under its old name, and its votes would count."""
    path = tmp_path / "n1"
    shutil.copytree(killed, path)
    for name in names:
        (path / name).unlink()
    with pytest.raises((DataError, ConfigError), match=str(path)):
        facts_of(path)


@pytest.mark.parametrize("other", [("n2", "id-1"), ("n1", "id-2")], ids=" ".join)
@pytest.mark.parametrize(
    "names",
    [
        ("journal", "journal-wal"),
        ("journal", "journal-wal", "journal-mark"),
        ("journal-wal",),
        ("journal-mark",),
        ("founding.msgpack",),
        ("snapshot",),
    ],
    ids=" ".join,
)
def test_a_file_of_another_node_is_refused(
    killed: Path,
    whole: Beliefs,
    tmp_path: Path,
    names: tuple[str, ...],
    other: tuple[str, str],
) -> None:
    """Two nodes would be one, or one node of two clusters. A cluster's snapshots are equal."""
    theirs = make(tmp_path, *other)
    path = tmp_path / "n1"
    shutil.copytree(killed, path)
    for name in names:
        shutil.copy(theirs / name, path / name)
    must_be_seen_or_harmless(path, f"{names} of {other}", whole)


def test_an_older_copy_of_the_journal_is_refused(killed: Path, tmp_path: Path) -> None:
    """Put back from a backup it is whole, and has forgotten what it vouched for."""
    path = tmp_path / "n1"
    shutil.copytree(killed, path)
    with closing(DataFolder(path, "n1", "c", "")):
        pass  # the write-ahead log is in the journal now
    older = (path / "journal").read_bytes()
    with closing(DataFolder(path, "n1", "c", "")) as folder:
        folder.journal.setCurrentTerm(folder.journal.getCurrentTerm() + 1, "n1")
    assert facts_of(path).vote == "n1"
    (path / "journal").write_bytes(older)
    with pytest.raises(DataError, match=r"journal is damaged \(it ends at entry"):
        facts_of(path)
