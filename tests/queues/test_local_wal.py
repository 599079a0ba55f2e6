"""A damaged log of SQLite is told from one that a crash cut off."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from exkiq.clock import ManualClock
from exkiq.errors import ConfigError, DataError
from exkiq.machine import Spec, commands
from exkiq.queues import LocalHouse
from exkiq.queues.local_journal import LocalJournal
from exkiq.queues.local_wal import is_log_damaged
from tests.aggregator.pretend import Pids

JOBS = 12


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """The file of a house with jobs, as it is on the disk when its process is killed."""
    journal = LocalJournal(tmp_path / "live.db")
    house = LocalHouse(ManualClock(), book=journal, machine=journal.machine)
    pid = Pids()
    for number in range(JOBS):
        op = commands.enqueue(pid(), Spec("app:work", "q"), [str(number)], [b"\x92\x90\x80"])
        house.propose_nowait(op)
    assert not is_log_damaged(tmp_path / "live.db"), "it is in use"
    path = tmp_path / "crashed.db"
    for end in ("", "-wal"):
        shutil.copy(f"{journal.path}{end}", f"{path}{end}")
    journal.close()
    return path


def log_of(path: Path) -> Path:
    return Path(f"{path}-wal")


def jobs_in(path: Path) -> int:
    journal = LocalJournal(path)
    journal.close()
    return len(journal.machine.jobs)


def flipped(at: float) -> Callable[[bytes], bytes]:
    def flip(data: bytes) -> bytes:
        position = int(at * (len(data) - 1))
        return data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :]

    return flip


def test_after_a_crash_all_is_there(crashed: Path) -> None:
    """A crash would be taken for damage, and a queue not start."""
    assert jobs_in(crashed) == JOBS


@pytest.mark.parametrize("at", [0.0, 0.0003, 0.1, 0.3, 0.5, 0.7, 0.8])
def test_a_flipped_bit_is_damage(crashed: Path, at: float) -> None:
    """Jobs that were acknowledged would be gone without a word."""
    log_of(crashed).write_bytes(flipped(at)(log_of(crashed).read_bytes()))
    for _ in range(2):  # and the file stays as it is
        with pytest.raises(DataError, match=r"crashed\.db-wal.*damaged: put copies of both back"):
            LocalJournal(crashed)


@pytest.mark.parametrize("left", [0, 20, 32, 500, -1, -4000])
def test_what_a_crash_cuts_off_is_no_damage(crashed: Path, left: int) -> None:
    """A power cut in the middle of a write would stop the queue for good."""
    log_of(crashed).write_bytes(log_of(crashed).read_bytes()[:left])
    assert not is_log_damaged(crashed)


def test_a_last_commit_that_is_torn_is_no_damage(crashed: Path) -> None:
    """The same, where the disk wrote the end of a commit before its middle."""
    log_of(crashed).write_bytes(flipped(0.9999)(log_of(crashed).read_bytes()))
    assert jobs_in(crashed) == JOBS - 1


def test_a_file_that_may_not_be_written_is_named(crashed: Path) -> None:
    """The error would be one of the system."""
    crashed.unlink()
    crashed.mkdir()
    with pytest.raises(ConfigError, match=r"crashed\.db cannot be opened"):
        LocalJournal(crashed)
