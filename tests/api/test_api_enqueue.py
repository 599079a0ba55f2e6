"""From a class to a stored job: what is sent, and what is refused before anything is sent."""

from __future__ import annotations

import asyncio
import datetime
import math
import threading
from typing import Any

import pytest

import exkiq
from exkiq import JobStatus, Worker, errors
from exkiq.client import Client
from exkiq.machine import State, limits
from exkiq.wire.codec import decode_call
from tests.api.api_app import Add, Copy, Nothing, Riak, Wait, send
from tests.api.fake_node import FakeCluster, FakeNode

UTC = datetime.UTC
NOON = datetime.datetime(2100, 1, 1, 12, tzinfo=UTC)


def stored(cluster: FakeCluster, job: exkiq.Job) -> Any:
    return cluster.jobs[job.id]


def test_a_job_arrives_with_all_that_its_class_says(cluster: FakeCluster, client: Client) -> None:
    """An option of the class is lost on the way, or lands in another field."""
    record = stored(cluster, Add.perform_async(1, second=2))
    assert tuple(record.spec) == ("tests.api.api_app:Add", "sums", 3, 2, 60_000, 1, 30_000, False)
    assert decode_call(record.payload) == ([1], {"second": 2})
    assert State.QUEUED is record.state


def test_what_no_class_says_has_the_documented_default(
    cluster: FakeCluster, client: Client
) -> None:
    """A worker without options gets others than the README promises."""
    record = stored(cluster, Wait.perform_async(None))
    assert tuple(record.spec) == ("tests.api.api_app:Wait", "default", 0, 5, 600_000, 3, 0, False)


def test_set_gives_another_handle_and_leaves_the_first_alone(
    cluster: FakeCluster, client: Client
) -> None:
    """Options of one call leak into the class, or a chain forgets its first link."""
    slow = Add.set(queue="slow", retries=0)
    both = slow.set(priority=-1, result_ttl=0, timeout=None, delay=datetime.timedelta(hours=1))
    record = stored(cluster, both.perform_async(1))
    assert tuple(record.spec) == ("tests.api.api_app:Add", "slow", -1, 0, 0, 1, 0, False)
    assert State.SCHEDULED is record.state
    assert (stored(cluster, slow.perform_async(1)).spec[1:3]) == ("slow", 3)
    assert (stored(cluster, Add.perform_async(1)).spec[1:3]) == ("sums", 3)


@pytest.mark.parametrize(
    ("task", "name", "queue", "retries"),
    [
        (Riak.up, "tests.api.api_app:Riak.up", "my_pool", 5),
        (Riak.get, "tests.api.api_app:Riak.get", "reads", 0),
        (Copy.up, "tests.api.api_app:Copy.up", "copies", 5),
        (Copy.get, "tests.api.api_app:Copy.get", "reads", 0),
        (send, "tests.api.api_app:send", "emails", 1),
    ],
)
def test_every_form_of_a_task_goes_by_its_path(
    cluster: FakeCluster, client: Client, task: Any, name: str, queue: str, retries: int
) -> None:
    """A node would look for the task in another place, or run it from another queue."""
    spec = stored(cluster, task.perform_async()).spec
    assert (name, queue, retries) == (spec.task, spec.queue, spec.retries)


def test_units_are_summed_and_the_rest_is_the_jobs(cluster: FakeCluster, client: Client) -> None:
    """A delayed job comes at another time, or with arguments that were meant as the time."""
    job = Add.perform_in(1, 2, hours=1, minutes=0.5, milliseconds=7)
    record = stored(cluster, job)
    assert record.run_at_ms - record.enqueued_ms == 3_630_007
    assert decode_call(record.payload) == ([1, 2], {})
    record = stored(cluster, Add.perform_in(datetime.timedelta(seconds=2), 1, second=3))
    assert record.run_at_ms - record.enqueued_ms == 2_000
    assert decode_call(record.payload) == ([1], {"second": 3})


def test_perform_at_takes_a_moment(cluster: FakeCluster, client: Client) -> None:
    """A job for a moment comes at another one, or one in the past never does."""
    assert stored(cluster, Add.perform_at(NOON, 1)).run_at_ms == 4_102_488_000_000
    past = datetime.datetime(1960, 1, 1, tzinfo=UTC)
    assert State.QUEUED is stored(cluster, Add.perform_at(past, 1)).state


REFUSED = [
    (lambda: Add.perform_in(10), TypeError, r"perform_in\(minutes=10\)"),
    (lambda: Add.perform_in(), TypeError, r"perform_in\(minutes=10\)"),
    (lambda: Add.perform_in(1, minutes="10"), TypeError, "minutes"),
    (lambda: Add.perform_in(1, minutes=True), TypeError, "minutes"),
    (lambda: Add.perform_in(1, minutes=-1), ValueError, "0 or more"),
    (lambda: Add.perform_in(1, days=math.inf), ValueError, "inf"),
    (lambda: Add.perform_in(1, seconds=math.nan), ValueError, "nan"),
    (lambda: Add.perform_in(datetime.timedelta(seconds=-1), 1), ValueError, "0 or more"),
    (lambda: Add.perform_at(NOON.replace(tzinfo=None), 1), ValueError, "aware"),
    (lambda: Add.perform_at("noon", 1), TypeError, "noon"),
    (lambda: Add.set(queue="").perform_async(1), ValueError, "queue"),
    (lambda: Add.set(queue="failed").perform_async(1), ValueError, "failed"),
    (lambda: Add.set(queue="q" * 256).perform_async(1), ValueError, "255"),
    (lambda: Add.set(queue=None).perform_async(1), ValueError, "queue"),
    (lambda: Add.set(queue="a\nb").perform_async(1), ValueError, "queue"),
    (lambda: Add.set(retries=-1).perform_async(1), ValueError, "retries"),
    (lambda: Add.set(retries=True).perform_async(1), ValueError, "retries"),
    (lambda: Add.set(retries=1.5).perform_async(1), ValueError, "retries"),
    (lambda: Add.set(priority="high").perform_async(1), ValueError, "priority"),
    (lambda: Add.set(delay=-1).perform_async(1), ValueError, "delay"),
    (lambda: Add.set(delay=math.nan).perform_async(1), ValueError, "delay"),
    (lambda: Add.set(delay=math.inf).perform_async(1), ValueError, "delay"),
    (lambda: Add.set(delay="1").perform_async(1), ValueError, "delay"),
    (lambda: Add.set(delay=True).perform_async(1), ValueError, "delay"),
    (lambda: Add.set(id="").perform_async(1), ValueError, "id"),
    (lambda: Add.set(id="x" * 129).perform_async(1), ValueError, "128"),
    (lambda: Add.set(id=7).perform_async(1), ValueError, "id"),
    (lambda: Add.set(id="\ud800").perform_async(1), ValueError, "id"),
    (lambda: Add.set(unique=True).perform_async(1), ValueError, "unique"),
    (lambda: Add.set(result_ttl=-1).perform_async(1), ValueError, "result_ttl"),
    (lambda: Add.set(timeout=0).perform_async(1), ValueError, "timeout"),
    (lambda: Add.set(backoff=1).perform_async(1), TypeError, "backoff"),
    (lambda: Add.set(retry=1).perform_async(1), TypeError, "retry"),
    (lambda: Add.set(id="x").perform_bulk([(1,)]), ValueError, "'x'"),
    (lambda: Add.perform_bulk([(1,), "ab"]), TypeError, "item 1"),
    (lambda: Add.perform_bulk([(1,), (1, object())]), errors.SerializationError, "item 1.*second"),
    (lambda: Add.perform_async(1, object()), errors.SerializationError, "second.*object"),
    (lambda: Add.perform_async(1, second={1, 2}), errors.SerializationError, "second.*set"),
    (lambda: Add.perform_async(2**64), errors.SerializationError, "first"),
    (lambda: Add.perform_async("x" * 2**20), errors.JobTooLarge, "first"),
    (lambda: Add.call(1, timeout=-1), ValueError, "timeout"),
    (lambda: Add.call(1, timeout=math.nan), ValueError, "timeout"),
    (lambda: Nothing.perform_async(1), AttributeError, "Nothing has no method perform"),
    (lambda: Riak.gte.perform_async(1), AttributeError, "gte"),
]


@pytest.mark.parametrize(("call", "kind", "text"), REFUSED)
def test_bad_input_is_named_and_nothing_is_sent(
    unopened: Client, call: Any, kind: type[Exception], text: str
) -> None:
    """Bad input reaches the cluster, or its error does not say what is wrong."""
    with pytest.raises(kind, match=text):
        call()


def nested() -> type[Worker]:
    class Inner(Worker):
        def perform(self) -> None: ...

    return Inner


class Moved(Worker):
    def perform(self) -> None: ...


MovedAway, Moved = Moved, None  # type: ignore[misc, assignment]


def as_if_of_main() -> type[Worker]:
    return type("Script", (Worker,), {"__module__": "__main__", "perform": lambda self: None})


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (lambda: nested(), "nested.<locals>.Inner .*inside a function"),
        (lambda: exkiq.task(lambda: None), "<lambda> .*inside a function"),
        (lambda: MovedAway, "Moved leads to something else"),
        (as_if_of_main, "__main__:Script .*no node can import"),
    ],
)
def test_what_no_node_could_find_is_refused(unopened: Client, made: Any, text: str) -> None:
    """A job is stored that no node can ever run."""
    with pytest.raises(errors.SerializationError, match=text):
        made().perform_async()


def test_an_id_makes_one_job(cluster: FakeCluster, client: Client) -> None:
    """Enqueuing again under an id makes a second job, or fails."""
    first = Add.set(id="ohai").perform_async(1, 2)
    again = Add.set(id="ohai").perform_async(3, 4)
    assert ("ohai", first) == (again.id, again)
    assert decode_call(stored(cluster, again).payload) == ([1, 2], {})
    assert len(cluster.jobs) == 1


def test_a_unique_id_that_is_taken_is_an_error(cluster: FakeCluster, client: Client) -> None:
    """Two callers both believe that they were the first."""
    named = Add.set(id="ohai", unique="error")
    named.perform_async(1)
    with pytest.raises(errors.JobAlreadyExists, match="ohai"):
        named.perform_async(1)


def test_a_refusal_is_for_one_alone(cluster: FakeCluster, client: Client) -> None:
    """A taken id takes down those that were enqueued in the same moment."""
    Add.set(id="ohai").perform_async(1)

    async def main() -> list[object]:
        return await asyncio.gather(
            *(Add.set(id=name, unique="error").aperform_async(1) for name in ("ohai", "new")),
            return_exceptions=True,
        )

    refused, job = asyncio.run(main())
    assert isinstance(refused, errors.JobAlreadyExists)
    assert exkiq.job("new") == job


def test_bulk_keeps_the_order_and_the_bounds(
    cluster: FakeCluster, client: Client, node: FakeNode
) -> None:
    """Many jobs come in another order, or as an operation that nodes refuse."""
    jobs = Add.perform_bulk([(number,) for number in range(2_500)])
    assert [job.id for job in jobs] == sorted(cluster.jobs)
    assert list(range(2_500)) == [decode_call(stored(cluster, job).payload)[0][0] for job in jobs]
    assert node.verbs() == ["propose"] * 3
    Wait.perform_bulk([["x" * 300_000]] * 4)
    assert node.verbs() == ["propose"] * 7
    assert Add.perform_bulk([]) == []


def test_an_application_loop_gathers_what_it_enqueues_together(
    cluster: FakeCluster, client: Client, node: FakeNode
) -> None:
    """Each of many concurrent enqueues costs the cluster an operation of its own."""

    async def main() -> list[exkiq.Job]:
        return await asyncio.gather(*(Add.aperform_async(number) for number in range(500)))

    jobs = asyncio.run(main())
    assert 500 == len({job.id for job in jobs}) == len(cluster.jobs)
    assert len(node.asked) < 100


def test_jobs_of_different_kinds_do_not_mix(cluster: FakeCluster, client: Client) -> None:
    """A job is gathered with others, and gets their queue, their delay or their place."""

    async def main() -> list[exkiq.Job]:
        return await asyncio.gather(
            Add.aperform_async(1),
            Wait.aperform_async(2),
            Add.aperform_in(3, hours=1),
            Add.aperform_at(NOON, 4),
            Add.set(id="same").aperform_async(5),
            Add.set(id="same").aperform_async(6),
            Add.set(id="one", unique="error").aperform_async(7),
        )

    one, two, three, four, five, six, seven = (stored(cluster, job) for job in asyncio.run(main()))
    assert (one.spec.queue, two.spec.queue) == ("sums", "default")
    assert (one.state, three.state) == (State.QUEUED, State.SCHEDULED)
    assert four.run_at_ms == 4_102_488_000_000
    assert five is six
    assert seven.id == "one"


def test_threads_share_a_client(cluster: FakeCluster, client: Client) -> None:
    """Concurrent callers get each other's answers, or one is never answered."""
    jobs: list[exkiq.Job] = []

    def work(start: int) -> None:
        jobs.extend(Add.perform_async(start + number) for number in range(40))

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 320, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(range(320)) == sorted(
        decode_call(stored(cluster, job).payload)[0][0] for job in jobs
    )


def test_every_enqueuing_verb_has_an_async_twin(cluster: FakeCluster, client: Client) -> None:
    """An async application has to block its loop for one of the verbs."""

    async def main() -> list[exkiq.Job]:
        bulk = await Add.aperform_bulk([(1,), (2,)])
        return [
            *bulk,
            await Riak.put.aperform_async("b", "k", 1),
            await send.aperform_in("a", minutes=1),
            await Add.set(queue="x").aperform_at(NOON, 1),
        ]

    queues = [stored(cluster, job).spec.queue for job in asyncio.run(main())]
    assert queues == ["sums", "sums", "my_pool", "emails", "x"]


def test_the_status_of_a_job_is_a_value_with_types(cluster: FakeCluster, client: Client) -> None:
    """A field of a job cannot be read, or changes under its reader."""
    before = datetime.datetime.now(UTC) - datetime.timedelta(milliseconds=1)
    job = Add.set(id="a", delay=60).perform_async(1, second=2)
    status = job.status()
    assert isinstance(status, JobStatus)
    assert status.state is State.SCHEDULED
    assert status.state == "scheduled"
    assert (status.id, status.queue, status.task) == ("a", "sums", "tests.api.api_app:Add")
    assert (status.args, status.kwargs) == ((1,), {"second": 2})
    assert (
        status.attempt,
        status.retries,
        status.retries_left,
        status.lost,
        status.fence,
    ) == (1, 2, 2, 0, 0)
    assert before < status.enqueued_at <= datetime.datetime.now(UTC)
    assert datetime.timedelta(seconds=60) == status.run_at - status.enqueued_at
    assert (
        status.started_at,
        status.completed_at,
        status.by,
        status.error,
        status.errors,
    ) == (None, None, None, None, ())
    with pytest.raises(AttributeError):
        status.state = State.FAILED  # type: ignore[misc]


def test_options_of_a_class_are_checked_where_they_are_written() -> None:
    """A typing mistake in a class statement is found when the first job fails."""
    with pytest.raises(TypeError, match="Late: unknown option 'retry'"):
        type("Late", (Worker,), {}, retry=3)
    for retries in (-1, True, "3", 2.0, None, limits.RETRIES_MAX + 1):
        with pytest.raises(ValueError, match="retries"):
            type("Bad", (Worker,), {}, retries=retries)
    for backoff in (-1, True, "1", int):
        with pytest.raises(ValueError, match="backoff"):
            type("Bad", (Worker,), {}, backoff=backoff)
    with pytest.raises(ValueError, match="max_lost"):
        exkiq.task(max_lost=-1)(test_threads_share_a_client)
    with pytest.raises(TypeError, match="unknown option 'que'"):
        exkiq.task(que="x")(test_threads_share_a_client)
    with pytest.raises(TypeError, match="above a function"):
        exkiq.task(Add)


def test_a_task_outside_of_a_worker_is_refused() -> None:
    """A method of a plain class would be enqueued without its object."""
    with pytest.raises((TypeError, RuntimeError)) as caught:

        class Plain:
            @exkiq.task
            def method(self) -> None: ...

    assert "Worker" in f"{caught.value} {caught.value.__cause__}"
