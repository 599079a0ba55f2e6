"""Fake nodes and a client of theirs, closed again after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from exkiq import client as clients
from exkiq import requests
from exkiq.client import Client
from tests.api.fake_node import FakeCluster, FakeNode


@pytest.fixture(autouse=True)
def _own_surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable of the machine, and no client of another test."""
    for name in ("EXKIQ_URL", "EXKIQ_CLUSTER", "EXKIQ_SECRET", "EXKIQ_SECRET_FILE"):
        monkeypatch.delenv(name, raising=False)
    before = clients.use(None)
    yield
    left = clients.use(before)
    if left is not None:
        left.close()


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    cluster = FakeCluster()
    yield cluster
    cluster.stop()


@pytest.fixture
def node(cluster: FakeCluster) -> FakeNode:
    return cluster.start_node()


Connect = Callable[..., Client]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes clients that are closed after the test; the last one made is the process's."""
    made: list[Client] = []

    def make(*nodes: FakeNode, **options: object) -> Client:
        url = "exkiq://" + ",".join(node.address for node in nodes)
        made.append(Client(url, **options))  # type: ignore[arg-type]
        clients.use(made[-1])
        return made[-1]

    yield make
    clients.use(None)
    for client in made:
        client.close()


@pytest.fixture
def unopened() -> Iterator[Client]:
    """A client that must not be asked anything: nobody is there, and nobody is looked for."""
    client = Client("exkiq+unix:///nowhere/n1.sock", enqueue_timeout=0.1)
    clients.use(client)
    yield client
    assert client._connection is None
    clients.use(None)


@pytest.fixture
def client(connect: Connect, node: FakeNode) -> Client:
    return connect(node)


@pytest.fixture
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence of a node counts after a moment."""
    monkeypatch.setattr(requests, "PATIENCE_SECONDS", 0.05)


@pytest.fixture
def pair(cluster: FakeCluster) -> tuple[FakeNode, FakeNode]:
    return cluster.start_node(), cluster.start_node()
