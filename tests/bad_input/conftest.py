"""A living cluster of three processes; after every mistake made on it, it must work as before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import exkiq
from exkiq import Client
from tests.cluster.harness import Cluster, cluster, until
from tests.cluster.jobs import Note


def log_of(made: Cluster, name: str) -> str:
    return (made.folder / f"{name}.log").read_text()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for all tests of this folder: none of them may harm it."""
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def live(running: Cluster) -> Iterator[Cluster]:
    """The cluster; afterwards nothing more is stored than before, and it runs a job."""
    with running.client() as client:
        before = client.stats(consistent=True)
        logs = {name: len(log_of(running, name)) for name in running.names}
        yield running
        after = client.stats(consistent=True)
        assert {name: count for name, count in after.items() if count} == {
            name: count for name, count in before.items() if count
        }
        exkiq.client.use(client)
        assert Note.perform_async(7).result(timeout=10) == 7
    assert running.alive == running.names
    until(running.same_state, 5.0, "one state")
    for name, length in logs.items():
        assert "Traceback" not in log_of(running, name)[length:]


@pytest.fixture
def client(live: Cluster) -> Iterator[Client]:
    """A client of all nodes, and the one of this process."""
    with live.client() as made:
        yield made
