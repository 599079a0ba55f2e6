"""How users' code is typed. Read by the type checker, never run.

Each line marked `error` has to be refused: an ignore that is not needed is an error itself.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any, assert_type

import exkiq
from exkiq import Job, JobStatus, Local, Outcome, SessionJob, Step, Worker, task
from exkiq.failure_modes import ExponentialRetry, Move, Retry
from exkiq.queue_handle import QueueHandle


class Greet(Worker, queue="emails", retries=5, timeout=datetime.timedelta(minutes=1)):
    def perform(self, name: str, *, times: int = 1) -> str:
        return name * times


class Later(Worker):
    async def perform(self, number: int) -> int:
        return number


class Store(Worker, queue="store", backoff=lambda failures, error: failures * 2):
    def init(self) -> dict[str, int]:
        return {}

    @task
    def put(self, key: str, value: int) -> None:
        self.state[key] = value

    @task(queue="reads", retries=0)
    def get(self, key: str) -> int:
        return int(self.state[key])


class Report(Worker, isolation="process", backoff=Retry(times=2, finally_=Move("odd"))):
    def perform(self, pages: int) -> None:
        if not self.is_stopping:
            self.progress({"page": 1, "of": pages})
            self.checkpoint(1)
            exkiq.progress(1)

    def on_shutdown(self) -> int:
        return 1


class Cart(SessionJob, queue="carts", retries=1):
    def on_start(self) -> list[str]:
        return [self.session_id]

    async def on_update(self, event: str) -> list[str]:
        return [*self.session_state, event]


class Thumbnail(Worker, queue=Local("thumbnails")):
    def perform(self, name: str) -> None: ...


exkiq.queue("emails", weight=3, paused=True, failure_mode=ExponentialRetry(times=8))
exkiq.queue("emails", success_mode="exkiq.success_modes:Log", dispatcher=("pkg:Cls", {"a": 1}))
exkiq.pool("store", Store, init_args=("host", 1), slots=4, shutdown=1.5)
exkiq.queue("emails", wieght=3)  # type: ignore[call-arg]  # error
exkiq.pool("store", Store, slot=4)  # type: ignore[call-arg]  # error
exkiq.pool("store", Store())  # type: ignore[arg-type]  # error


@exkiq.task(queue="emails", priority=2)
def send(to: str, subject: str = "hello") -> None: ...


@exkiq.task
def bare() -> int:
    return 1


class Wrong(Worker, retrys=5): ...  # type: ignore[call-arg]  # error


def verbs(when: datetime.datetime) -> None:
    assert_type(Greet.perform_async("a", times=2), Job)
    assert_type(Greet.perform_in("a", minutes=10), Job)
    assert_type(Greet.perform_at(when, "a"), Job)
    assert_type(Greet.perform_bulk([("a",), ["b"]]), list[Job])
    assert_type(Greet.set(queue="slow", id="x", unique="error").perform_async("a"), Job)
    assert_type(Later.perform_async(1), Job)
    assert_type(Store.put.perform_async("a", 1), Job)
    assert_type(Store.get.set(delay=1.5).perform_async("a"), Job)
    assert_type(send.perform_async("a", subject="b"), Job)
    assert_type(bare.perform_async(), Job)
    assert_type(Greet.perform_async("a").status(), JobStatus)
    assert_type(exkiq.job("x"), Job)
    assert_type(Thumbnail.perform_async("a"), Job)
    assert_type(exkiq.queue("emails"), QueueHandle)
    assert_type(Cart.start("cart-7"), Any)
    assert_type(Cart.update("cart-7", "apple", timeout=None), Any)
    send("a")


def outcomes(job: Job) -> None:
    queue = exkiq.queue("emails")
    assert_type(job.cancel(running=True), str)
    assert_type(job.watch(), Iterator[Step])
    for step in job.watch():
        assert_type(step.name, str)
        assert_type(step.delay, float | None)
    assert_type(exkiq.result_many([job, "id"], timeout=None), list[Outcome | None])
    assert_type(queue.jobs(where=lambda status: status.attempt > 1), list[JobStatus])
    assert_type(queue.jobs("failed", where={"by": "n1"}), list[JobStatus])
    assert_type(queue.move(job, "slow", only_if_pending=True), Job)
    assert_type(queue.stats().waited.p95_ms, int)
    assert_type(exkiq.stats(consistent=True), dict[str, int])


def mistakes(when: datetime.datetime) -> None:
    Greet.perform_async(1)  # type: ignore[arg-type]  # error
    Greet.perform_async("a", time=2)  # type: ignore[call-arg]  # error
    Greet.set(retrys=1)  # type: ignore[call-arg]  # error
    Greet.set(queue="x").perform_async()  # type: ignore[call-arg]  # error
    Greet.perform_at("noon", "a")  # type: ignore[arg-type]  # error
    Later.perform_async("1")  # type: ignore[arg-type]  # error
    Store.put.perform_async("a")  # type: ignore[call-arg]  # error
    Store.gte  # type: ignore[attr-defined]  # error  # noqa: B018
    Store.perform_async()  # type: ignore[misc]  # error
    send.perform_async(1)  # type: ignore[arg-type]  # error
    exkiq.queue("emails").jobs(where="by=n1")  # type: ignore[arg-type]  # error
    exkiq.job("x").cancel(True)  # type: ignore[call-arg]  # error
    exkiq.result_many("x", timeout="5")  # type: ignore[arg-type]  # error
    exkiq.result_many(exkiq.job("x"))  # type: ignore[arg-type]  # error
    Cart.update("cart-7")  # type: ignore[call-arg]  # error
    Cart.finish("cart-7", "pear")  # type: ignore[arg-type, call-arg]  # error
    Thumbnail.perform_async(1)  # type: ignore[arg-type]  # error
    send()  # type: ignore[call-arg]  # error
    bare.perform_async(1)  # type: ignore[call-arg]  # error


async def twins(when: datetime.datetime) -> None:
    job = await Greet.aperform_async("a")
    assert_type(await job.acancel(running=True), str)
    async for step in job.awatch():
        assert_type(step, Step)
    assert_type(await exkiq.aresult_many([job]), list[Outcome | None])
    assert_type(await exkiq.queue("emails").amove(job, "slow"), Job)
    assert_type(await exkiq.queue("emails").ajobs(where={"by": "n1"}), list[JobStatus])
    assert_type(await exkiq.astats(), dict[str, int])
    assert_type(await Cart.afinish("cart-7"), Any)
    assert_type(await Greet.aperform_async("a"), Job)
    assert_type(await Greet.aperform_at(when, "a", times=1), Job)
    assert_type(await Store.put.aperform_bulk([("a", 1)]), list[Job])
    await Greet.aperform_async(1)  # type: ignore[arg-type]  # error
