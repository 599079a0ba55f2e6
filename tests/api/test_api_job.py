"""Handles of jobs and queues: outcomes, waiting, cancelling, lists and counts."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import exkiq
from exkiq import AttemptError, QueueStats, errors
from exkiq.client import Client
from exkiq.machine import State
from tests.api.api_app import Add, Riak, Wait, send
from tests.api.fake_node import FakeCluster, FakeNode

FAILED = ["failed"]


@pytest.mark.parametrize("value", [3, None, "text", [1, {"a": b"b"}], 0, False])
def test_the_value_of_a_job_comes_back(cluster: FakeCluster, client: Client, value: Any) -> None:
    """A value is lost, or None is taken for "not yet"."""
    job = Wait.perform_async(value)
    cluster.finish(job.id, value)
    assert value == job.result()
    assert value == asyncio.run(job.aresult())
    assert value == exkiq.job(job.id).result(timeout=0)


def test_a_waiter_is_told_when_it_ends(
    cluster: FakeCluster, node: FakeNode, client: Client
) -> None:
    """A caller waits for its whole timeout although the job ended long before."""
    job = Wait.perform_async(1)
    results: list[Any] = []
    waits = threading.Thread(target=lambda: results.append(job.result(timeout=60)))
    waits.start()
    while "result" not in node.verbs():
        cluster.on_loop(asyncio.sleep, 0)
    cluster.finish(job.id, 5)
    waits.join()
    assert results == [5]


def test_a_failed_job_tells_its_last_error(cluster: FakeCluster, client: Client) -> None:
    """The error of a job does not reach the one who waits for it."""
    job = Add.perform_async(1)
    cluster.fail(job.id, ["retry", 0], "first")
    cluster.fail(job.id, FAILED, "second")
    with pytest.raises(errors.JobFailed, match="ValueError: second") as caught:
        job.result()
    told = caught.value
    assert (
        told.error_type,
        told.error_message,
        told.traceback,
        told.attempts,
    ) == ("ValueError", "second", "the traceback", 2)
    status = job.status()
    assert AttemptError("ValueError", "second", "the traceback") == status.error
    assert [error.message for error in status.errors] == ["first", "second"]
    assert (status.state, status.by, status.attempt) == (State.FAILED, "w1", 2)
    assert status.completed_at is not None


def test_out_of_time_is_not_the_end_of_the_job(cluster: FakeCluster, client: Client) -> None:
    """A timeout hides which job it was and why it takes so long, or is no TimeoutError."""
    job = Add.perform_async(1)
    with pytest.raises(TimeoutError) as caught:
        job.result(timeout=0)
    cluster.fail(job.id, ["retry", 3_600_000])
    with pytest.raises(TimeoutError, match=f"{job.id}.*ValueError: broken") as caught:
        job.result(timeout=0.01)
    assert job == caught.value.job  # type: ignore[attr-defined]
    assert caught.value.error.message == "broken"  # type: ignore[attr-defined]
    with pytest.raises(TimeoutError, match="broken"):
        asyncio.run(job.aresult(timeout=0.01))
    assert job.status().state == "retry"


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), True, "5"])
def test_a_timeout_is_seconds(unopened: Client, timeout: Any) -> None:
    """A bad timeout waits for ever, or not at all."""
    with pytest.raises(ValueError, match="timeout"):
        exkiq.job("ohai").result(timeout=timeout)


def test_an_unknown_job_is_an_error(client: Client) -> None:
    """Waiting for a job that never was takes the whole timeout."""
    for ask in (exkiq.job("nope").result, exkiq.job("nope").status):
        with pytest.raises(errors.NoSuchJob, match="nope"):
            ask()


def test_a_value_that_was_not_kept_is_told(cluster: FakeCluster, client: Client) -> None:
    """A caller gets None for a value that was too large, or the marks in its place."""
    job = Add.perform_async(1)
    cluster.finish(job.id, ("ResultTooLarge", "1 MB"))
    with pytest.raises(errors.ResultTooLarge):
        job.result()
    for mark, kind in ((b"\xc1R", errors.ResultTooLarge), (b"\xc1Sa set", TypeError)):
        cluster.verbs["result"] = lambda answer, *_, mark=mark: answer(["succeeded", mark])
        with pytest.raises(kind, match=job.id):
            job.result()


def test_call_enqueues_and_waits(cluster: FakeCluster, node: FakeNode, client: Client) -> None:
    """`call` gives a job rather than a value, or forgets its timeout or its arguments."""
    honest = cluster.verbs["propose"]

    def run_at_once(*args: Any) -> None:
        honest(*args)
        for job_id, record in list(cluster.jobs.items()):
            if record.state is State.QUEUED:
                cluster.loop.call_soon(cluster.finish_here, job_id, 42)

    cluster.verbs["propose"] = run_at_once
    assert Add.call(1, second=2) == 42
    assert Riak.get.call("bucket", "key", timeout=None) == 42
    assert send.set(queue="other").call("a@example.org", timeout=1) == 42
    assert asyncio.run(Add.acall(1, 2)) == 42
    cluster.verbs["propose"] = honest
    with pytest.raises(TimeoutError) as caught:
        Add.call(1, 2, timeout=0.01)
    assert caught.value.job.id in cluster.jobs  # type: ignore[attr-defined]


def test_cancel_says_what_became_of_it(cluster: FakeCluster, client: Client) -> None:
    """A caller cannot tell a job that will not run from one that runs."""
    waiting, running, ended = (Add.perform_async(number) for number in range(3))
    cluster.begin(running.id)
    cluster.finish(ended.id, None)
    assert [
        waiting.cancel(),
        running.cancel(),
        ended.cancel(),
        exkiq.job("nope").cancel(),
    ] == ["ok", "in_progress", "not_found", "not_found"]
    with pytest.raises(errors.JobCancelled, match=waiting.id):
        waiting.result()
    assert asyncio.run(waiting.acancel()) == "not_found"


def test_jobs_are_compared_by_id(client: Client) -> None:
    """The handle of a known id is another job than the one that was enqueued."""
    job = Add.perform_async(1)
    assert {job} == {exkiq.job(job.id)}
    assert job != job.id
    assert job.id in repr(job)


def test_a_queue_is_paused_and_resumed(cluster: FakeCluster, client: Client) -> None:
    """Pausing does nothing, or cannot be told from having been paused."""
    queue = exkiq.queue("sums")
    assert [queue.pause(), queue.pause(), queue.stats().paused] == [True, False, True]
    assert [queue.resume(), queue.resume(), queue.stats().paused] == [True, False, False]

    async def main() -> list[bool]:
        return [await queue.apause(), (await queue.astats()).paused, await queue.aresume()]

    assert asyncio.run(main()) == [True, True, True]


def test_a_queue_is_counted_listed_and_cleared(cluster: FakeCluster, client: Client) -> None:
    """A list of a queue has the jobs of another, or clearing it ends what runs."""
    queue = exkiq.queue("sums")
    assert QueueStats("sums") == queue.stats()
    jobs = Add.perform_bulk([(number,) for number in range(5)])
    Add.perform_in(9, hours=1)
    Wait.perform_async(1)
    cluster.begin(jobs[0].id)
    cluster.fail(jobs[1].id, FAILED)
    assert (
        queue.stats().queued,
        queue.stats().running,
        queue.stats().scheduled,
        queue.stats().failed,
    ) == (3, 1, 1, 1)
    assert [job.id for job in jobs[2:]] == [status.id for status in queue.jobs(state="queued")]
    assert [status.args for status in queue.jobs("queued", limit=2)] == [(2,), (3,)]
    assert {"sums"} == {status.queue for status in queue.jobs()}
    assert [jobs[1].id] == [status.id for status in asyncio.run(queue.ajobs("failed"))]
    assert queue.clear() == 4
    assert asyncio.run(queue.aclear()) == 0
    assert jobs[0].status().state == "running"
    assert queue.retry_all() == 1
    assert asyncio.run(queue.aretry_all()) == 0
    assert jobs[1].status().state == "queued"
    assert 1 == exkiq.stats()["running"] == asyncio.run(client.astats())["running"]


def test_a_long_list_comes_whole(cluster: FakeCluster, client: Client) -> None:
    """A list ends at the page of one answer."""
    jobs = Add.perform_bulk([(number,) for number in range(2_100)])
    queue = exkiq.queue("sums")
    assert [job.id for job in jobs] == [status.id for status in queue.jobs(limit=5_000)]
    assert [job.id for job in jobs[:1_500]] == [status.id for status in queue.jobs(limit=1_500)]


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda: exkiq.queue(""), "queue"),
        (lambda: exkiq.queue("failed"), "failed"),
        (lambda: exkiq.queue("q").jobs(state="broken"), "broken"),
        (lambda: exkiq.queue("q").jobs(limit=0), "limit"),
        (lambda: exkiq.queue("q").jobs(limit=True), "limit"),
    ],
)
def test_bad_questions_are_named(unopened: Client, ask: Any, text: str) -> None:
    """A bad name or state is asked of the cluster, which answers with nothing."""
    with pytest.raises(ValueError, match=text):
        ask()


def test_a_failure_says_how_often_it_was_tried() -> None:
    """The message is no sentence."""
    assert str(errors.JobFailed("E", "no")) == "E: no (after 1 attempt)"
    assert str(errors.JobFailed("E", "no", attempts=3)) == "E: no (after 3 attempts)"
