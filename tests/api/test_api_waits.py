"""Waiting for results among nodes that die or lag, and by more callers than a node takes."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

import exkiq
from exkiq import client as clients
from exkiq import connection, errors, requests
from exkiq.client import Client
from tests.api.api_app import Add
from tests.api.conftest import Connect
from tests.api.fake_node import FakeCluster, FakeNode, Mood

pytestmark = pytest.mark.usefixtures("little_patience")


def test_a_job_just_stored_is_waited_for_on_a_node_that_lags(
    cluster: FakeCluster, pair: tuple[FakeNode, FakeNode], connect: Connect
) -> None:
    """After a failover the client's own job is said not to exist."""
    connect(*pair)
    job = Add.perform_async(1)
    cluster.stop_node(pair[0])
    pair[1].mood = Mood.BEHIND
    results: list[object] = []
    waits = threading.Thread(target=lambda: results.append(job.result()))
    looks = threading.Thread(target=lambda: results.append(job.status().state))
    waits.start()
    looks.start()
    while len(pair[1].asked) < 6:
        cluster.on_loop(asyncio.sleep, 0)
    pair[1].mood = Mood.HONEST
    looks.join()
    cluster.finish(job.id, 7)
    waits.join()
    assert results == ["queued", 7]
    pair[1].mood = Mood.BEHIND
    with pytest.raises(errors.NoSuchJob):
        exkiq.job(job.id).result()
    with pytest.raises(errors.NoSuchJob):
        exkiq.job(job.id).status()


def test_a_wait_for_a_result_outlives_its_node(
    cluster: FakeCluster, pair: tuple[FakeNode, FakeNode], connect: Connect
) -> None:
    """Whoever waits for a result learns of nothing but the death of a node."""
    connect(*pair)
    job = Add.perform_async(1)
    results: list[object] = []
    waits = threading.Thread(target=lambda: results.append(job.result(timeout=None)))
    waits.start()
    while "result" not in pair[0].verbs():
        cluster.on_loop(asyncio.sleep, 0)
    cluster.stop_node(pair[0])
    cluster.finish(job.id, 7)
    waits.join()
    assert results == [7]


def test_a_long_wait_asks_again(
    monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster, node: FakeNode, connect: Connect
) -> None:
    """A wait that is longer than a node holds a question ends early."""
    monkeypatch.setattr(requests, "POLL_SECONDS", 0.01)
    connect(node)
    job = Add.perform_async(1)
    with pytest.raises(TimeoutError):
        job.result(timeout=0.3)
    assert node.verbs().count("result") > 3


def test_a_wait_on_nobody_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A wait without a time limit hangs for ever when there is no cluster."""
    monkeypatch.setattr(requests, "REACH_SECONDS", 0.1)
    clients.use(Client(f"exkiq+unix://{tmp_path}/n1.sock"))
    with pytest.raises(errors.NoNodeError, match="job ohai"):
        exkiq.job("ohai").result(timeout=None)


def test_an_abandoned_wait_is_forgotten(cluster: FakeCluster, client: Client) -> None:
    """A cancelled waiter keeps asking as long as the process lives."""
    job = Add.perform_async(1)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(job.aresult(timeout=None))
            await asyncio.sleep(0)
            await client.arequest("ping")
            task.cancel()

    asyncio.run(main())
    client.request("ping")
    assert client._connected()._flights == {}
    assert client._connected()._live == {}


def test_what_waits_at_the_end_is_told(cluster: FakeCluster, client: Client) -> None:
    """Closing a client leaves its callers waiting."""
    job = Add.perform_async(1)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            job.result(timeout=None)
        except errors.NotRunning as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while "result" not in cluster.nodes[0].verbs():
        cluster.on_loop(asyncio.sleep, 0)
    client.close()
    thread.join()
    assert len(caught) == 1


def test_more_waits_than_a_node_takes_are_all_answered(
    monkeypatch: pytest.MonkeyPatch,
    cluster: FakeCluster,
    pair: tuple[FakeNode, FakeNode],
    connect: Connect,
) -> None:
    """An application that waits for thousands of jobs starves some, or floods its node."""
    monkeypatch.setattr(connection, "POLLS_MAX", 5)
    monkeypatch.setattr(requests, "POLL_SECONDS", 0.02)
    client = connect(*pair)
    jobs = Add.perform_bulk([(number,) for number in range(40)])
    most = 0

    def count(*args: object) -> None:
        nonlocal most
        most = max(most, client._connected()._polls)
        cluster._result(*args)  # type: ignore[arg-type]

    cluster.verbs["result"] = count

    async def main() -> list[object]:
        waits = asyncio.gather(*(job.aresult(timeout=None) for job in jobs))
        await client.arequest("ping")
        await asyncio.to_thread(cluster.stop_node, pair[0])
        for job in jobs:
            await asyncio.to_thread(cluster.finish, job.id, job.id)
        late = asyncio.gather(*(job.aresult(timeout=0) for job in jobs))
        return [*await waits, *await late]

    assert [job.id for job in jobs] * 2 == asyncio.run(main())
    assert 0 < most <= 5


def test_waits_in_line_end_when_all_nodes_are_gone(
    monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster, node: FakeNode, connect: Connect
) -> None:
    """Whoever waits for its turn to ask waits for ever."""
    monkeypatch.setattr(connection, "POLLS_MAX", 1)
    monkeypatch.setattr(requests, "REACH_SECONDS", 0.1)
    monkeypatch.setattr(requests, "SILENT_SECONDS", 0.1)
    connect(node)
    jobs = Add.perform_bulk([(1,), (2,), (3,)])

    async def main() -> list[object]:
        waits = asyncio.gather(*(job.aresult(timeout=None) for job in jobs), return_exceptions=True)
        await clients.default().arequest("ping")
        await asyncio.to_thread(cluster.stop_node, node)
        return await waits

    assert [errors.NoNodeError] * 3 == [type(error) for error in asyncio.run(main())]
