"""Workers and tasks as a user writes them."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import exkiq
from exkiq import Worker, task


class Add(Worker, queue="sums", retries=2, result_ttl=60, timeout=30, priority=3, max_lost=1):
    def perform(self, first: int, second: int = 0) -> int:
        return first + second


class Wait(Worker):
    async def perform(self, value: Any) -> Any:
        await asyncio.sleep(0)
        return value


class Riak(Worker, queue="my_pool"):
    def init(self, ip: str = "127.0.0.1", port: int = 8087) -> dict[str, Any]:
        return {"made": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)}

    @task
    def up(self) -> bool:
        return bool(self.state)

    @task
    def put(self, bucket: str, key: str, value: Any) -> list[Any]:
        return [bucket, key, value]

    @task(queue="reads", retries=0)
    def get(self, bucket: str, key: str) -> Any:
        return self.state.get(key)


class Copy(Riak, queue="copies"):
    pass


class Nothing(Worker):
    """Has no perform."""


@exkiq.task(queue="emails", retries=1)
def send(to: str, subject: str = "hello") -> str:
    """Send it."""
    return f"{to}: {subject}"


@exkiq.task
def bare() -> None:
    pass
