"""Clusters that the tests of the rows share, each started when first needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from exkiq import client as clients
from tests.cluster.harness import Cluster, cluster
from tests.rows.nodes import Group


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
