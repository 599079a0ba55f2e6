"""Rows about queues of one process: `Local`, and queues of other kinds."""

from __future__ import annotations

import asyncio
import datetime
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import exkiq
from exkiq import Local, Worker, task
from exkiq.errors import (
    AlreadyStarted,
    JobAlreadyExists,
    JobCancelled,
    NoQueueError,
    NoSuchJob,
    Refused,
    SerializationError,
    UnsupportedOperation,
)
from exkiq.local.registry import registry
from exkiq.queues.backend import CAPABILITIES, Operation
from tests.cluster.harness import until
from tests.rows.held import Gate, held_job
from tests.rows.local_jobs import double
from tests.rows.nodes import Group

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _no_queue_is_left() -> Iterator[None]:
    yield
    registry.forget()


# ---- HG-03 HD-06: which queue, and which tasks -------------------------------------------------


def test_HG_03_a_local_queue_is_accepted_wherever_a_name_is() -> None:
    """A queue of this process could not be asked for by class, decorator, set or handle."""

    class Of(Worker, queue=Local("q")):
        def perform(self, text: str) -> list[Any]:
            return [text, self.job.queue, os.getpid()]

    @task(queue=Local("q"))
    def by_decorator(text: str) -> list[Any]:
        return [text, os.getpid()]

    assert Of.call("class") == ["class", "q", os.getpid()]
    assert by_decorator.call("decorator") == ["decorator", os.getpid()]
    assert double.set(queue=Local("q")).call(4) == 8
    assert exkiq.queue(Local("q")).stats().succeeded_total == 3
    assert [each.state for each in exkiq.queue(Local("q")).jobs("succeeded")] == ["succeeded"] * 3


def test_HG_03_it_is_another_queue_than_that_of_the_cluster(four: Group) -> None:
    """A job of this process would go to the cluster, or the other way round."""
    here = double.set(queue=Local("nowhere")).perform_async(1)
    there = double.set(queue="nowhere").perform_async(2)
    assert here.result() == 2
    assert there.status().state == "queued"
    with pytest.raises(NoSuchJob):
        exkiq.job(here.id).result(timeout=0.1)
    assert exkiq.queue(Local("nowhere")).stats().queued == 0

    def listed() -> bool:
        lists = four.each(lambda client: client.queue("nowhere").jobs())
        return all([each.id for each in found] == [there.id] for found in lists)

    until(listed, 5.0, "the cluster's job, and no other, on each node")


def test_HG_03_options_are_said_once() -> None:
    """One queue would be two, each with half of what was said."""
    named = Local("one", concurrency=3)
    assert named == Local("one", concurrency=3)
    double.set(queue=Local("one")).call(1)
    assert registry.terms_of("one").concurrency == 3
    with pytest.raises(AlreadyStarted, match=r"Local\('one', concurrency=4\).*concurrency=3\)"):
        Local("one", concurrency=4)
    double.set(queue=Local("plain")).call(1)
    with pytest.raises(AlreadyStarted, match="plain"):
        Local("plain", concurrency=4)
    for bad in (
        {"concurrency": 0},
        {"concurrency": True},
        {"dispatcher": object()},
        {"durable": True},
    ):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Local("bad", **bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="queue"):
        Local("failed")


@pytest.mark.parametrize("bad", ["", ":memory:", "a\0b", b"q.db", 3, True])
def test_HG_03_a_file_that_is_none_is_refused(bad: Any) -> None:
    """A file called `:memory:` would appear, or an error of the system."""
    with pytest.raises(ValueError, match="durable"):
        Local("bad", durable=bad)


def test_HG_03_more_queues_than_there_is_room_for_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A queue for each user would take jobs at first, and after a thousand never run one."""
    monkeypatch.setattr("exkiq.local.household.QUEUES_MAX", 2)
    assert [double.set(queue=Local(f"user-{n}")).call(n) for n in range(2)] == [0, 2]
    with pytest.raises(Refused, match=r"Local\('user-2'\): 2 local queues share this process"):
        double.set(queue=Local("user-2")).perform_async(1)
    assert double.set(queue=Local("user-1")).call(3) == 6


def test_HG_03_a_file_is_one_however_it_is_written(tmp_path: Path) -> None:
    """Two queues of one file would be refused, as if another process had it."""
    (tmp_path / "link").symlink_to(tmp_path)
    queues = [
        Local("one", durable=tmp_path / "q.db"),
        Local("two", durable=tmp_path / "link" / ".." / tmp_path.name / "q.db"),
    ]
    assert [double.set(queue=queue).call(2) for queue in queues] == [4, 4]
    assert len(registry._households) == 1


def test_HD_06_what_nobody_can_import_runs_in_a_local_queue() -> None:
    """A lambda, a closure or a nested function would be refused where it could run."""
    base = 40

    def nested(number: int) -> int:
        return base + number

    queue = Local("any")
    assert task(queue=queue)(lambda number: number * 2).call(4) == 8
    assert task(queue=queue)(nested).call(2) == 42
    doubles = [task(queue=queue)(lambda x, n=n: n * x) for n in (2, 3)]
    assert [each.call(10) for each in doubles] == [20, 30]
    with pytest.raises(SerializationError):
        task(lambda number: number).perform_async(1)


def test_HD_06_arguments_travel_as_in_the_cluster() -> None:
    """A job would share a list with its caller here, and not there."""
    seen: list[object] = []

    @task(queue=Local("any"))
    def keep(*args: Any, **kwargs: Any) -> tuple[int, ...]:
        seen.append(args[0])
        args[0].append("mine")
        return (1, 2)

    mine = [1, (2, 3)]
    now = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    assert keep.call(mine, when=now) == [1, 2]
    assert mine == [1, (2, 3)]
    assert seen == [[1, [2, 3], "mine"]]
    with pytest.raises(SerializationError, match="object"):
        keep.perform_async(object())


def test_HD_06_tasks_without_a_path_are_forgotten_when_no_job_needs_them() -> None:
    """A program that makes one for each job would grow for ever."""
    queue = Local("many")
    gate, wait = Gate.on(queue)
    job = wait.perform_async()
    assert gate.is_running.wait(5)
    for number in range(30):
        task(queue=queue)(lambda n=number: n).perform_async()
    tasks = registry.household("many", registry.terms_of("many")).tasks
    until(lambda: exkiq.queue(queue).stats().succeeded_total == 30, 5.0)
    for _ in range(2):
        tasks.look()
    assert len(tasks._old) + len(tasks._young) == 1
    gate.is_open.set()
    assert job.result() == "let go"
    assert task(queue=queue)(lambda: 7).call() == 7


# ---- C-18: every operation ---------------------------------------------------------------------


def test_C_18_a_local_queue_can_do_it_all() -> None:
    """What the table says a local queue can do would not be so."""
    assert CAPABILITIES["Local"] == frozenset(Operation)
    queue = Local("all", concurrency=1)
    handle = double.set(queue=queue)
    gate, running = held_job(queue)
    low, high = handle.perform_async(1), handle.set(priority=5).perform_async(2)
    [bulk, _] = handle.perform_bulk([(3,), (4,)])
    late = handle.perform_in(5, minutes=10)
    at = handle.perform_at(datetime.datetime(2999, 1, 1, tzinfo=datetime.UTC), 6)
    assert [late.status().state, at.status().state] == ["scheduled"] * 2
    own = handle.set(id="mine").perform_async(7)
    assert handle.set(id="mine").perform_async(8).id == own.id == "mine"
    with pytest.raises(JobAlreadyExists):
        handle.set(id="mine", unique="error").perform_async(9)
    assert [late.cancel(), running.cancel(), low.cancel()] == ["ok", "in_progress", "ok"]
    with pytest.raises(JobCancelled):
        low.result()
    found = exkiq.queue(queue)
    assert found.pause()
    assert [found.stats().queued, found.stats().running, found.stats().paused] == [4, 1, True]
    gate.is_open.set()
    assert running.result() == "let go"
    assert found.jobs("queued")[0].id == high.id
    assert found.resume()
    assert [high.result(), bulk.result(), own.result()] == [4, 6, 14]
    assert own.status().started_at is not None
    assert found.clear() == 1


def test_C_18_a_local_job_is_watched_moved_stopped_and_awaited_with_others() -> None:
    """What came to jobs of the cluster would not come to those of a local queue."""
    queue, other = Local("all", concurrency=2), Local("other")
    goes_on = threading.Event()

    @task(queue=queue)
    def tells() -> str:
        exkiq.progress({"done": 1})
        goes_on.wait(20)
        return "told"

    job = tells.perform_async()
    until(lambda: job.progress == {"done": 1}, 5.0, "progress")
    exkiq.queue(queue).pause()
    waits = double.set(queue=queue).perform_async(4)
    moved = exkiq.queue(queue).move(waits, "other")
    assert [moved.id, moved.result(), moved.status().queue] == [waits.id, 8, "other"]
    assert exkiq.queue(other).stats().succeeded_total == 1
    assert job.cancel() == "in_progress"
    steps = job.watch()
    assert next(steps).name == "started"
    assert job.cancel(running=True) == "stopping"
    goes_on.set()
    assert [each.value for each in exkiq.result_many([job, moved])] == ["told", 8]
    assert [step.name for step in steps][-1] == "succeeded"


def test_C_18_a_process_for_a_job_is_refused() -> None:
    """A job that was to have a process to itself would take this one down."""
    isolated = task(queue=Local("all"), isolation="process")(lambda: 1)
    with pytest.raises(UnsupportedOperation, match=r"Local\('all'\).*isolation"):
        isolated.perform_async()


def test_C_18_async_twins_do_not_hold_up_the_loop() -> None:
    """A loop would stand still while a local queue is asked."""

    async def main() -> list[Any]:
        handle = double.set(queue=Local("twins"))
        job = await handle.aperform_async(1)
        many = await handle.aperform_bulk([(2,), (3,)])
        stats = await exkiq.queue(Local("twins")).astats()
        return [
            await job.aresult(),
            [await each.aresult() for each in many],
            await handle.acall(4),
            stats.name,
        ]

    assert asyncio.run(main()) == [2, [4, 6], 8, "twins"]


def test_C_18_a_job_may_ask_its_own_queue() -> None:
    """A job that enqueues and waits would wait for itself."""
    queue = Local("nested", concurrency=4)

    @task(queue=queue)
    def outer() -> int:
        return double.set(queue=queue).call(3)

    @task(queue=queue)
    async def aouter() -> list[int]:
        sync = double.set(queue=queue).perform_async(1)  # blocks the loop of jobs, for a moment
        return [await double.set(queue=queue).acall(3), await sync.aresult()]

    assert outer.call() == 6
    assert aouter.call() == [6, 2]


# ---- HG-12: nobody there -----------------------------------------------------------------------


def test_HG_12_an_unknown_local_queue_is_an_error_at_once() -> None:
    """A slip in a name would look like an empty queue."""
    with pytest.raises(NoQueueError, match="'slip' in this process"):
        exkiq.queue(Local("slip"))
    with pytest.raises(NoQueueError, match="slip"):
        Local("slip").job("id").status()

    class Declared(Worker, queue=Local("declared")):
        def perform(self) -> None: ...

    assert exkiq.queue(Local("declared")).stats().queued == 0
    double.set(queue=Local("used")).call(1)
    assert exkiq.queue(Local("used")).jobs()


# ---- HD-21: order ------------------------------------------------------------------------------


def test_HD_21_order_is_that_of_the_cluster() -> None:
    """Jobs of a local queue would overtake each other."""
    ran: list[str] = []
    queue = Local("order", concurrency=1)

    @task(queue=queue, retries=1, backoff=0.0)
    def note(name: str) -> None:
        ran.append(name)
        if name == "again" and ran.count(name) == 1:
            raise ValueError(name)

    gate, running = held_job(queue)
    jobs = [note.perform_async(name) for name in ("again", "b", "c")]
    jobs.append(note.set(priority=1).perform_async("first"))
    gate.is_open.set()
    assert [job.result() for job in jobs] == [None] * 4
    assert running.result() == "let go"
    assert ran == ["first", "again", "b", "c", "again"]
