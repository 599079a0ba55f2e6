"""Rows HG: a cluster as one queue, whoever enqueues, runs, stops or comes back."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import exkiq
from exkiq import Client, errors
from exkiq import client as clients
from tests.cluster.harness import Cluster, cluster, until
from tests.rows.jobs import Counting, Echo, Hold, Plain, Stateless, is_held, runs_of
from tests.rows.nodes import Group, make_node


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One process on disk, to be killed and stopped."""
    folder = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEDGER", str(folder / "ledger"))
        with cluster(folder, 1, "--concurrency", "2", app="tests.rows.jobs") as made:
            yield made


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_HG_01_a_node_without_slots_answers_and_runs_nothing(four: Group) -> None:
    with four.client_of("n4") as client:
        clients.use(client)
        jobs = Plain.perform_bulk([(number,) for number in range(60)])
        assert [job.result() for job in jobs] == list(range(60))
        ran = {job.status().by for job in jobs}
        assert ran == {"n1", "n2", "n3"}
        assert client.stats(consistent=True) == four.client.stats(consistent=True)


def test_HG_02_a_returned_node_takes_jobs_by_itself(pair: Group, tmp_path: Path) -> None:
    """Once for the one that leads, once for the other."""
    for number, name in enumerate(("p1", "p2")):
        until(pair.agrees, 5.0, "one leader")
        pair.use().take_down(name)
        pair.bring_up(name)
        back = time.monotonic()
        gate = tmp_path / f"gate{number}"
        jobs = [Hold.perform_async(str(gate)) for _ in range(4)]  # all slots of both
        until(lambda jobs=jobs: {job.status().by for job in jobs} == {"p1", "p2"}, 10.0, "both")
        assert time.monotonic() - back < 10
        gate.touch()
        for job in jobs:
            job.result(timeout=10)


def test_HG_03_a_bare_name_is_one_queue_everywhere(four: Group) -> None:
    exkiq.queue("paused").pause()
    for name in four.nodes:
        with four.client_of(name) as client:
            clients.use(client)
            Echo.set(queue="paused").perform_async(name)
    four.use()

    def lists() -> list[list[str]]:
        def ids(client: Client) -> list[str]:
            return [job.id for job in client.queue("paused").jobs(state="queued")]

        return four.each(ids)

    until(lambda: all(len(each) == 4 and each == lists()[0] for each in lists()), 2.0, "one list")


def test_HG_05_by_default_jobs_are_on_disk_below_the_state_folder(surroundings: Path) -> None:
    folder = surroundings / "state" / "exkiq" / "rows-disk" / "d1"
    options = {"cluster": "rows-disk", "memory": False, "concurrency": 0}
    with make_node("d1", **options) as node:
        exkiq.connect(f"exkiq://{node.address}")
        job = Plain.perform_async(1)
        with pytest.raises(errors.ExkiqError, match="in use by another process"):
            make_node("d1", **options).start()
    with closing(sqlite3.connect(folder / "journal")) as reader:
        assert reader.execute("pragma journal_mode").fetchone() == ("wal",)
    with make_node("d1", **options) as again:
        exkiq.connect(f"exkiq://{again.address}")
        assert job.id == exkiq.job(job.id).status().id
        assert exkiq.job(job.id).status().state == "queued"


def test_HG_05_memory_writes_nothing_and_comes_back_as_a_new_member(
    surroundings: Path, four: Group
) -> None:
    state = surroundings / "state"
    before = files_below(state)
    options = {"peers": four.places, "join_wait": 5, "concurrency": 0}
    members = []
    for _ in range(2):
        with make_node("n5", **options) as node:
            until(lambda: four.nodes["n1"].members == ["n1", "n2", "n3", "n4", "n5"], 5.0, "n5")
            members.append(node.address)
        until(lambda: four.nodes["n1"].members == ["n1", "n2", "n3", "n4"], 5.0, "its leave")
    assert len(set(members)) == 2
    assert files_below(state) == before


def test_HG_06_a_restarted_node_gives_back_what_it_ran(process: Cluster, tmp_path: Path) -> None:
    c, gate = process, tmp_path / "gate"
    c.client()
    job = Hold.perform_async(str(gate))
    until(lambda: is_held(job), 5.0, "its start")
    c.kill("n1")
    c.start()
    c.wait_ready()
    c.client()
    job = exkiq.job(job.id)
    until(lambda: len(runs_of(job)) == 2, 5.0, "a second start")
    status = job.status()
    assert (status.attempt, status.retries_left, status.lost) == (1, 5, 1)
    gate.touch()
    assert job.result(timeout=10)


def test_HG_07_functions_get_what_was_enqueued_and_nothing_else(four: Group) -> None:
    for _ in range(5):
        args, jobs_of_instance = Counting.call(1, None)
        assert args == [1, None]
        assert jobs_of_instance >= 1  # the state is there, and not among the arguments
    assert Stateless.call(3) == [3, None]


def test_HG_08_a_static_peer_is_dialled_until_it_is_there(
    surroundings: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "exkiq")
    group = Group(("a1", "a2"), cluster="rows-peers", concurrency=0, bootstrap_expect=1)
    first = group.nodes["a1"].start().wait_ready()
    time.sleep(1.2)  # nobody is there yet
    group.nodes["a2"].settings = dataclasses.replace(group.nodes["a2"].settings, join_wait=5.0)
    second = group.nodes["a2"].start().wait_ready()
    until(lambda: first.members == second.members == ["a1", "a2"], 5.0, "one cluster")
    second.stop(drain=0.0)
    first.stop(drain=0.0)
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if text.startswith("linked with a2")]) == 1
    assert len([text for text in said if text.startswith("lost the link with a2")]) == 1


def test_HG_09_any_node_or_client_may_enqueue(four: Group) -> None:
    for name in four.nodes:  # one of them serves nothing
        with four.client_of(name) as client:
            clients.use(client)
            assert Echo.perform_async(name).result() == [[name], {}]


def test_HG_09_an_unknown_outcome_has_the_job_and_may_be_repeated(process: Cluster) -> None:
    c = process
    client = c.client()
    Plain.call(1)
    client.enqueue_timeout = 0.4
    c.processes["n1"].send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(errors.EnqueueTimeout) as caught:
            Plain.set(id="perhaps").perform_async(5)
    finally:
        c.processes["n1"].send_signal(signal.SIGCONT)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value.job, exkiq.Job)
    client.enqueue_timeout = 5.0
    again = Plain.set(id="perhaps").perform_async(5)
    assert again == caught.value.job
    assert again.result() == 5
    assert client.queue("default").jobs().count(again.status()) == 1


def test_HG_10_the_record_of_a_job(four: Group, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    exkiq.queue("holds").pause()
    job = Hold.perform_async(str(gate))
    before = job.status()
    assert (before.state, before.queue, before.task) == ("queued", "holds", "tests.rows.jobs:Hold")
    assert (before.args, before.kwargs) == ((str(gate),), {})
    assert (before.attempt, before.retries_left, before.lost, before.by) == (1, 5, 0, None)
    assert (before.started_at, before.completed_at, before.error) == (None, None, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.state = "running"  # type: ignore[misc, assignment]
    exkiq.queue("holds").resume()
    until(lambda: job.status().state == "running", 2.0, "its start")
    running = job.status()
    assert running.by in ("n1", "n2", "n3")
    assert running.fence > before.fence
    gate.touch()
    job.result()
    after = job.status()
    assert (after.id, after.state, after.by) == (job.id, "succeeded", running.by)
    assert None not in (after.enqueued_at, after.started_at, after.completed_at)
    assert before.enqueued_at == after.enqueued_at
    assert isinstance(after.completed_at, datetime.datetime)
    assert after.completed_at.utcoffset() == datetime.timedelta()


def test_HG_11_a_job_runs_where_there_are_slots_and_starts_at_once(four: Group) -> None:
    with four.client_of("n4") as client:
        clients.use(client)
        called = time.monotonic()
        job = Echo.perform_async("far")
        assert job.result() == [["far"], {}]
        assert time.monotonic() - called < 1.0
        assert job.status().by != "n4"


def test_HG_12_nobody_reachable_is_an_error_in_time(
    surroundings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXKIQ_CLUSTER", "nowhere")
    clients.use(Client(enqueue_timeout=0.5))
    called = time.monotonic()
    with pytest.raises(errors.NoNodeError) as caught:
        Echo.perform_async(1)
    assert time.monotonic() - called < 1.5
    for word in ("'echo'", "'nowhere'", "exkiq start", "EXKIQ_URL"):
        assert word in str(caught.value)


def test_HG_13_all_members_hold_the_same(four: Group) -> None:
    jobs = Echo.perform_bulk([(number,) for number in range(200)])
    for job in jobs:
        job.result(timeout=10)

    def is_same() -> bool:
        found = [node.status()["raft"] for node in four.nodes.values()]
        return len({(raft["applied_index"], raft["state_hash"]) for raft in found}) == 1

    until(is_same, 3.0, "one state")


def test_HG_13_a_killed_minority_catches_up_by_itself(processes: Cluster) -> None:
    c = processes
    c.client()
    away = next(name for name in c.names if name != c.leader())
    c.kill(away)
    c.client(*c.alive)
    exkiq.queue("echo").pause()
    jobs = Echo.perform_bulk([(os.urandom(2_000),) for _ in range(2_000)])
    c.start(away)
    c.wait_ready()
    until(c.same_state, 10.0, "one state")
    with c.client(away) as client:
        assert client.queue("echo").stats().queued == 2_000
        assert client.job(jobs[-1].id).status().state == "queued"
    c.client()
    assert exkiq.queue("echo").clear() == 2_000
