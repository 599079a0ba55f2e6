"""The promises of the first page, on real processes: kill -9, restart, founding, time."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

import exkiq
from exkiq.errors import EnqueueTimeout, JobFailed
from tests.cluster.harness import Cluster, cluster, until
from tests.cluster.jobs import AsyncNote, Dying, Failing, Note, ledger

FOUNDINGS = int(os.environ.get("EXKIQ_TEST_FOUNDINGS", "2"))


def starts() -> Counter[str]:
    return Counter(row[1] for row in ledger() if row[0] == "start")


def test_jobs_end_when_the_leader_dies_in_the_middle(tmp_path: Path) -> None:
    """262 acknowledged jobs; a job enqueued right after the kill starts within two seconds."""
    with cluster(tmp_path) as c:
        c.client()
        jobs = [Note.perform_async(number, 0.01) for number in range(262)]
        leader = c.leader()
        until(lambda: len(starts()) > 80, what="a third of the jobs")
        c.kill(leader)
        killed = time.time()
        late = Note.perform_async(1000)
        assert late.result(timeout=10) == 1000
        started = next(float(row[2]) for row in ledger() if row[:2] == ["start", "1000"])
        assert started - killed < 2.0
        assert [job.result(timeout=30) for job in jobs] == list(range(262))
        until(c.same_state, what="one state")


def test_failures_are_retried_exactly_and_kept(tmp_path: Path) -> None:
    """retries=2 runs three times, then sits in the failed set with what went wrong."""
    with cluster(tmp_path, 1) as c:
        c.client()
        job = Failing.perform_async(7)
        with pytest.raises(JobFailed, match="no 7"):
            job.result(timeout=20)
        assert [row[2] for row in ledger()] == ["1", "2", "3"]
        status = job.status()
        assert status.state == "failed"
        assert status.error is not None
        assert (status.error.type, status.error.message) == ("ValueError", "no 7")
        assert "raise ValueError" in status.error.traceback
        assert exkiq.stats()["failed"] == 1
        assert AsyncNote.perform_async(21).result(timeout=10) == 42


def test_a_scheduled_job_is_never_early_and_survives_the_leader(tmp_path: Path) -> None:
    with cluster(tmp_path) as c:
        c.client()
        called = time.time()
        job = Note.perform_in(1, seconds=3)
        time.sleep(0.5)
        c.kill(c.leader())
        assert job.result(timeout=20) == 1
        (started,) = (float(row[2]) for row in ledger() if row[:2] == ["start", "1"])
        assert 3.0 <= started - called <= 4.0


def test_all_nodes_killed_keep_what_was_acknowledged(tmp_path: Path) -> None:
    """500 waiting jobs are there in order after a kill -9 of every node, and run."""
    with cluster(tmp_path, 3, "--concurrency", "1") as c:
        c.client()
        exkiq.queue("notes").pause()
        jobs = Note.perform_bulk([(number,) for number in range(500)])
        c.kill(*c.names)
        c.start()
        c.wait_ready()
        c.client()
        listed: list[str] = []
        until(lambda: exkiq.stats()["queued"] == 500, what="500 waiting jobs")
        listed = [status.id for status in exkiq.queue("notes").jobs(state="queued", limit=500)]
        assert listed == [job.id for job in jobs]
        exkiq.queue("notes").resume()
        assert [job.result(timeout=30) for job in jobs] == list(range(500))
        assert set(starts().values()) == {1}


def test_a_dead_child_costs_only_its_job(tmp_path: Path) -> None:
    with cluster(tmp_path, 1) as c:
        c.client()
        with pytest.raises(JobFailed):
            Dying.perform_async(1).result(timeout=20)
        assert Note.perform_async(2).result(timeout=10) == 2
        assert c.alive == ["n1"]


def test_a_lost_node_s_jobs_run_elsewhere(tmp_path: Path) -> None:
    """A node is killed with jobs in its hands: they start again on another, uncounted."""
    with cluster(tmp_path) as c:
        c.client()
        jobs = [Note.perform_async(number, 2.0) for number in range(12)]
        until(lambda: len(starts()) == 12, what="all started")
        victim = next(name for name in c.names if name != c.leader())
        c.kill(victim)
        assert [job.result(timeout=30) for job in jobs] == list(range(12))
        assert all(job.status().attempt == 1 for job in jobs)


def test_sigterm_drains_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """A rolling stop of the leader: its running job ends, nothing runs twice, exit code 0."""
    with cluster(tmp_path) as c:
        c.client()
        jobs = [Note.perform_async(number, 1.0) for number in range(9)]
        until(lambda: len(starts()) == 9, what="all started")
        leader = c.leader()
        c.kill(leader, how=signal.SIGTERM)
        assert c.processes[leader].returncode == 0
        assert [job.result(timeout=20) for job in jobs] == list(range(9))
        assert set(starts().values()) == {1}
        c.start(leader)
        c.wait_ready()
        until(c.same_state, what="one state")


def test_a_second_process_on_a_data_folder_is_refused(tmp_path: Path) -> None:
    with cluster(tmp_path, 1) as c:
        second = Cluster(tmp_path, 1)
        second.start()
        assert second.processes["n1"].wait(20) == 2
        assert "in use by another process" in second.logs()
        c.client()
        assert Note.perform_async(1).result(timeout=10) == 1


def test_a_minority_refuses_writes_and_answers_reads(tmp_path: Path) -> None:
    with cluster(tmp_path) as c:
        job_id = (c.client(), Note.perform_async(1))[1].id
        until(lambda: exkiq.job(job_id).status().state == "succeeded", what="the job")
        survivor = next(name for name in c.names if name != c.leader())
        c.kill(*(name for name in c.names if name != survivor))
        time.sleep(1.5)
        client = c.client(survivor)
        client.enqueue_timeout = 1.0
        with pytest.raises((exkiq.errors.NoQuorum, EnqueueTimeout)):
            Note.perform_async(2)
        assert exkiq.job(job_id).status().state == "succeeded"


@pytest.mark.parametrize("run", range(FOUNDINGS))
def test_three_fresh_nodes_at_one_instant_are_one_cluster(tmp_path: Path, run: int) -> None:
    with cluster(tmp_path, mdns=True) as c:
        found = [c.status(name)["cluster"] for name in c.names]
        assert len({one["id"] for one in found}) == 1
        assert all(len(one["members"]) == 3 for one in found)
        until(c.same_state, what="one state")


def test_a_removed_node_stops_and_joins_again_when_started(tmp_path: Path) -> None:
    """It would campaign for ever in a cluster that does not count it."""
    with cluster(tmp_path) as c:
        client = c.client()
        gone = next(name for name in c.names if name != c.leader())
        client.request("cluster_remove", gone, False, timeout=10)
        assert c.processes[gone].wait(10) == 0
        assert "was told to leave its cluster; start it to join anew" in c.logs()
        c.client(*c.alive)
        assert Note.perform_async(1).result(timeout=10) == 1
        c.start(gone)
        c.wait_ready()
        until(c.same_state, what="one state")


def test_a_node_that_leaves_on_stop_is_no_member(tmp_path: Path) -> None:
    """Three to two to one on purpose, and the last one still accepts work."""
    with cluster(tmp_path, 3, "--leave-on-stop") as c:
        for count in (2, 1):
            leader = c.leader()
            c.kill(leader, how=signal.SIGTERM)
            assert c.processes[leader].returncode == 0
            left = c.alive
            until(lambda left=left: len(c.status(left[0])["cluster"]["members"]) == len(left))
            assert len(left) == count
        c.client(*c.alive)
        assert Note.perform_async(1).result(timeout=10) == 1
