"""The file of the founding survives what may happen to it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from exkiq.discovery.facts import Facts, FoundingStore, Member, Promise
from exkiq.discovery.store import FILE_NAME, FileFoundingStore, MemoryFoundingStore
from exkiq.errors import DataError

MEMBERS = (Member("a", "127.0.0.1:1", "1"), Member("b", "[::1]:2", "2"))
EXAMPLES = (
    Facts(),
    Facts(promise=Promise("a", "x", MEMBERS)),
    Facts("x", MEMBERS, "a"),
    Facts("x", MEMBERS),
)


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_what_was_saved_is_loaded(kind: str, tmp_path: Path) -> None:
    """Broken: a promise or a cluster id is forgotten."""
    store: FoundingStore = MemoryFoundingStore()
    if kind == "file":
        store = FileFoundingStore(tmp_path)
    assert store.load() == Facts()
    for facts in EXAMPLES:
        store.save(facts)
        again = FileFoundingStore(tmp_path) if kind == "file" else store
        assert again.load() == facts


def test_damage_is_never_read_as_facts(tmp_path: Path) -> None:
    """Broken: a node with a damaged file takes itself for fresh and founds a second cluster."""
    store = FileFoundingStore(tmp_path)
    store.save(Facts("x", MEMBERS[:1], "a"))
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    damaged = [whole[:length] for length in range(len(whole))]
    damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    for data in (*damaged, whole + b"\0"):
        path.write_bytes(data)
        with pytest.raises(DataError, match=FILE_NAME):
            store.load()


def test_a_crash_while_saving_leaves_the_old_facts(tmp_path: Path) -> None:
    """Broken: a node killed in the wrong moment has half a file, or stumbles over its remains."""
    store = FileFoundingStore(tmp_path)
    store.save(EXAMPLES[1])
    (tmp_path / FILE_NAME).with_suffix(".new").write_bytes(b"half")
    assert EXAMPLES[1] == store.load()
    store.save(EXAMPLES[2])
    assert EXAMPLES[2] == store.load()
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_the_order_of_a_durable_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken: the file is renamed before its bytes are safe, or the rename itself is not."""
    steps: list[str] = []
    sync, replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        steps.append("sync folder" if is_folder else "sync")
        sync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", rename)
    FileFoundingStore(tmp_path).save(EXAMPLES[1])
    assert steps == ["sync", "rename", "sync folder"]


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    """Broken: another user of the machine learns the addresses of the cluster."""
    FileFoundingStore(tmp_path).save(EXAMPLES[2])
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
