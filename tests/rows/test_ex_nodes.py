"""Rows EX that speak of nodes: who leads, who joins, who is lost, and what becomes of the jobs."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import exkiq
from exkiq import errors
from tests.cluster.harness import ROOT, Cluster, until
from tests.rows.jobs import (
    AsyncRelay,
    Echo,
    Hold,
    Killer,
    Note,
    Plain,
    Relay,
    is_held,
    ledger,
    runs_of,
)
from tests.rows.nodes import Group, make_node


def stays_without_leader(node: exkiq.Node) -> bool:
    """For a second: who is handed the lead by a node that stops has none before it has it."""
    for _ in range(20):
        if node.leader is not None:
            return False
        time.sleep(0.05)
    return True


def test_EX_02_a_minority_refuses_writes_and_answers_reads(pair: Group) -> None:
    """Whichever of the two is left: the one that led, and the one that followed."""
    kept = pair.use() and Plain.perform_async(1, 2)
    assert kept.result() == 3
    for name in ("p1", "p2"):
        until(pair.agrees, 5.0, "one leader")
        pair.take_down(name)
        (left,) = pair.nodes
        with pair.client_of(left, enqueue_timeout=1.4) as client, ThreadPoolExecutor(2) as threads:
            until(lambda node=pair.nodes[left]: stays_without_leader(node), 10.0, "it knows")
            write = threads.submit(client.queue("default").pause)
            read = threads.submit(client.stats, consistent=True)
            with pytest.raises(errors.NoQuorum):
                write.result()
            with pytest.raises(errors.NoQuorum):
                read.result()
            assert client.job(kept.id).status().state == "succeeded"
            assert client.stats()["succeeded"] == 1
        pair.bring_up(name)
    until(pair.agrees, 5.0, "one leader")
    assert Plain.perform_async(2, 2).result() == 4


def test_EX_02_at_most_one_leads_and_all_agree(four: Group) -> None:
    until(four.agrees, 5.0, "one leader")
    assert [node.is_leader for node in four.nodes.values()].count(True) == 1


def test_EX_03_one_aggregator_and_every_job_starts_once_over_a_change_of_lead(
    four: Group,
) -> None:
    first = four.leader
    assert {node.aggregator for node in four.nodes.values()} == {first}
    jobs = Note.perform_bulk([(0.01,)] * 100)
    heir = next(name for name in four.nodes if name != first)
    four.nodes[first].transfer_leadership(heir)
    jobs += Note.perform_bulk([(0.01,)] * 100)
    until(lambda: {node.aggregator for node in four.nodes.values()} == {heir}, 5.0, "the heir")
    for job in jobs:
        job.result(timeout=20)
    counts = Counter(row[1] for row in ledger() if row[0] == "start")
    assert {counts[job.id] for job in jobs} == {1}
    last = Counter(job.status().by for job in jobs[-50:])
    assert set(last) == {"n1", "n2", "n3"}  # all pools found the new one


def test_EX_04_work_is_spread_and_reads_are_true(four: Group, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    jobs = [Hold.perform_async(str(gate)) for _ in range(3)]
    until(lambda: {job.status().state for job in jobs} == {"running"}, 5.0, "their start")
    assert {job.status().by for job in jobs} == {"n1", "n2", "n3"}  # no second while one is idle
    assert exkiq.stats(consistent=True)["running"] == 3
    until(lambda: [s["running"] for s in four.each(exkiq.Client.stats)] == [3] * 4, 2.0, "reads")
    gate.touch()
    for job in jobs:
        job.result()


def test_EX_05_a_joining_node_is_caught_up_and_ended_jobs_do_not_come_back(
    single: Group, tmp_path: Path
) -> None:
    single.use()
    ended, later = Note.set(queue="light").perform_async(), Plain.perform_in(1, hours=1)
    ended.result()
    waiting = Echo.set(queue="nowhere").perform_async(1)
    with pytest.raises(errors.JobFailed):
        Plain.set(queue="light", retries=0).perform_async().result()  # type: ignore[call-arg]
    expected = single.client.stats(consistent=True)
    joiner = make_node(
        "s2", cluster="rows-single", peers=single.places, join_wait=5, queues={"elsewhere": 1}
    )
    with joiner:
        assert joiner.members == ["s1", "s2"]
        with exkiq.Client(f"exkiq://{joiner.address}") as client:
            assert client.stats() == expected | {"elsewhere": 0}
            assert client.job(waiting.id).status().state == "queued"
            assert client.job(later.id).status().state == "scheduled"
            assert client.job(ended.id).status().state == "succeeded"
        assert len([row for row in ledger() if row[1] == ended.id]) == 1
    until(lambda: single.nodes["s1"].members == ["s1"], 5.0, "its leave")
    assert later.cancel() == "ok"


def test_EX_07_a_node_in_this_process_and_the_scripts(surroundings: Path) -> None:
    with make_node("alone", cluster="rows-alone") as node:
        exkiq.connect(f"exkiq://{node.address}")
        assert Plain.call(1, 2) == 3
    assert node.start().wait_ready().is_leader
    node.stop()
    for name in ("scripts/test", "scripts/demo"):
        assert os.access(ROOT / name, os.X_OK)


def test_EX_22_each_member_knows_its_place(four: Group, single: Group) -> None:
    names = ["n1", "n2", "n3", "n4"]
    for index, name in enumerate(names):
        node = four.nodes[name]
        assert (node.members, node.index, node.leader) == (names, index, four.leader)
        assert node.next_node == names[(index + 1) % 4]
    alone = single.nodes["s1"]
    assert (alone.next_node, alone.index, alone.is_leader) == ("s1", 0, True)


def test_EX_24_a_queue_that_nobody_serves_is_told_once_and_served_by_who_joins(
    single: Group, caplog: pytest.LogCaptureFixture
) -> None:
    single.use()
    job = Echo.set(queue="orphans").perform_async(1)
    Echo.set(queue="orphans").perform_async(2)

    def warnings() -> list[str]:
        return [r.getMessage() for r in caplog.records if "'orphans'" in r.getMessage()]

    until(warnings, 6.0, "a warning")
    time.sleep(1.2)
    assert len(warnings()) == 1
    assert caplog.records[-1].levelno == logging.WARNING
    assert job.status().state == "queued"
    server = make_node(
        "s3", cluster="rows-single", peers=single.places, join_wait=5, queues={"orphans": 1}
    )
    with server:
        assert job.result() == [[1], {}]
        assert job.status().by == "s3"


@pytest.mark.parametrize("relay", [Relay, AsyncRelay])
def test_C_16_a_job_can_enqueue_a_job(four: Group, relay: type[Relay]) -> None:
    """Its process would find no node, or one of another cluster."""
    assert exkiq.job(relay.call(7)).result() == [[7], {}]


def test_HA_14_a_job_can_enqueue_a_job_where_a_secret_is_needed(
    surroundings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = surroundings / "secret"
    file.write_bytes(b"\xffsecret \xc3\xbc " + b"x" * 32 + b"\n")
    file.chmod(0o600)
    other = surroundings / "other"
    other.write_bytes(b"y" * 32)
    other.chmod(0o600)
    with make_node("safe", cluster="rows-safe", secret_file=str(file)) as node:
        url, secret = f"exkiq://{node.address}", node.settings.secret
        exkiq.connect(url, secret=secret)
        assert exkiq.job(Relay.call(8)).result() == [[8], {}]
        with exkiq.Client(url, secret=b"z" * 32) as stranger, pytest.raises(errors.ClusterMismatch):
            stranger.stats()


def test_EX_05_a_node_that_is_not_ready_says_so(surroundings: Path) -> None:
    """Who asks it would not know whether the job was stored."""
    group = Group(("w1", "w2"), cluster="rows-waiting", concurrency=0)
    waiting = group.nodes["w1"]
    with group.client_of("w1", enqueue_timeout=1.0) as client:
        group.client = client
        group.use()
        group.start_one("w1")
        with pytest.raises(errors.Unavailable, match=r"w1 is not ready: .+"):
            Plain.perform_async(1)
        with pytest.raises(errors.Unavailable, match="not ready"):
            exkiq.stats()
        group.start_one("w2")
        until(lambda: Plain.perform_async(1).status().state == "queued", 10.0, "the cluster")
        until(lambda: waiting.members == ["w1", "w2"], 5.0, "its membership")
        group.stop()


# ---- real processes, killed and stopped -------------------------------------------------------


def hold_everywhere(c: Cluster, gate: Path) -> dict[str, list[exkiq.Job]]:
    """Two running jobs on each node, by its name."""
    jobs = [Hold.perform_async(str(gate)) for _ in range(2 * len(c.alive))]
    until(lambda: all(map(is_held, jobs)), 10.0, "their start")
    held: dict[str, list[exkiq.Job]] = {}
    for job in jobs:
        held.setdefault(job.status().by or "", []).append(job)
    assert {len(each) for each in held.values()} == {2}
    return held


def test_EX_06_jobs_of_live_nodes_go_on_when_the_leader_dies(
    processes: Cluster, tmp_path: Path
) -> None:
    c, gate = processes, tmp_path / "gate"
    c.client()
    held = hold_everywhere(c, gate)
    leader = c.leader()
    c.kill(leader)
    killed = time.monotonic()
    late = Plain.perform_async(1, 2)  # kept for a slot
    lost = held.pop(leader)
    until(lambda: {job.status().lost for job in lost} == {1}, 10.0, "their loss")
    gate.touch()
    for job in [job for jobs in held.values() for job in jobs]:
        assert [job.result(timeout=10)] == runs_of(job)  # one start, the old process
    for job in lost:
        assert job.result(timeout=10) == runs_of(job)[-1]
        status = job.status()
        assert (len(runs_of(job)), status.attempt, status.retries_left) == (2, 1, 5)
    assert late.result(timeout=10) == 3
    assert time.monotonic() - killed < 10
    c.start(leader)
    c.wait_ready()


def test_EX_23_children_end_with_their_node_and_a_killer_of_nodes_fails(
    processes: Cluster, tmp_path: Path
) -> None:
    """`max_lost=1`: the second node that dies of it is the last."""
    c, gate = processes, tmp_path / "gate"
    c.client()
    held = hold_everywhere(c, gate)
    victim = next(name for name in c.names if name != c.leader())
    children = {pid for job in held[victim] for pid in runs_of(job)}
    c.kill(victim)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 5.0, "their end")
    gate.touch()
    for job in [job for jobs in held.values() for job in jobs]:
        job.result(timeout=10)
    c.start(victim)
    c.wait_ready()
    killer = Killer.perform_async()
    until(lambda: len(c.alive) == 2, 10.0, "the first death")
    c.start(*(name for name in c.names if name not in c.alive))
    c.wait_ready()
    until(lambda: killer.status().state == "failed", 20.0, "the end of it")
    status = killer.status()
    assert (status.lost, status.retries_left) == (2, 5)
    assert status.error is not None
    assert "lost" in status.error.message
    c.start(*(name for name in c.names if name not in c.alive))
    c.wait_ready()


def test_EX_18_two_seconds_of_silence_end_a_session(processes: Cluster, tmp_path: Path) -> None:
    c, gate = processes, tmp_path / "gate"
    c.client()
    held = hold_everywhere(c, gate)
    silent = next(name for name in c.names if name != c.leader())
    c.client(*(name for name in c.names if name != silent))
    c.processes[silent].send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: {job.status().lost for job in held[silent]} == {1}, 10.0, "their loss")
    assert 1.0 < time.monotonic() - stopped < 5.0
    assert exkiq.stats()["running"] == 4
    gate.touch()
    for job in [job for jobs in held.values() for job in jobs]:
        job.result(timeout=10)
    until(lambda: exkiq.stats()["running"] == 0, 1.0, "nothing runs")
    c.processes[silent].send_signal(signal.SIGCONT)
    until(c.same_state, 10.0, "one state")  # it comes back by itself
