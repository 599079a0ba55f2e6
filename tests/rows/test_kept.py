"""Rows about what is not lost: jobs that ended or did not, names, pauses, who leads."""

from __future__ import annotations

import datetime
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import exkiq
from exkiq import Client, errors
from exkiq import client as clients
from exkiq.machine import Spec
from exkiq.machine.limits import SUCCEEDED_JOBS_MAX
from exkiq.orders import Order
from exkiq.raft.engine import COMPACT_ENTRIES
from exkiq.raft.journal import KEPT_ENTRIES
from exkiq.raft.snapshot import COMPACT_BYTES
from exkiq.wire.codec import encode_call
from tests.cluster.harness import until
from tests.rows.jobs import Echo, Hold, Note, Plain, is_held, ledger, runs_of
from tests.rows.kept_jobs import Fenced, LateDeath
from tests.rows.nodes import Group, make_node

APP = "tests.rows.kept_jobs"

LOAD = int(os.environ.get("EXKIQ_TEST_LOAD", "2000"))
"""Jobs of the test of load; 10,000 is the row's number."""


@pytest.fixture(scope="module")
def disk(surroundings: Path) -> Iterator[Group]:
    """Three nodes on disk; two with five slots each, and one that runs nothing."""
    group = Group(
        ("k1", "k2", "k3"),
        cluster="rows-kept",
        app=APP,
        folder=surroundings,
        concurrency=5,
        each={"k3": {"concurrency": 0}},
    ).start()
    yield group
    group.stop()


@pytest.fixture
def trio(disk: Group) -> Iterator[Group]:
    """The shared cluster as the one of this process, all three there."""
    until(disk.agrees, 10.0, "one leader")
    yield disk.use()
    for name in ("held", "later"):
        disk.client.queue(name).clear()
    clients.use(None)


def starts(*jobs: exkiq.Job) -> list[int]:
    """How often each job was started."""
    counts = Counter(row[1] for row in ledger() if row[0] == "start")
    return [counts[job.id] for job in jobs]


def crash(group: Group, name: str) -> None:
    """End a node without a word to the others, as when its machine dies."""
    node = group.nodes.pop(name)
    assembly, loop = node._assembly, node._loop
    assert assembly is not None
    assert loop is not None
    node._on_loop(assembly.stop(), 10.0)
    node.stop(drain=0.0)


# ---- demand and topologies -----------------------------------------------------------------------


def test_HD_03_a_node_is_given_no_more_than_it_has_slots(trio: Group, tmp_path: Path) -> None:
    """And nobody a second job while another one sits idle."""
    gate = tmp_path / "gate"
    jobs = [Hold.perform_async(str(gate)) for _ in range(2)]
    until(lambda: all(map(is_held, jobs)), 5.0, "both run")
    assert {job.status().by for job in jobs} == {"k1", "k2"}
    jobs += [Hold.perform_async(str(gate)) for _ in range(12)]
    until(lambda: all(map(is_held, jobs[:10])), 5.0, "all slots taken")
    stats = exkiq.queue("holds").stats()
    assert (stats.running, stats.queued) == (10, 4)  # no prefetch: what has no slot waits
    assert Counter(job.status().by for job in jobs[:10]) == {"k1": 5, "k2": 5}
    assert sum(starts(*jobs)) == 10
    gate.touch()
    assert all(isinstance(job.result(timeout=10), int) for job in jobs)
    assert set(starts(*jobs)) == {1}


def test_HD_15_a_node_without_slots_only_enqueues(trio: Group) -> None:
    """Fifteen jobs on ten slots take two rounds."""
    with trio.client_of("k3") as client:
        clients.use(client)
        called = time.monotonic()
        jobs = Note.perform_bulk([(0.3,)] * 15)
        for job in jobs:
            job.result(timeout=10)
        took = time.monotonic() - called
        assert {job.status().by for job in jobs} == {"k1", "k2"}
    assert 0.6 <= took < 1.5


# ---- at least once, and finished is finished -----------------------------------------------------


def test_HD_08_a_job_leaves_when_its_end_is_committed(trio: Group, tmp_path: Path) -> None:
    """It has ended in its process while no majority knows: by the log it runs."""
    gate = tmp_path / "gate"
    if trio.leader != "k1":
        trio.nodes[trio.leader].transfer_leadership("k1")
        until(lambda: trio.leader == "k1", 5.0, "k1 leads")
    trio.nodes["k2"].stop_queue("holds")
    job = Hold.perform_async(str(gate))
    until(lambda: is_held(job), 5.0, "its start")
    for name in ("k2", "k3"):
        crash(trio, name)
    with trio.client_of("k1") as client:
        until(lambda: trio.nodes["k1"].leader is None, 5.0, "no majority")
        gate.touch()
        until(lambda: trio.nodes["k1"]._participant().session.running == 0, 5.0, "its end")
        assert client.job(job.id).status().state == "running"
    for name in ("k2", "k3"):
        trio.bring_up(name)
    assert job.result(timeout=10) == runs_of(job)[0]
    assert len(runs_of(job)) == 1


def test_HD_08_a_job_knows_by_what_to_tell_its_runs_apart(trio: Group) -> None:
    job = Fenced.perform_async()
    value = job.result()
    noted = [row[1:] for row in ledger() if row[:2] == ["fenced", job.id]]
    assert [row[1] for row in noted] == ["1", "2"]
    first, second = (int(row[2]) for row in noted)
    assert first < second == job.status().fence
    assert value == [job.id, 2, second]


def test_HD_20_a_vanished_caller_changes_nothing(trio: Group) -> None:
    client = trio.client_of("k3")
    clients.use(client)
    job = Note.perform_async(0.2)
    client.close()
    trio.use()
    again = exkiq.job(job.id)
    again.result()
    assert (again.status().state, starts(job)) == ("succeeded", [1])


def test_HD_20_a_process_that_dies_after_the_commit_changes_nothing(trio: Group) -> None:
    before = exkiq.stats(consistent=True)
    job = LateDeath.perform_async(0.3)
    child = job.result()
    until(lambda: not Path(f"/proc/{child}").exists(), 5.0, "its death")
    assert Fenced.call(timeout=10)  # a new process has taken its place
    status = job.status()
    assert (status.state, status.attempt, status.lost, status.error) == ("succeeded", 1, 0, None)
    after = exkiq.stats(consistent=True)
    assert (after["failed"], after["retry"]) == (before["failed"], before["retry"])


def test_HA_05_jobs_and_results_outlive_any_one_of_three(trio: Group) -> None:
    for name in ("k1", "k2", "k3"):
        done = Echo.perform_async(name)
        assert done.result(timeout=10) == [[name], {}]
        waiting = Echo.set(queue="held").perform_async(name)
        crash(trio, name)
        assert done.result(timeout=10) == [[name], {}]
        assert waiting.status().state == "queued"
        assert Echo.call("meanwhile", timeout=10) == [["meanwhile"], {}]
        trio.bring_up(name)
        until(trio.agrees, 10.0, "one leader")


def test_HA_09_what_has_ended_is_not_run_again(trio: Group) -> None:
    """Completion and result are one entry: whoever has the one has the other."""
    jobs = Note.perform_bulk([(0.0,)] * 50)
    for job in jobs:
        job.result()
    trio.take_down("k1")
    with trio.client_of("k2", "k3") as client:
        assert {client.job(job.id).status().state for job in jobs} == {"succeeded"}
    trio.bring_up("k1")
    until(trio.agrees, 10.0, "one leader")
    Echo.call(1, timeout=10)
    assert starts(*jobs) == [1] * 50


# ---- results, names, any node --------------------------------------------------------------------


def test_HA_10_one_of_two_callers_gets_the_name(trio: Group, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    def enqueue(client: Client) -> str:
        spec = Spec("tests.rows.jobs:Hold", "holds")
        payload = encode_call((str(gate),), {})
        try:
            return client.enqueue(Order(spec, "ohai", payload, is_unique=True)).id
        except errors.JobAlreadyExists:
            return "taken"

    with trio.client_of("k1") as one, trio.client_of("k3") as two, ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(enqueue, (one, two))) == ["ohai", "taken"]
    job = exkiq.job("ohai")
    with pytest.raises(TimeoutError):
        job.result(timeout=0)
    gate.touch()
    value = job.result()
    assert exkiq.job("ohai").result(timeout=0) == value
    with pytest.raises(errors.NoSuchJob):
        exkiq.job("nobody").result(timeout=0)


def test_HA_11_every_call_works_from_every_node(trio: Group) -> None:
    for name in trio.nodes:
        with trio.client_of(name) as client:
            clients.use(client)
            queue = client.queue("held")
            job = Echo.set(queue="held").perform_async(name)
            later = Echo.set(queue="held").perform_in(name, hours=1)
            assert (job.status().state, later.status().state) == ("queued", "scheduled")
            assert queue.pause()
            assert queue.stats().paused
            assert job.cancel() == later.cancel() == "ok"
            assert queue.resume()
            assert Echo.call(name) == [[name], {}]
            assert client.stats(consistent=True)["held"] == 0


# ---- who leads, what a node tells ----------------------------------------------------------------


def test_HD_T1_the_lead_is_handed_over_and_nothing_is_lost_or_doubled(trio: Group) -> None:
    for _ in range(2):
        jobs = Note.perform_bulk([(0.01,)] * 100)
        before = trio.leader
        heir = next(name for name in ("k1", "k2") if name != before)
        asked = time.monotonic()
        trio.nodes[before].transfer_leadership(heir)
        until(lambda: {node.leader for node in trio.nodes.values()} == {heir}, 2.0, "the heir")  # noqa: B023
        assert time.monotonic() - asked < 2.0
        jobs += Note.perform_bulk([(0.0,)] * 20)
        for job in jobs:
            job.result(timeout=10)
        assert set(starts(*jobs)) == {1}


def test_HD_T4_a_pause_holds_over_leaders_restarts_and_for_who_joins(trio: Group) -> None:
    echo = exkiq.queue("echo")
    assert (echo.pause(), echo.pause()) == (True, False)
    job = Echo.perform_async("paused")
    trio.nodes[trio.leader].transfer_leadership()
    until(trio.agrees, 5.0, "one leader")
    again = trio.leader
    trio.take_down(again)
    trio.bring_up(again)
    until(trio.agrees, 10.0, "one leader")
    joiner = make_node(
        "k4", app=APP, cluster="rows-kept", peers=trio.places, join_wait=5, leave_on_stop=True
    )
    with joiner, Client(f"exkiq://{joiner.address}") as client:
        assert client.queue("echo").stats().paused
        assert client.job(job.id).status().state == "queued"
    until(trio.agrees, 10.0, "its leave")
    assert job.status().state == "queued"
    assert (echo.resume(), echo.resume()) == (True, False)
    assert job.result() == [["paused"], {}]


def test_HL_16_every_node_tells_the_facts_of_raft(trio: Group) -> None:
    facts = [node.stats()["raft"] for node in trio.nodes.values()]
    for raft in facts:
        assert raft["voters"] == ["k1", "k2", "k3"]
        assert raft["non_voters"] == []
        assert raft["commit_index"] > 0
        assert raft["log_length"] > 0
    assert len({(raft["leader"], raft["term"]) for raft in facts}) == 1
    assert facts[0]["leader"] == trio.leader
    status = trio.nodes["k1"].status()
    assert status["raft"]["voters"] == ["k1", "k2", "k3"]
    assert status["cluster"]["term"] == facts[0]["term"]


def test_HL_17_queues_are_started_and_stopped_on_a_running_node(trio: Group) -> None:
    one, two = trio.nodes["k1"], trio.nodes["k2"]
    assert one.queues() == two.queues() == sorted(one.queues())
    assert {"default", "echo", "holds"} <= set(one.queues())
    assert trio.nodes["k3"].queues() == []
    assert one.workers() == sorted(one.workers())
    assert {"tests.rows.kept_jobs:Fenced", "tests.rows.jobs:Echo"} <= set(one.workers())
    with pytest.raises(errors.AlreadyStarted, match="k1 serves queue 'echo' already"):
        one.start_queue("echo")
    with pytest.raises(errors.NotRunning, match="k1 does not serve queue 'nowhere'; it serves"):
        one.stop_queue("nowhere")
    with pytest.raises(errors.Refused, match="concurrency is 0"):
        trio.nodes["k3"].start_queue("echo")
    for wrong in ("", "failed"):
        with pytest.raises(ValueError, match="queue"):
            one.start_queue(wrong)
    one.stop_queue("echo")
    assert "echo" not in one.queues()
    jobs = [Echo.perform_async(number) for number in range(10)]
    for job in jobs:
        job.result()
    assert {job.status().by for job in jobs} == {"k2"}
    two.stop_queue("echo")
    left = Echo.perform_async("kept")
    time.sleep(0.2)
    assert left.status().state == "queued"
    one.start_queue("echo", weight=2)
    assert one.stats()["options"]["queues"]["echo"]["weight"] == 2
    assert left.result() == [["kept"], {}]
    assert left.status().by == "k1"
    two.start_queue("echo")
    two.start_queue("later")
    assert Echo.set(queue="later").call(1) == [[1], {}]
    two.stop_queue("later")


def test_HL_21_many_jobs_succeed_and_leave_nothing_that_grows(trio: Group) -> None:
    """In two rounds."""
    count = LOAD // 2
    node = trio.nodes["k1"]
    replica = node._participant().replica

    kept = len(replica.machine.jobs)  # of the tests before

    def is_forgotten() -> bool:
        return len(replica.machine.jobs) <= kept + SUCCEEDED_JOBS_MAX

    def run_a_round() -> None:
        before = replica.machine.counts()
        Plain.set(result_ttl=0).perform_bulk([(number,) for number in range(count)])
        counts, wanted = replica.machine.counts, before["succeeded"] + count
        until(lambda: counts()["succeeded"] == wanted, 60.0, "all of them here")
        assert counts()["failed"] == before["failed"]
        assert replica.log_length <= COMPACT_ENTRIES + KEPT_ENTRIES
        assert replica.journal.size_bytes <= 2 * COMPACT_BYTES
        assert len(replica.machine.succeeded) <= SUCCEEDED_JOBS_MAX
        until(is_forgotten, 5.0, "results that nobody wants are gone")  # by the second

    run_a_round()
    run_a_round()


# ---- delay ---------------------------------------------------------------------------------------


def test_HL_01_a_delayed_job_is_scheduled_and_starts_when_it_is_due(trio: Group) -> None:
    wait = 0.6
    job = Note.set(queue="notes", delay=wait).perform_async()
    enqueued = time.time()
    assert job.status().state == "scheduled"
    assert exkiq.queue("notes").stats().scheduled == 1
    assert [status.id for status in exkiq.queue("notes").jobs(state="scheduled")] == [job.id]
    assert Note.call(0.0, timeout=wait) is None  # it is in nobody's way
    cancelled = Note.set(delay=datetime.timedelta(hours=1)).perform_async()
    assert cancelled.cancel() == "ok"
    job.result()
    (started,) = (float(row[2]) for row in ledger() if row[:2] == ["start", job.id])
    assert wait - 0.05 <= started - enqueued < wait + 1.0
    assert Note.set(delay=0).perform_async().status().state in ("queued", "running", "succeeded")


def test_HG_04_a_part_that_dies_is_made_anew_and_its_job_is_not_lost(
    trio: Group, tmp_path: Path
) -> None:
    """The replicated queue's part that runs user code is a process."""
    gate = tmp_path / "gate"
    job = Hold.perform_async(str(gate))
    until(lambda: is_held(job), 5.0, "its start")
    os.kill(runs_of(job)[0], signal.SIGKILL)
    until(lambda: len(runs_of(job)) == 2, 10.0, "a second start")
    gate.touch()
    assert job.result(timeout=10) == runs_of(job)[1]
    status = job.status()
    assert (status.state, status.lost, status.attempt) == ("succeeded", 0, 2)
