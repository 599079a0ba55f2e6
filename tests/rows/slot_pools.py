"""Pools of children that run `tests.rows.slot_jobs`, without a node around them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from exkiq.pool import Assignment, Pool, Report
from tests.pool.harness import Box, make_pool
from tests.pool.harness import job as plain_job
from tests.pool.harness import started as plain_started

APP = "tests.rows.slot_jobs"
COMMON_SLOTS = 5
PRINTERS = 3  # slots of the pool that the APP declares
Test = Callable[[Pool, Box], Coroutine[Any, Any, None]]


def job(name: str, task: str, *args: Any, **changes: Any) -> Assignment:
    return plain_job(name, f"{APP}:{task}", *args, **changes)


def started(slots: int = COMMON_SLOTS, **options: Any) -> AbstractAsyncContextManager[Any]:
    """A pool with these common slots in each child, beside those of the printers."""
    share = PRINTERS // options.get("processes", 1)
    options |= {"app": (APP,), "loader": "exkiq.task:load_app", "concurrency": slots + share}
    return plain_started(**options)


class SharedPool:
    """One pool with one child for the tests that leave it as it was."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.box: Box | None = None
        self.pool = self.runner.run(self._start())

    async def _start(self) -> Pool:
        pool = make_pool(
            self._report,
            app=(APP,),
            loader="exkiq.task:load_app",
            concurrency=COMMON_SLOTS + PRINTERS,
        )
        await pool.start()
        return pool

    def _report(self, report: Report) -> None:
        if self.box is not None:
            self.box(report)

    def run(self, test: Test) -> None:
        self.runner.run(self._run(test))

    async def _run(self, test: Test) -> None:
        self.box = Box()
        await test(self.pool, self.box)
        assert self.pool.free_by_group == {"": COMMON_SLOTS, "printers": PRINTERS}
        assert self.pool.unable == ()

    def close(self) -> None:
        with self.runner:
            self.runner.run(self.pool.stop())


Notes = Callable[[str], list[str]]


def warnings_of(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING and text in record.getMessage()
    ]
