"""The file of a local queue: what was acknowledged is in it, and damage is never data."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from exkiq.clock import ManualClock
from exkiq.errors import ConfigError, DataError, OutcomeUnknown, Unavailable
from exkiq.machine import Spec, commands
from exkiq.queues import LocalHouse, local_journal
from exkiq.queues.local_journal import LocalJournal
from tests.aggregator.pretend import Pids

PID = Pids()
SPEC = Spec("app:work", "q")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "q.db"


class Opened:
    """A journal and the house over it."""

    def __init__(self, path: Path) -> None:
        self.journal = LocalJournal(path)
        machine = self.journal.machine
        self.house = LocalHouse(ManualClock(), book=self.journal, machine=machine)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.journal.close()

    def enqueue(self, *ids: str) -> None:
        op = commands.enqueue(PID(), SPEC, list(ids), [b"\x92\x90\x80"] * len(ids))
        self.house.propose_nowait(op)

    @property
    def jobs(self) -> list[str]:
        return list(self.house.machine.jobs)


@pytest.fixture
def kept(path: Path) -> Path:
    """A file with two jobs."""
    with Opened(path) as opened:
        opened.enqueue("1")
        opened.enqueue("2")
    return path


def rows(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608


def test_what_was_applied_is_there_again(kept: Path) -> None:
    """A restart would lose jobs."""
    with Opened(kept) as opened:
        assert opened.jobs == ["1", "2"]
        opened.enqueue("3")
        before = opened.house.machine.state_hash
    with Opened(kept) as opened:
        assert opened.jobs == ["1", "2", "3"]
        assert opened.house.machine.state_hash == before


def test_an_entry_is_on_the_disk_before_anybody_is_told(path: Path) -> None:
    """A power cut would take what was acknowledged."""
    with Opened(path) as opened:
        order: list[str] = []
        opened.house.subscribe(lambda _: order.append("told"))
        statements = opened.journal._db.set_trace_callback
        statements(lambda text: order.append("kept") if text == "COMMIT" else None)
        opened.enqueue("1")
        statements(None)
        assert order == ["kept", "told"]
        assert opened.journal._db.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_a_second_process_is_refused(kept: Path) -> None:
    """Two would write two histories into one file."""
    with Opened(kept), pytest.raises(ConfigError, match=r"q\.db is in use by another process"):
        LocalJournal(kept)


def test_a_state_takes_the_place_of_entries(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file would grow for ever."""
    monkeypatch.setattr(local_journal, "SNAPSHOT_ENTRIES", 20)
    monkeypatch.setattr(local_journal, "PIECE_BYTES", 200)
    with Opened(path) as opened:
        for number in range(200):
            opened.enqueue(f"job {number}")
            writing = opened.journal._writing
            if writing is not None:
                writing.thread.join()
        before = opened.house.machine.state_hash
    assert rows(path, "state") == 1
    assert rows(path, "entry") < 150
    with Opened(path) as opened:
        assert len(opened.jobs) == 200
        assert opened.house.machine.state_hash == before
        opened.enqueue("one more")
        assert len(opened.jobs) == 201


def test_a_state_that_was_not_finished_counts_for_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash while it is written would leave half a state."""
    monkeypatch.setattr(local_journal, "SNAPSHOT_ENTRIES", 5)
    monkeypatch.setattr(local_journal, "PIECE_BYTES", 20)
    with Opened(path) as opened:
        for number in range(7):
            opened.enqueue(f"job {number}")
        assert opened.journal._writing is not None
        opened.journal._writing.thread.join()
        opened.enqueue("job 7")
    assert rows(path, "piece") > 0
    assert rows(path, "state") == 0
    with Opened(path) as opened:
        assert len(opened.jobs) == 8
    assert rows(path, "piece") == 0


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("UPDATE entry SET body = x'00' WHERE idx = 2", "checksum of entry 2"),
        ("DELETE FROM entry WHERE idx = 1", "entry 1 is missing"),
        ("UPDATE entry SET crc = 'text' WHERE idx = 1", "checksum of entry 1"),
        ("INSERT INTO state VALUES (1, 2, 1)", "its state has 0 pieces of 1"),
    ],
)
def test_damage_is_named(kept: Path, damage: str, named: str) -> None:
    """A state that never was would be taken for the truth."""
    with sqlite3.connect(kept) as db:
        db.execute(damage)
    db.close()
    with pytest.raises(DataError, match=named):
        LocalJournal(kept)


def test_another_file_is_left_alone(tmp_path: Path) -> None:
    """A slip in a path would write into somebody else's database, or overwrite a text."""
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE mine (id INTEGER)")
    db.close()
    before = other.read_bytes()
    with pytest.raises(DataError, match="belongs to something else"):
        LocalJournal(other)
    assert other.read_bytes() == before
    text = tmp_path / "text"
    text.write_text("no database at all, but long enough to be looked at\n" * 20)
    with pytest.raises(DataError, match="no file of a queue"):
        LocalJournal(text)
    with pytest.raises(ConfigError, match="cannot be"):
        LocalJournal(tmp_path)


def test_a_later_format_is_refused(kept: Path) -> None:
    """An old program would spoil the file of a newer one."""
    with sqlite3.connect(kept) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(DataError, match="another format"):
        LocalJournal(kept)


def test_a_disk_that_refuses_stops_the_house(path: Path) -> None:
    """Somebody would be told that a job is kept which is not."""
    with Opened(path) as opened:
        opened.enqueue("1")
        opened.journal._db.execute(
            "CREATE TRIGGER full BEFORE INSERT ON entry"
            " BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        )
        told: list[object] = []
        op = commands.enqueue(PID(), SPEC, ["2"], [b""])
        opened.house.propose_with(op, 5.0, told.append)
        assert [type(each) for each in told] == [OutcomeUnknown]
        assert "the disk is full" in str(told[0])
        assert opened.jobs == ["1"]
        with pytest.raises(Unavailable, match="the disk is full"):
            opened.house.propose_with(op, 5.0, told.append)


def test_what_another_release_wrote_is_refused_by_name(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who goes back to an earlier release would not know which file is meant, or lose jobs."""
    journal = LocalJournal(kept)
    journal._upto = 0
    index = journal.machine.index + 1
    monkeypatch.setattr("exkiq.machine.schema.SCHEMA", 2)
    journal.append(index, commands.encode_entry(1, 1, [commands.schema(b"p" * 12, 2)]))
    journal.close()
    LocalJournal(kept).close()
    monkeypatch.setattr("exkiq.machine.schema.SCHEMA", 1)
    for _ in range(2):
        with pytest.raises(DataError, match=rf"{kept}.*schema 2.*use the exkiq that wrote it") as e:
            LocalJournal(kept)
        assert "\n" not in str(e.value)
