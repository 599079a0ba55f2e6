"""The journal keeps what it was told to keep, and says so when it cannot."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exkiq.errors import DataError
from exkiq.raft import journal as journal_module
from exkiq.raft.journal import Journal, JournalError


def filled(path: Path, count: int = 10) -> Journal:
    journal = Journal(path)
    for index in range(1, count + 1):
        journal.add(b"body %d" % index, index, 1)
    journal.commit()
    return journal


def test_committed_entries_are_there_after_a_crash(tmp_path: Path) -> None:
    """A crash would lose acknowledged work."""
    journal = filled(tmp_path / "journal")
    journal.add(b"not committed", 11, 1)
    journal._db.close()
    again = Journal(tmp_path / "journal")
    assert [entry[1] for entry in again[:]] == list(range(1, 11))
    again.close()


def test_a_new_mark_and_its_name_are_on_the_disk_before_the_journal_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut would leave a journal without its mark, and the node would refuse to start."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    Journal(tmp_path / "journal").close()
    made = [tmp_path / "journal-mark", tmp_path]
    assert synced == [path.stat().st_ino for path in made]


def test_term_and_vote_are_durable_before_set_current_term_returns(tmp_path: Path) -> None:
    """A forgotten vote is two votes in one term."""
    journal = Journal(tmp_path / "journal")
    journal.setCurrentTerm(7, "n2")
    journal._db.close()
    again = Journal(tmp_path / "journal")
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (7, "n2")
    again.close()


def test_the_commit_index_takes_unwritten_entries_to_the_disk_first(tmp_path: Path) -> None:
    """A leader would count itself for an entry that it can still lose."""
    journal = filled(tmp_path / "journal")
    journal.add(b"new", 11, 1)
    journal.setRaftCommitIndex(11)
    journal._db.close()
    again = Journal(tmp_path / "journal")
    assert again.last_index == 11
    again.close()


def test_a_trim_past_the_end_keeps_two_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine reads the first two entries without asking and would fail for ever."""
    monkeypatch.setattr(journal_module, "KEPT_ENTRIES", 0)
    journal = filled(tmp_path / "journal")
    journal.deleteEntriesTo(50)
    assert [entry[1] for entry in journal[:]] == [9, 10]
    journal.close()


@pytest.mark.parametrize("column", ["body", "term", "idx", "crc"])
def test_a_changed_entry_is_refused(tmp_path: Path, column: str) -> None:
    """A flipped bit would be applied as if it had been proposed."""
    filled(tmp_path / "journal").close()
    db = sqlite3.connect(tmp_path / "journal")
    value = "x'00'" if column == "body" else f"{column} + 100000"
    db.execute(f"UPDATE entry SET {column} = {value} WHERE idx = 5")  # noqa: S608
    db.commit()
    db.close()
    with pytest.raises(DataError, match="damaged"):
        Journal(tmp_path / "journal")


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b"not a database, but long enough to be read" * 100)
    with pytest.raises(DataError, match="move the folder away"):
        Journal(tmp_path / "journal")


def test_lost_term_and_vote_are_refused(tmp_path: Path) -> None:
    """Starting with term 0 would allow a second vote."""
    filled(tmp_path / "journal").close()
    db = sqlite3.connect(tmp_path / "journal")
    db.execute("DELETE FROM hard_state")
    db.commit()
    db.close()
    with pytest.raises(DataError, match="term and vote"):
        Journal(tmp_path / "journal")


def test_after_one_failed_commit_every_commit_fails(tmp_path: Path) -> None:
    """Carrying on after a refused sync would acknowledge what is not on the disk."""
    journal = filled(tmp_path / "journal")
    journal._db.execute("PRAGMA max_page_count = 1")
    journal.add(b"x" * 1_000_000, 11, 1)
    with pytest.raises(JournalError, match="full"):
        journal.commit()
    journal._db.execute("PRAGMA max_page_count = 1000000")
    with pytest.raises(JournalError):
        journal.commit()
    journal._db.close()


def test_align_makes_the_snapshot_s_entries_the_head(tmp_path: Path) -> None:
    """Without it a crash between snapshot and trim throws the whole log away."""
    journal = filled(tmp_path / "journal")
    journal.align(journal[4], journal[5])
    assert journal[0][1] == 5
    journal.align((b"other", 7, 9), (b"other", 8, 9))
    assert journal[0][1] == 5
    journal.close()


operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 5)),
        st.tuples(st.just("cut_from"), st.integers(0, 12)),
        st.tuples(st.just("cut_to"), st.integers(0, 12)),
        st.tuples(st.just("commit"), st.just(0)),
        st.tuples(st.just("clear"), st.integers(1, 40)),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(operations)
def test_the_file_equals_the_memory_after_any_history(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[str, int]]
) -> None:
    """What is read after a restart must be what the engine had when it committed."""
    path = tmp_path_factory.mktemp("journal") / "journal"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module, "KEPT_ENTRIES", 3)
        _check_history(path, history)


def _check_history(path: Path, history: list[tuple[str, int]]) -> None:
    journal = Journal(path)
    journal.add(b"first", 1, 0)
    for verb, number in history:
        if verb == "add":
            for _ in range(number):
                journal.add(b"%d" % number, journal.last_index + 1, number)
        elif verb == "cut_from" and number > 0:
            journal.deleteEntriesFrom(number)
        elif verb == "cut_to":
            journal.deleteEntriesTo(number)
        elif verb == "clear":
            top = journal.last_index + number
            journal.clear()
            journal.add(b"a", top, 1)
            journal.add(b"b", top + 1, 1)
        else:
            journal.commit()
    journal.setCurrentTerm(3, None)
    in_memory = journal[:]
    journal._db.close()
    again = Journal(path)
    assert again[:] == in_memory
    again.close()


def test_a_log_that_loses_its_end_is_whole_after_a_crash(tmp_path: Path) -> None:
    """A healthy node would refuse to start: its mark was written for the longer log."""
    journal = Journal(tmp_path / "journal")
    journal.setCurrentTerm(6, None)
    for index in range(1, 6):
        journal.add(b"x", index, 5)
    journal.commit()
    mark = (tmp_path / "journal-mark").read_bytes()
    journal.deleteEntriesFrom(2)
    journal.add(b"y", 3, 4)
    synced: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            os, "fsync", lambda _: synced.append((tmp_path / "journal-mark").read_bytes())
        )
        journal.commit()
    assert len(synced) == 1  # before the commit, and lower than what it was
    assert synced[0] != mark
    journal._db.close()
    (tmp_path / "journal-mark").write_bytes(synced[0])  # as a power cut may leave it
    again = Journal(tmp_path / "journal")
    assert again[:] == [(b"x", 1, 5), (b"x", 2, 5), (b"y", 3, 4)]
    again.close()


@pytest.mark.parametrize("name", [b"hard_state", b"identity", b"commit_index", b"entry"])
def test_a_file_whose_names_are_no_text_is_refused(tmp_path: Path, name: bytes) -> None:
    """SQLite's own error cannot be read then, and a traceback is all the user would see."""
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.setCurrentTerm(1, None)
    journal.close()
    path.write_bytes(path.read_bytes().replace(name, name[:2] + b"\x92" + name[3:], 1))
    for _ in range(2):  # the first refusal leaves the file free
        with pytest.raises(DataError, match=r"journal is damaged \((?!database is locked)"):
            Journal(path)


def test_a_file_that_says_it_is_read_only_is_refused_at_the_start(tmp_path: Path) -> None:
    """The node would start, stop at its first commit, and blame a full disk."""
    path = tmp_path / "journal"
    filled(path).close()
    data = bytearray(path.read_bytes())
    data[18] = 3  # the version of SQLite that may write it
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"journal is damaged \(attempt to write a readonly"):
        Journal(path)


def test_a_file_of_another_user_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner would be told to move good data away."""
    path = tmp_path / "journal"
    filled(path).close()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everything
    with pytest.raises(DataError, match="journal cannot be written by this user"):
        Journal(path)
