"""Workers of a user, for the tests of what their test suite is given."""

from __future__ import annotations

import asyncio
from typing import Any

import exkiq
from exkiq import Worker, current_job, task
from exkiq.success_modes import Success, SuccessMode

ran: list[Any] = []


class Welcome(Worker, queue="emails", retries=5):
    def perform(self, name: Any, greeting: str = "Welcome") -> str:
        ran.append(name)
        return f"{greeting}, {name}!"


class Fetch(Worker):
    async def perform(self, url: str) -> str:
        await asyncio.sleep(0)
        ran.append(url)
        return url.upper()


class Shaky(Worker, retries=3):
    """Fails until its attempt number is the one it is given."""

    def perform(self, good: int) -> int:
        ran.append(self.job.attempt)
        if self.job.attempt < good:
            raise ValueError(f"attempt {self.job.attempt}")
        return self.job.attempt


class Chain(Worker, queue="chains"):
    """Enqueues the next one of the chain."""

    def perform(self, left: int) -> None:
        ran.append(left)
        if left:
            Chain.perform_async(left - 1)


class Endless(Worker):
    def perform(self) -> None:
        Endless.perform_async()


class Caller(Worker):
    """Waits for the value of another job."""

    def perform(self, name: str) -> str:
        return str(Welcome.call(name)).upper()


class AsyncCaller(Worker):
    async def perform(self, name: str) -> str:
        return str(await Welcome.acall(name)).upper()


class Detour(Worker):
    """Waits in a thread for an async job: a loop runs, though not there."""

    async def perform(self) -> str:
        return str(await asyncio.to_thread(Fetch.call, "x"))


class Saves(Worker, retries=1):
    """Its second run goes on where the first one stopped."""

    def perform(self) -> Any:
        if self.job.checkpoint is None:
            self.checkpoint({"page": 7})
            raise ValueError("half-way")
        return self.job.checkpoint


class Counter(Worker):
    """Its instance lives with its slot; a failure makes it anew."""

    def init(self) -> list[int]:
        return []

    def perform(self, is_bad: bool = False) -> int:
        self.state.append(1)
        if is_bad:
            raise ValueError("bad")
        return len(self.state)


class Hooked(Worker):
    async def before(self, job: Any) -> None:
        ran.append("before")

    def perform(self) -> None:
        ran.append("perform")

    def after(self, job: Any, outcome: Any) -> None:
        ran.append(outcome.state)


class Odd(Worker):
    def perform(self) -> object:
        return object()


class Cancelled(Worker):
    """Is cancelled while it runs, and sees it."""

    def perform(self) -> None:
        answer = exkiq.job(self.job.id).cancel(running=True)
        ran.append((answer, self.is_stopping))
        raise ValueError("stopped")


class Tells(Worker):
    """Says how far it is, and asks for it as others do."""

    def perform(self) -> None:
        self.progress({"page": 1})
        exkiq.progress({"page": 2})
        ran.append(exkiq.job(self.job.id).progress)


class Counts(SuccessMode):
    def succeeded(self, success: Success) -> None:
        ran.append((success.value, success.waited_ms))


class Told(Worker, success_mode=Counts()):
    def perform(self, value: int) -> int:
        return value


class NotReady(Worker):
    def init(self) -> None:
        raise RuntimeError("no database")

    def perform(self) -> None:
        """It does not come to this."""


class Cart(exkiq.SessionJob, queue="carts"):
    def on_start(self) -> dict[str, Any]:
        return {"items": []}

    async def on_update(self, event: Any) -> dict[str, Any]:
        return {"items": [*self.session_state["items"], event]}


class Leaves(Worker, retries=0):
    def perform(self) -> None:
        raise SystemExit(3)


class Store(Worker, queue="store"):
    @task
    def put(self, key: str, value: Any) -> list[Any]:
        return [key, value]


@exkiq.task(queue="functions")
def whoami() -> list[Any]:
    job = current_job()
    assert job is not None
    return [job.id, job.attempt, job.queue]
