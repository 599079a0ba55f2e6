"""Outcomes of many jobs, their steps and progress, and moving and choosing them."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

import exkiq
from exkiq import AttemptError, Outcome, Step, connection, errors, requests
from exkiq.client import Client
from exkiq.machine import State
from exkiq.queues import watchers
from exkiq.wire.codec import encode_value
from tests.api.api_app import Add, Wait, send
from tests.api.conftest import Connect
from tests.api.fake_node import FakeCluster, FakeNode, Mood

FAILED = ["failed"]


def test_outcomes_come_in_the_order_asked_for(cluster: FakeCluster, client: Client) -> None:
    """One job that failed hides the outcomes of all others, or they are mixed up."""
    jobs = Add.perform_bulk([(number,) for number in range(6)])
    done, broken, none, cancelled, odd, waits = jobs
    cluster.finish(none.id, None)
    cluster.finish(done.id, [3, 4])
    cluster.fail(broken.id, FAILED, "second")
    cancelled.cancel()
    cluster.finish(odd.id, ("ResultTooLarge", "1 MB"))
    outcomes = exkiq.result_many(jobs, timeout=0.05)
    assert outcomes[0] == Outcome(State.SUCCEEDED, [3, 4], None)
    assert outcomes[2] == Outcome(State.SUCCEEDED, None, None)
    assert outcomes[5] is None
    states = [outcome.state for outcome in outcomes if outcome is not None]
    assert states == ["succeeded", "failed", "succeeded", "cancelled", "succeeded"]
    kinds = [type(outcome.error) for outcome in outcomes if outcome is not None]
    assert kinds[1::2] == [errors.JobFailed, errors.JobCancelled]
    assert kinds[4] is errors.ResultTooLarge
    cluster.finish(waits.id, 5)
    assert exkiq.result_many([waits, done.id]) == [
        Outcome(State.SUCCEEDED, 5, None),
        Outcome(State.SUCCEEDED, [3, 4], None),
    ]
    again = asyncio.run(exkiq.aresult_many(jobs, timeout=0))
    assert [outcome.state for outcome in again if outcome is not None] == [*states, "succeeded"]
    assert exkiq.result_many([]) == asyncio.run(exkiq.aresult_many([])) == []
    with pytest.raises(TypeError, match="several"):
        exkiq.result_many(done.id)


def test_a_job_that_nobody_knows_is_no_reason_to_ask_again(client: Client) -> None:
    """A loop until all have an outcome never ends because of one wrong id."""
    for outcomes in (
        exkiq.result_many(["nope"], timeout=None),
        asyncio.run(exkiq.aresult_many([exkiq.job("nope")])),
    ):
        (outcome,) = outcomes
        assert outcome is not None
        assert (outcome.state, type(outcome.error)) == (None, errors.NoSuchJob)


def test_one_limit_for_all_and_one_waiter(cluster: FakeCluster, client: Client) -> None:
    """Waiting for a thousand jobs takes a thousand threads, or a thousand time limits."""
    jobs = Add.perform_bulk([(number,) for number in range(300)])
    threads = threading.active_count()
    found: list[Any] = []
    waits = threading.Thread(target=lambda: found.extend(exkiq.result_many(jobs, timeout=60)))
    waits.start()
    while cluster.nodes[0].verbs().count("result") < 300:
        cluster.on_loop(asyncio.sleep, 0)
    assert threading.active_count() == threads + 1
    for job in jobs:
        cluster.finish(job.id, job.id)
    waits.join()
    assert [outcome.value for outcome in found] == [job.id for job in jobs]
    assert client._connected()._live == {}


def test_outcomes_of_more_jobs_than_a_node_takes_at_once(
    monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster, client: Client
) -> None:
    """Those that have long ended are called unfinished, because others stood in their way."""
    monkeypatch.setattr(connection, "POLLS_MAX", 5)
    jobs = Add.perform_bulk([(number,) for number in range(40)])
    for job in jobs[30:]:
        cluster.finish(job.id, 1)
    outcomes = exkiq.result_many(jobs, timeout=0.05)
    assert [outcome is not None for outcome in outcomes] == [False] * 30 + [True] * 10
    outcomes = asyncio.run(exkiq.aresult_many(jobs, timeout=0.05))
    assert [outcome is not None for outcome in outcomes] == [False] * 30 + [True] * 10


def test_a_cluster_that_is_not_there_is_an_error(
    monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster, client: Client
) -> None:
    """Nobody answers, and that looks like jobs that have not ended."""
    monkeypatch.setattr(requests, "REACH_SECONDS", 0.1)
    job = Add.perform_async(1)
    cluster.stop_node(cluster.nodes[0])
    with pytest.raises(errors.NoNodeError):
        exkiq.result_many([job], timeout=None)


def test_a_job_is_watched_to_its_end(cluster: FakeCluster, client: Client) -> None:
    """Someone who watches misses a step, or waits for more after the last."""
    job = Add.perform_async(1)
    steps = job.watch()
    assert next(steps) == Step("queued", "sums", 1)
    cluster.begin(job.id)
    assert next(steps) == Step("started", "sums", 1, "w1")
    cluster.fail(job.id, ["retry", 0])
    error = AttemptError("ValueError", "broken", "the traceback")
    assert next(steps) == Step("retrying", "sums", 2, "w1", error, 0.0)
    cluster.finish(job.id, 3)
    assert [step.name for step in steps] == ["started", "succeeded"]
    assert list(steps) == []
    assert [step.name for step in job.watch()] == ["succeeded"]
    assert client._connected()._live == {}


def test_a_loop_watches_too(cluster: FakeCluster, client: Client) -> None:
    """Watching blocks the loop, or is told nothing there."""
    job = Add.perform_async(1)

    async def main() -> list[str]:
        names = []
        async for step in job.awatch():
            names.append(step.name)
            if step.name == "queued":
                await asyncio.to_thread(cluster.fail, job.id, FAILED)
        return names

    assert asyncio.run(main()) == ["queued", "started", "failed"]


def test_a_loop_is_needed_to_watch_from_one(client: Client) -> None:
    """The mistake is told in a way that hides it, or only when the garbage is collected."""
    with pytest.raises(RuntimeError, match="loop"):
        Add.perform_async(1).awatch()
    gc.collect()


def test_watching_what_nobody_knows_is_an_error(client: Client) -> None:
    """A wrong id is watched for ever."""
    steps = exkiq.job("nope").watch()
    with pytest.raises(errors.NoSuchJob, match="nope"):
        next(steps)
    assert list(steps) == []


@pytest.mark.usefixtures("little_patience")
@pytest.mark.parametrize("way", ["killed", "mute"])
def test_a_watch_outlives_its_node(
    monkeypatch: pytest.MonkeyPatch,
    cluster: FakeCluster,
    pair: tuple[FakeNode, FakeNode],
    connect: Connect,
    way: str,
) -> None:
    """With its node the watch ends, or a step is told twice by the next one."""
    monkeypatch.setattr(requests, "BEAT_SECONDS", 0.5)
    monkeypatch.setattr(watchers, "BEAT_S", 0.02)
    connect(*pair)
    job = Add.perform_async(1)
    steps = job.watch()
    assert next(steps).name == "queued"
    cluster.begin(job.id)
    assert next(steps).name == "started"
    if way == "killed":
        cluster.stop_node(pair[0])
    else:
        pair[0].mood = Mood.MUTE
    while not pair[1].watches:
        cluster.on_loop(asyncio.sleep, 0)
    cluster.hand_back(job.id)
    assert next(steps).name == "handed_back"
    cluster.finish(job.id, 3)
    assert [step.name for step in steps] == ["started", "succeeded"]


@pytest.mark.usefixtures("little_patience")
def test_the_present_is_told_anew_when_it_has_changed_meanwhile(
    cluster: FakeCluster, pair: tuple[FakeNode, FakeNode], connect: Connect
) -> None:
    """What happened between two nodes is never told."""
    connect(*pair)
    job = Add.perform_async(1)
    steps = job.watch()
    assert next(steps).name == "queued"
    pair[1].mood = Mood.BUSY
    cluster.stop_node(pair[0])
    cluster.begin(job.id)
    pair[1].mood = Mood.HONEST
    assert next(steps).name == "started"
    cluster.finish(job.id, 3)
    assert [step.name for step in steps] == ["succeeded"]


def test_a_watch_that_is_dropped_is_given_up(cluster: FakeCluster, client: Client) -> None:
    """Every watch that was begun is carried on by the node until the job ends."""
    job = Add.perform_async(1)
    for step in job.watch():
        assert step.name == "queued"
        break
    del step
    gc.collect()

    async def main() -> None:
        steps = job.awatch()
        assert (await anext(steps)).name == "queued"

    asyncio.run(main())
    gc.collect()
    client.request("ping")
    assert cluster.nodes[0].verbs().count("unwatch") == 2
    assert len(cluster.watchers) == 0
    assert client._connected()._flights == {}


def test_progress_is_what_was_said_last(cluster: FakeCluster, client: Client) -> None:
    """A job says how far it is, and its handle does not show it."""
    job = Add.perform_async(1)
    assert job.progress is None
    cluster.progress[job.id] = encode_value({"done": 3})
    assert job.progress == asyncio.run(job.aprogress()) == {"done": 3}


def test_a_running_job_is_asked_to_stop(cluster: FakeCluster, client: Client) -> None:
    """A caller cannot stop a job that runs, or stops one that was to be spared."""
    job = Add.perform_async(1)
    cluster.begin(job.id)
    assert [job.cancel(), job.cancel(running=True)] == ["in_progress", "stopping"]
    assert asyncio.run(job.acancel(running=True)) == "stopping"
    cluster.on_loop(cluster.finish_here, job.id, 3)
    assert job.result() == 3


def test_a_queue_lists_the_jobs_that_are_chosen(cluster: FakeCluster, client: Client) -> None:
    """Someone looks through all jobs by hand, or is shown others than those asked for."""
    jobs = Add.perform_bulk([(number,) for number in range(2_500)])
    Wait.perform_async(1)
    queue = exkiq.queue("sums")
    cluster.begin(jobs[7].id)
    assert [status.id for status in queue.jobs(where={"args": [2_400]})] == [jobs[2_400].id]
    assert [status.id for status in queue.jobs(where={"by": "w1", "state": "running"})] == [
        jobs[7].id
    ]
    assert queue.jobs(where={"task": "nobody"}) == []
    even = queue.jobs("queued", limit=3, where=lambda status: status.args[0] % 1_000 == 999)
    assert [status.args for status in even] == [(999,), (1_999,)]
    found = asyncio.run(queue.ajobs(limit=2, where={"attempt": 1}))
    assert [status.id for status in found] == [jobs[7].id, jobs[0].id]


def test_jobs_too_large_for_one_page_are_judged_by_all_they_hold(
    cluster: FakeCluster, client: Client
) -> None:
    """Where arguments are left out of a list, no job is ever found by them."""
    jobs = [send.set(queue="sums").perform_async("x" * 900_000, str(at)) for at in range(8)]
    found = exkiq.queue("sums").jobs(where=lambda status: status.args[1] in ("6", "7"))
    assert [status.id for status in found] == [job.id for job in jobs[6:]]


def test_a_predicate_that_raises_raises_in_the_caller(client: Client) -> None:
    """A mistake in a predicate looks like an empty queue, or takes a node down."""
    Add.perform_async(1)
    with pytest.raises(ZeroDivisionError):
        exkiq.queue("sums").jobs(where=lambda _: 1 / 0)
    with pytest.raises(ValueError, match="'colour'"):
        exkiq.queue("sums").jobs(where={"colour": "red"})
    assert len(exkiq.queue("sums").jobs()) == 1


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: exkiq.queue("sums").jobs(where="args=1"), "where"),  # type: ignore[arg-type]
        (lambda: exkiq.result_many("one"), "list"),
        (lambda: exkiq.result_many(exkiq.job("one")), "list"),  # type: ignore[arg-type]
        (lambda: exkiq.result_many([7]), "id"),  # type: ignore[list-item]
        (lambda: exkiq.job(7), "id"),  # type: ignore[arg-type]
        (lambda: exkiq.queue("sums").move(7, "other"), "id"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_job_or_no_choice_is_named(
    client: Client, call: Callable[[], Any], named: str
) -> None:
    """A mistake of a caller shows as an error somewhere inside, or only on the node."""
    with pytest.raises((TypeError, ValueError), match=named):
        call()


def test_a_job_that_waits_moves_as_it_is(cluster: FakeCluster, client: Client) -> None:
    """Moving makes a second job, loses its time, or counts it twice."""
    sums = exkiq.queue("sums")
    waits, later = Add.perform_async(1), Add.perform_in(2, hours=1)
    due = later.status().run_at
    assert sums.move(waits, "other") == waits
    assert asyncio.run(sums.amove(later.id, "other")) == later
    assert (later.status().queue, later.status().state, later.status().run_at) == (
        "other",
        "scheduled",
        due,
    )
    other = exkiq.queue("other").stats()
    assert (other.queued, other.scheduled) == (1, 1)
    assert (sums.stats().queued, sums.stats().scheduled) == (0, 0)
    assert [waits.cancel(), later.cancel()] == ["ok", "ok"]


def test_of_a_job_that_has_started_a_copy_is_made(cluster: FakeCluster, client: Client) -> None:
    """A job that runs is taken away from its node, or the copy is another call."""
    sums = exkiq.queue("sums")
    running, ended = Add.perform_bulk([(1,), (2,)])
    cluster.begin(running.id)
    cluster.finish(ended.id, 4)
    copies = [sums.move(running, "other"), asyncio.run(sums.amove(ended, "other"))]
    assert len({job.id for job in (running, ended, *copies)}) == 4
    assert [job.status().state for job in (running, ended)] == ["running", "succeeded"]
    for job, copy in zip((running, ended), copies, strict=True):
        was, now = cluster.jobs[job.id], cluster.jobs[copy.id]
        assert now.spec == was.spec._replace(queue="other")
        assert now.payload == was.payload
    with pytest.raises(errors.Refused, match="has started"):
        sums.move(running, "third", only_if_pending=True)
    with pytest.raises(errors.Refused, match="has started"):
        asyncio.run(sums.amove(ended, "third", only_if_pending=True))
    assert "third" not in client.request("queues")


def test_a_move_that_cannot_be_is_refused(cluster: FakeCluster, client: Client) -> None:
    """A typing mistake moves a job of another queue, or makes an empty one."""
    sums = exkiq.queue("sums")
    job = Add.perform_async(1)
    with pytest.raises(errors.Refused, match=r"'sums', not 'elsewhere'"):
        exkiq.queue("elsewhere").move(job, "other")
    with pytest.raises(errors.NoSuchJob, match="nope"):
        sums.move("nope", "other")
    for wrong in ("sums", "failed", "", 3):
        with pytest.raises(ValueError, match=r"move|queue"):
            sums.move(job, wrong)  # type: ignore[arg-type]
    large = send.set(queue="sums").perform_async("x" * 20_000)
    cluster.finish(large.id, None)
    with pytest.raises(errors.Refused, match="not kept"):
        sums.move(large, "other")
    assert job.status().queue == "sums"
