"""A client among nodes that die, hang, refuse or lag: one job each, or a truthful error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import exkiq
from exkiq import client as clients
from exkiq import errors
from exkiq.bridge import ThreadWaiter
from exkiq.client import Client
from exkiq.requests import Proposal
from exkiq.wire.codec import decode_call
from tests.api.api_app import Add
from tests.api.conftest import Connect
from tests.api.fake_node import FakeCluster, FakeNode, Mood

SECRET = b"a secret of thirty-two bytes....."


pytestmark = pytest.mark.usefixtures("little_patience")


def arguments(cluster: FakeCluster) -> list[object]:
    return [decode_call(record.payload)[0][0] for record in cluster.jobs.values()]


def test_the_next_node_is_asked_when_one_dies(
    cluster: FakeCluster, pair: tuple[FakeNode, FakeNode], connect: Connect
) -> None:
    """A client goes down with the node it was connected to."""
    connect(*pair)
    Add.perform_async(1)
    cluster.stop_node(pair[0])
    Add.perform_async(2)
    assert arguments(cluster) == [1, 2]
    assert ["propose"] == pair[0].verbs() == pair[1].verbs()


@pytest.mark.parametrize("mood", [Mood.DYING, Mood.DEAF, Mood.MUTE, Mood.UNSURE, Mood.LEADERLESS])
@pytest.mark.parametrize("unique", [None, "error"])
def test_an_enqueue_is_done_once_whatever_the_first_node_does(
    cluster: FakeCluster,
    pair: tuple[FakeNode, FakeNode],
    connect: Connect,
    mood: Mood,
    unique: str | None,
) -> None:
    """A repeated enqueue makes a second job, or is refused because of its own first try."""
    connect(*pair)
    pair[0].mood = mood
    job = Add.set(unique=unique).perform_async(1)
    assert [job.id] == list(cluster.jobs)
    assert pair[0].asked[0][2] == pair[1].asked[0][2], "the same bytes both times"


def test_without_an_answer_the_outcome_is_unknown(
    cluster: FakeCluster, pair: tuple[FakeNode, FakeNode], connect: Connect
) -> None:
    """A caller believes that a job was not stored which was."""
    connect(*pair, enqueue_timeout=0.3)
    pair[0].mood = pair[1].mood = Mood.DEAF
    with pytest.raises(errors.EnqueueTimeout, match="sums") as caught:
        Add.set(id="ohai").perform_async(1)
    assert isinstance(caught.value, TimeoutError)
    pair[0].mood = pair[1].mood = Mood.HONEST
    job = caught.value.job
    assert isinstance(job, exkiq.Job)
    assert job.status().state == "queued"
    assert job == Add.set(id="ohai").perform_async(1)
    assert len(cluster.jobs) == 1


@pytest.mark.parametrize("mood", [Mood.DYING, Mood.UNSURE])
@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda: Add.perform_async(1), errors.EnqueueTimeout),
        (lambda: exkiq.queue("sums").pause(), errors.OutcomeUnknown),
    ],
    ids=["enqueue", "pause"],
)
def test_a_doubtful_operation_is_not_called_undone(
    pair: tuple[FakeNode, FakeNode],
    connect: Connect,
    mood: Mood,
    ask: Callable[[], object],
    error: type[Exception],
) -> None:
    """After one lost answer, a later "no leader" is taken for the whole truth."""
    connect(*pair, enqueue_timeout=0.4)  # a client that has asked nobody begins with the first
    pair[0].mood, pair[1].mood = mood, Mood.LEADERLESS
    with pytest.raises(error):
        ask()
    assert "propose" in pair[0].verbs()


def test_bulk_tells_which_jobs_may_be_missing(
    cluster: FakeCluster, node: FakeNode, connect: Connect
) -> None:
    """After a failure in the middle nobody knows which jobs to look for."""
    connect(node, enqueue_timeout=0.3)
    honest = cluster.verbs["propose"]

    def once(*args: object) -> None:
        node.mood = Mood.MUTE
        honest(*args)

    cluster.verbs["propose"] = once
    with pytest.raises(errors.EnqueueTimeout) as caught:
        Add.perform_bulk([(number,) for number in range(1_500)])
    missing = caught.value.job
    assert isinstance(missing, list)
    assert len(missing) == 500
    assert not {job.id for job in missing} & set(cluster.jobs)


def test_no_leader_anywhere_is_surely_not_done(
    cluster: FakeCluster, pair: tuple[FakeNode, FakeNode], connect: Connect
) -> None:
    """A refusal by all is reported as doubt, or late, or reads fail with the writes."""
    connect(*pair, enqueue_timeout=0.3)
    Add.perform_async(1)
    pair[0].mood = pair[1].mood = Mood.LEADERLESS
    with pytest.raises(errors.NoQuorum, match="no leader"):
        Add.perform_async(2)
    assert exkiq.stats()["queued"] == 1


def test_an_election_is_waited_for(
    cluster: FakeCluster, pair: tuple[FakeNode, FakeNode], connect: Connect
) -> None:
    """A short time without a leader is an error to every caller."""
    connect(*pair)
    pair[0].mood = pair[1].mood = Mood.LEADERLESS
    done = threading.Thread(target=Add.perform_async, args=(1,))
    done.start()
    while len(pair[1].asked) < 2:
        cluster.on_loop(asyncio.sleep, 0)
    pair[0].mood = pair[1].mood = Mood.HONEST
    done.join()
    assert arguments(cluster) == [1]


@pytest.mark.parametrize("seconds", [0.05, 0.15, 0.25, 5.0])
def test_a_node_has_time_however_short_the_caller_waits(seconds: float) -> None:
    """Of a short time nothing would be left to the node: it would refuse what it could do."""
    proposal = Proposal(b"", ThreadWaiter(), deadline=10.0 + seconds, about="a job")
    left_ms = proposal.message(1, 10.0)[3]
    assert seconds * 500 - 1 <= left_ms < seconds * 1000


def test_nobody_there_is_an_error_that_helps(connect: Connect, tmp_path: Path) -> None:
    """The first error a newcomer sees does not tell what to do."""
    client = Client(f"exkiq+unix://{tmp_path}/n1.sock", enqueue_timeout=0.2)
    clients.use(client)
    with pytest.raises(errors.NoNodeError) as caught:
        Add.perform_async(1)
    for part in ("'sums'", f"{tmp_path}/n1.sock", "exkiq start APP", "EXKIQ_URL"):
        assert part in str(caught.value)


def test_without_any_place_the_cluster_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A client of a cluster that does not run here says nothing about where it looked."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("EXKIQ_CLUSTER", "blue")
    clients.use(Client(enqueue_timeout=0.2))
    with pytest.raises(errors.NoNodeError, match=f"'blue' in {tmp_path}/exkiq/blue"):
        Add.perform_async(1)


def test_a_node_that_starts_in_time_is_used(cluster: FakeCluster, connect: Connect) -> None:
    """A restart of the only node loses what is enqueued meanwhile."""
    node = cluster.start_node()
    client = connect(node)
    Add.perform_async(1)
    port = int(node.address.rpartition(":")[2])
    cluster.stop_node(node)
    done = threading.Thread(target=Add.perform_async, args=(2,))
    done.start()
    cluster.start_node(port=port)
    done.join()
    Add.perform_async(3)
    assert arguments(cluster) == [1, 2, 3]
    assert client.request("ping")


def test_a_node_that_hangs_up_on_everyone_is_left_in_peace(
    cluster: FakeCluster, node: FakeNode, connect: Connect
) -> None:
    """A node that is not ready yet is called a thousand times a second."""
    connect(node, enqueue_timeout=0.5)
    node.mood = Mood.BUSY
    with pytest.raises(errors.EnqueueTimeout):
        Add.perform_async(1)
    assert 2 <= node.calls <= 6


def test_places_are_learned_from_nodes(cluster: FakeCluster, connect: Connect) -> None:
    """A client that was given one address is lost with that node."""
    first, second = cluster.start_node(), cluster.start_node()
    cluster.announced = [first.address, second.address]
    connect(first)
    Add.perform_async(1)
    cluster.stop_node(first)
    Add.perform_async(2)
    assert arguments(cluster) == [1, 2]
    assert second.verbs() == ["propose"]


def test_the_wrong_secret_is_told_at_once(cluster: FakeCluster, connect: Connect) -> None:
    """A wrong secret looks like a cluster that is down."""
    node = cluster.start_node(secret=SECRET)
    connect(node, secret=SECRET)
    Add.perform_async(1)
    connect(node, secret=b"x" * 32)
    with pytest.raises(errors.ClusterMismatch, match="secret"):
        Add.perform_async(2)
    connect(node, cluster="other", secret=SECRET)
    with pytest.raises(errors.ClusterMismatch, match="other"):
        Add.perform_async(3)


def test_an_error_that_we_do_not_know_is_told_as_it_came(
    cluster: FakeCluster, client: Client
) -> None:
    """An error of a later version crashes the client, or is swallowed."""

    class Odd(errors.ExkiqError):
        pass

    for name in ("SystemExit", "JobFailed", "NoSuchThing", "log"):
        Odd.__name__ = name
        cluster.verbs["ping"] = lambda answer: answer(Odd("what happened"))
        with pytest.raises(errors.ExkiqError, match=f"{name}: what happened"):
            client.request("ping")


def test_a_closed_client_says_so(client: Client) -> None:
    """A call after the end hangs."""
    Add.perform_async(1)
    client.close()
    client.close()
    with pytest.raises(errors.NotRunning):
        Add.perform_async(1)


def test_large_jobs_do_not_flood_a_link(cluster: FakeCluster, client: Client) -> None:
    """Many large jobs at once make the link or the node give up."""

    async def main() -> None:
        await asyncio.gather(*(Add.aperform_async("x" * 1_000_000) for _ in range(20)))

    asyncio.run(main())
    assert len(cluster.jobs) == 20
    assert client._connected()._bytes_under_way == 0


def test_an_errand_is_sent_once(
    cluster: FakeCluster, pair: tuple[FakeNode, FakeNode], connect: Connect
) -> None:
    """One node leaves the cluster, its answer is lost, and another one leaves as well."""
    client = connect(*pair)
    left: list[object] = []

    def leave(answer: object) -> None:
        left.append(answer)
        pair[0].hang_up()

    cluster.verbs["cluster_leave"] = leave
    with pytest.raises(errors.OutcomeUnknown, match="cluster_leave"):
        client.request("cluster_leave")
    cluster.verbs["cluster_leave"] = left.append
    with pytest.raises(errors.OutcomeUnknown, match="cluster_leave"):
        client.request("cluster_leave", timeout=0.3)
    assert len(left) == 2

    def refuse(answer: Any) -> None:
        left.append(answer)
        answer(errors.NoQuorum("no leader"))

    cluster.verbs["cluster_leave"] = refuse
    with pytest.raises(errors.NoQuorum):
        client.request("cluster_leave")
    assert len(left) == 3
