"""An APP that declares its queues and pools, for the tests of the requirement rows."""

from __future__ import annotations

import os
from typing import Any

import exkiq
from exkiq import FailureMode, SuccessMode, Worker, task
from exkiq.failure_modes import Abandon, Decision, Move, Requeue, Retry
from exkiq.success_modes import Success
from tests.cluster.jobs import note

BUCKETS: dict[str, Any] = {}


class Judge(FailureMode):
    """Notes where it is asked, and gives the job up at its second failure."""

    def decide(self, job: Any, error: BaseException, failures: int, chance: float) -> Decision:
        note("judged", job.id, failures, str(error), os.getpid())
        return ["retry", 10] if failures == 1 else ["failed"]


class Cracked(FailureMode):
    def decide(self, job: Any, error: BaseException, failures: int, chance: float) -> Decision:
        raise LookupError("no idea what to do")


class Applause(SuccessMode):
    def succeeded(self, success: Success) -> None:
        if success.value == "boo":
            raise RuntimeError("they did not like it")
        note("applause", success.id, success.value, success.attempt, os.getpid())


exkiq.queue("judged", failure_mode=Judge, success_mode=Applause())
exkiq.queue("cracked", failure_mode=Cracked())
exkiq.queue("quiet", failure_mode=Abandon(), weight=2)
exkiq.queue("moving", failure_mode=Retry(times=1, finally_=Move("graveyard")))
exkiq.queue("stubborn", failure_mode=Requeue())
exkiq.queue("asleep", paused=True)


class Fails(Worker, queue="judged"):
    def perform(self, text: str = "broken") -> None:
        note("start", self.job.id, self.job.attempt)
        raise ValueError(text)


class Says(Worker, queue="judged"):
    def perform(self, text: str) -> str:
        return text


class OwnRule(Worker, queue="quiet", retries=7, backoff=0.01):
    """Its own rule never counts: the queue has one."""

    def perform(self) -> None:
        note("start", self.job.id, self.job.attempt)
        raise ValueError("broken")


class Third(Worker, queue="stubborn"):
    """Succeeds at the third attempt."""

    def perform(self) -> int:
        if self.job.attempt < 3:
            raise ValueError("not yet")
        return self.job.attempt


class Grave(Worker, queue="moving"):
    """Fails until it has been moved."""

    def perform(self) -> list[Any]:
        if self.job.queue == "moving":
            raise ValueError("not here")
        return [self.job.queue, self.job.id]


class Dawdler(Worker, queue="cracked", retries=2, backoff=lambda n, error: {}["nothing"]):
    def perform(self) -> None:
        raise ValueError("broken")


class Riak(Worker, queue="my_pool"):
    def init(self, ip: str, port: int) -> dict[str, Any]:
        return {"address": f"{ip}:{port}", "values": BUCKETS}

    @task
    def up(self) -> bool:
        return bool(self.state["address"] == "127.0.0.1:8087")

    @task
    def put(self, bucket: str, key: str, value: Any) -> None:
        self.state["values"][f"{bucket}/{key}"] = value

    @task
    def get(self, bucket: str, key: str) -> Any:
        return self.state["values"].get(f"{bucket}/{key}")


exkiq.pool("my_pool", Riak, init_args=("127.0.0.1", 8087), slots=2, shutdown=1.0)
