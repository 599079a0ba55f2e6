"""Clusters that the tests of the rows share, each started when first needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from exkiq import client as clients
from tests.cluster.harness import Cluster, cluster
from tests.rows.nodes import Group
from tests.rows.slot_pools import Notes, SharedPool


@pytest.fixture(scope="module", autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders of this run, and no variable of the machine."""
    folder = tmp_path_factory.mktemp("rows")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("EXKIQ_")]:
            patch.delenv(name)
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        patch.setenv("LEDGER", str(folder / "ledger"))
        yield folder


@pytest.fixture(scope="module")
def quartet(surroundings: Path) -> Iterator[Group]:
    """Three nodes with four slots each, and one that runs nothing."""
    idle = {"n4": {"concurrency": 0}}
    group = Group(("n1", "n2", "n3", "n4"), concurrency=4, each=idle).start()
    yield group
    group.stop()


@pytest.fixture
def four(quartet: Group) -> Iterator[Group]:
    """The shared cluster as the one of this process; its queues are empty afterwards."""
    yield quartet.use()
    for name in ("paused", "nowhere"):
        quartet.client.queue(name).clear()
    clients.use(None)


@pytest.fixture(scope="module")
def single(surroundings: Path) -> Iterator[Group]:
    """One node with one slot, that serves some queues by weight."""
    queues = {"heavy": 3, "light": 1, "broken": 1, "holds": 1}
    group = Group(("s1",), concurrency=1, queues=queues, cluster="rows-single").start()
    yield group
    group.stop()


@pytest.fixture(scope="module")
def pair(surroundings: Path) -> Iterator[Group]:
    """Two nodes on disk: without one of them there is no majority."""
    group = Group(("p1", "p2"), concurrency=2, cluster="rows-pair", folder=surroundings).start()
    yield group
    group.stop()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three processes, to be killed and started again; two slots each."""
    folder = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEDGER", str(folder / "ledger"))
        with cluster(folder, 3, "--concurrency", "2", app="tests.rows.jobs") as made:
            yield made


@pytest.fixture(scope="module")
def slot_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the jobs of this file leave their notes."""
    made = tmp_path_factory.mktemp("slots")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLOTS_FOLDER", str(made))
        yield made


@pytest.fixture
def notes(slot_folder: Path) -> Notes:
    """The lines that jobs noted under a name; nothing of an earlier test."""
    for path in slot_folder.iterdir():
        path.unlink()

    def read(name: str) -> list[str]:
        path = slot_folder / name
        return path.read_text().splitlines() if path.exists() else []

    return read


@pytest.fixture(scope="module")
def slots(slot_folder: Path) -> Iterator[SharedPool]:
    """One child for the tests that leave it as it was."""
    made = SharedPool()
    yield made
    made.close()
