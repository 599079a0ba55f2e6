"""Rows about what becomes of jobs: outcomes, steps, progress, lists, moves, statistics."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import exkiq
from exkiq import Client, QueueStats, Step, errors
from exkiq.bridge import background
from exkiq.cli import main
from tests.cluster.harness import until
from tests.rows.jobs import Broken, Echo, Hold, Note, Plain, Returning, SecondTime, Telling, is_held
from tests.rows.nodes import Group

IN_TIME = 5.0


@pytest.fixture
def paused(four: Group) -> str:
    """A queue of that cluster that starts nothing."""
    exkiq.queue("paused").pause()
    return "paused"


# ---- cancelling ----------------------------------------------------------------------------------


def test_HD_T8_cancel_says_what_became_of_it_on_any_node(
    four: Group, paused: str, tmp_path: Path
) -> None:
    running = Hold.perform_async(str(tmp_path / "gate"))
    until(lambda: running.status().state == "running", IN_TIME, "its start")
    ended = Plain.perform_async(1)
    assert ended.result() == 1
    for name in four.nodes:
        queued = Plain.set(queue=paused).perform_async(1)
        scheduled = Plain.perform_in(1, hours=1)
        told: list[Any] = []
        waits = threading.Thread(target=lambda job=queued, told=told: told.append(why(job)))
        waits.start()
        with four.client_of(name) as client:
            ids = [queued.id, scheduled.id, running.id, ended.id, "nobody"]
            answers = [client.job(job_id).cancel() for job_id in ids]
        assert answers == ["ok", "ok", "in_progress", "not_found", "not_found"]
        waits.join(IN_TIME)
        assert [type(error) for error in told] == [errors.JobCancelled]
        assert scheduled.status().state == "cancelled"
    assert running.status().state == "running"
    (tmp_path / "gate").touch()
    assert running.result()


def why(job: exkiq.Job) -> Exception | None:
    """Why waiting for it ended, None when it succeeded."""
    try:
        job.result(timeout=IN_TIME)
    except errors.JobError as error:
        return error
    return None


def test_HD_T8_cancel_works_after_retries_and_moves(four: Group, paused: str) -> None:
    retried = SecondTime.perform_async()
    moved = Echo.set(queue=paused).perform_async(1)
    exkiq.queue("nowhere").pause()
    exkiq.queue(paused).move(moved, "nowhere")
    until(lambda: retried.status().state == "retry", IN_TIME, "its first failure")
    with four.client_of("n4") as client:
        assert [client.job(job.id).cancel() for job in (retried, moved)] == ["ok", "ok"]
    for job in (retried, moved):
        with pytest.raises(errors.JobCancelled):
            job.result()
    exkiq.queue("nowhere").resume()


# ---- waiting -------------------------------------------------------------------------------------


def test_HD_T9_outcomes_of_many_within_one_limit(four: Group, paused: str) -> None:
    done, failed = Plain.perform_async(1, 2), Broken.perform_async("no")
    waits = Plain.set(queue=paused).perform_async(5)
    began = time.monotonic()
    outcomes = exkiq.result_many([waits, failed, done, waits], timeout=0.5)
    assert 0.5 <= time.monotonic() - began < 2.0
    assert (outcomes[0], outcomes[3]) == (None, None)
    assert outcomes[2] == exkiq.Outcome(exkiq.job(done.id).status().state, 3, None)
    assert outcomes[1] is not None
    assert outcomes[1].state == "failed"
    assert isinstance(outcomes[1].error, errors.JobFailed)
    exkiq.queue(paused).move(waits, "default")
    later = exkiq.result_many([waits], timeout=IN_TIME)
    assert [outcome and outcome.value for outcome in later] == [5]


def test_HL_02_result_is_final_and_anyone_with_the_id_may_ask(four: Group, paused: str) -> None:
    job = Broken.set(queue=paused).perform_async("no")
    with pytest.raises(TimeoutError):
        job.result(timeout=0)
    exkiq.queue(paused).move(job, "broken")
    for name in four.nodes:
        with four.client_of(name) as client, pytest.raises(errors.JobFailed) as caught:
            client.job(job.id).result(timeout=None)
        assert caught.value.attempts == 2  # and not the first failure


def test_HL_02_watch_yields_every_step_on_every_node(four: Group, paused: str) -> None:
    job = Broken.set(queue=paused).perform_async("no")
    clients = [four.client_of(name) for name in four.nodes]
    watches = [client.job(job.id).watch() for client in clients]
    assert [next(steps).name for steps in watches] == ["queued"] * 4
    exkiq.queue(paused).move(job, "broken")
    expected = ["moved", "started", "retrying", "started", "failed"]
    for client, steps in zip(clients, watches, strict=True):
        rest = list(steps)
        assert [step.name for step in rest] == expected
        retrying = rest[2]
        assert retrying.error is not None
        assert retrying.error[:2] == ("RuntimeError", "no")
        assert retrying.delay is not None
        assert 0 < retrying.delay < 1
        assert [step.name for step in client.job(job.id).watch()] == ["failed"]
        client.close()


def test_HL_02_a_watch_goes_on_with_another_node(four: Group, tmp_path: Path) -> None:
    job = Hold.perform_async(str(tmp_path / "gate"))
    with four.client_of("n1", "n2") as client:
        steps = client.job(job.id).watch()
        names = [next(steps).name]
        if names == ["queued"]:
            names = [next(steps).name]
        assert names == ["started"]
        cut_off(client)
        (tmp_path / "gate").touch()
        assert [step.name for step in steps] == ["succeeded"]


def cut_off(client: Client) -> None:
    """Its node is gone, as far as the client can see."""
    link = client._connected()._link
    assert link is not None
    background.loop().call_soon_threadsafe(link.close, "cut")


# ---- lists and moves -----------------------------------------------------------------------------


def test_HL_03_lists_by_state_and_by_choice(four: Group, paused: str, tmp_path: Path) -> None:
    running = Hold.perform_async(str(tmp_path / "gate"))
    jobs = [Echo.set(queue=paused).perform_async(number, key="x") for number in range(5)]
    until(lambda: running.status().state == "running", IN_TIME, "its start")
    assert running.id in [status.id for status in exkiq.queue("holds").jobs()]
    queue = exkiq.queue(paused)
    assert [status.id for status in queue.jobs(where={"args": (3,)})] == [jobs[3].id]
    chosen = queue.jobs(state="queued", where=lambda status: status.args[0] > 2)
    assert [status.id for status in chosen] == [jobs[3].id, jobs[4].id]
    assert queue.jobs(state="running", where={"args": (3,)}) == []
    with pytest.raises(ZeroDivisionError):
        queue.jobs(where=lambda _: 1 // 0)
    assert len(queue.jobs(state="queued")) == 5
    (tmp_path / "gate").touch()
    assert running.result()


def test_HL_04_a_job_that_waits_moves_and_of_others_copies_are_made(
    four: Group, paused: str, tmp_path: Path
) -> None:
    queue, target = exkiq.queue(paused), exkiq.queue("nowhere")
    target.pause()
    waits = Echo.set(queue=paused).perform_async(1)
    assert queue.move(waits, "nowhere") == waits
    assert (queue.stats().queued, target.stats().queued) == (0, 1)
    running = Hold.perform_async(str(tmp_path / "gate"))
    until(lambda: running.status().state == "running", IN_TIME, "its start")
    with pytest.raises(errors.Refused):
        exkiq.queue("holds").move(running, "nowhere", only_if_pending=True)
    copy = exkiq.queue("holds").move(running, "nowhere")
    assert copy != running
    assert copy.status().args == running.status().args
    assert (running.status().state, copy.status().queue) == ("running", "nowhere")
    (tmp_path / "gate").touch()
    assert running.result()
    ended = exkiq.queue("holds").move(running, "nowhere")
    assert ended.id not in (running.id, copy.id)
    assert target.stats().queued == 3
    target.clear()
    target.resume()


# ---- progress ------------------------------------------------------------------------------------


def test_HL_22_progress_is_seen_from_every_node(
    four: Group, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = index_of(four.client)
    job = Telling.perform_async(str(tmp_path / "gate"))
    until(lambda: is_held(job), IN_TIME, "its start")
    told = {"done": 1, "of": 2}
    for name in four.nodes:
        with four.client_of(name) as client:
            until(partial(is_told, client.job(job.id), told), 0.5, f"progress on {name}")
            assert client.queue("holds").jobs(where={"id": job.id})[0].progress == told
    assert index_of(four.client) - index <= 4  # the enqueue, the claim; nothing of the progress
    url = f"exkiq://127.0.0.1:{four.ports['n4']}"
    assert main(["status", "--json", "--url", url]) == 0
    assert json.loads(capsys.readouterr().out)["progress"] == {job.id: told}
    (tmp_path / "gate").touch()
    assert job.result() is None
    until(lambda: job.progress is None, 1.0, "its end")


def is_told(job: exkiq.Job, told: object) -> bool:
    """Whether this is what it said last."""
    return bool(job.progress == told)


def index_of(client: Client) -> int:
    """How many entries the log has that are committed."""
    index: int = client.request("status")["raft"]["commit_index"]
    return index


def test_HL_22_none_before_the_first_and_an_error_outside_of_a_job(
    four: Group, paused: str
) -> None:
    assert Echo.set(queue=paused).perform_async(1).progress is None
    with pytest.raises(RuntimeError):
        exkiq.progress(1)


# ---- figures -------------------------------------------------------------------------------------


def counted(stats: QueueStats) -> dict[str, Any]:
    """Its figures that do not depend on when one asks."""
    figures = dataclasses.asdict(stats)
    return {name: figures[name] for name in figures if name[:10] != "per_second"}


def test_HD_T5_figures_are_exact_and_equal_on_every_node(
    four: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = exkiq.queue("notes")
    before = queue.stats()
    queue.pause()
    jobs = Note.perform_bulk([(0.02,)] * 4)
    broken = Broken.set(queue="notes").perform_async("no")
    assert jobs.pop().cancel() == "ok"
    queue.resume()
    for job in jobs:
        job.result()
    assert isinstance(why(broken), errors.JobFailed)
    after = queue.stats()
    grown = {
        name: getattr(after, f"{name}_total") - getattr(before, f"{name}_total")
        for name in ("enqueued", "succeeded", "failed", "retried", "cancelled", "lost")
    }
    assert grown == {
        "enqueued": 5,
        "succeeded": 3,
        "failed": 1,
        "retried": 1,
        "cancelled": 1,
        "lost": 0,
    }
    assert after.waited.count - before.waited.count == 5  # three, and two attempts
    assert after.ran.count - before.ran.count == 5
    assert after.ran.max_ms >= 20
    assert 0 < after.ran.mean_ms <= after.ran.max_ms
    assert after.ran.p50_ms <= after.ran.p95_ms <= after.ran.max_ms
    assert after.per_second_1m >= 4 / 66
    assert after.per_second_5m >= 4 / 310
    everywhere = four.each(lambda client: counted(client.queue("notes").stats()))
    assert everywhere == [counted(after)] * 4
    url = f"exkiq://127.0.0.1:{four.ports['n4']}"
    assert main(["stats", "--json", "--url", url]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["queues"]["notes"]["waited"]["count"] == after.waited.count
    assert told["succeeded"] == exkiq.stats()["succeeded"]


def test_EX_15_the_failed_set_outlives_its_leader(four: Group) -> None:
    job = Broken.perform_async("kept")
    assert isinstance(why(job), errors.JobFailed)
    heir = next(name for name in four.nodes if name not in (four.leader, "n4"))
    four.nodes[four.leader].transfer_leadership(heir)
    until(four.agrees, IN_TIME, "one leader")
    for failed in four.each(lambda client: client.queue("broken").jobs(state="failed")):
        (kept,) = [status for status in failed if status.id == job.id]
        assert kept.error is not None
        assert kept.error.message == "kept"
        assert kept.by in four.nodes
    assert exkiq.failed.delete(job) == 1


def test_EX_17_a_flat_map_has_queues_states_and_what_no_node_can_run(four: Group) -> None:
    stats = exkiq.stats(consistent=True)
    assert stats["unknown_task"] == 0
    assert {"default", "queued", "running", "failed", "succeeded", "cancelled"} <= set(stats)
    assert all(isinstance(count, int) for count in stats.values())
    for name in ("unknown_task", "queues"):
        with pytest.raises(ValueError, match=name):
            exkiq.queue(name)


def test_HA_02_a_value_is_kept_for_its_time_and_none_is_delivered(four: Group) -> None:
    short = Plain.set(result_ttl=0.5).perform_async(1, 2)
    kept = Plain.perform_async(1, 3)
    nothing = Note.perform_async()
    assert [short.result(), kept.result(), nothing.result()] == [3, 4, None]
    assert four.each(lambda client: client.job(kept.id).result(timeout=0)) == [4] * 4
    assert four.each(lambda client: client.job(nothing.id).result(timeout=0)) == [None] * 4

    def is_gone(client: Client) -> bool:
        (outcome,) = exkiq.result_many([client.job(short.id)], timeout=0)
        return outcome is not None and isinstance(outcome.error, errors.NoSuchJob)

    until(lambda: all(four.each(is_gone)), IN_TIME, "its end")
    with pytest.raises(errors.NoSuchJob):
        exkiq.job(short.id).result()
    assert kept.result() == 4


@pytest.mark.parametrize(
    ("kind", "error"),
    [("large", errors.ResultTooLarge), ("odd", errors.SerializationError)],
)
def test_HA_02_a_value_that_cannot_be_kept_is_no_failure(
    four: Group, kind: str, error: type[Exception]
) -> None:
    job = Returning.perform_async(kind)
    with pytest.raises(error):
        job.result()
    assert job.status().state == "succeeded"
    assert list(job.watch())[-1] == Step("succeeded", "echo", 1, job.status().by)
