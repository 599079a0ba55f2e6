"""One running pool for the tests of a file that leave it as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from exkiq.pool import Pool, Report
from tests.pool.harness import Box, make_pool

SLOTS = 20


class Shared:
    """A pool that outlives the test; each test has a box of its own."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.box: Box | None = None
        self.pool: Pool = self.runner.run(self._start())

    async def _start(self) -> Pool:
        pool = make_pool(self._report, concurrency=SLOTS)
        await pool.start()
        return pool

    def _report(self, report: Report) -> None:
        if self.box is not None:
            self.box(report)

    def run(self, test: Callable[[Pool, Box], Coroutine[Any, Any, None]]) -> None:
        """Run one test and see that it left nothing behind."""
        self.runner.run(self._run(test))

    async def _run(self, test: Callable[[Pool, Box], Coroutine[Any, Any, None]]) -> None:
        self.box = Box()
        await test(self.pool, self.box)
        assert self.pool.free == SLOTS, "a test left something running"
        assert sorted(set(self.box.ends)) == sorted(self.box.ends), "reported twice"

    def close(self) -> None:
        with self.runner:
            self.runner.run(self.pool.stop())


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    shared = Shared()
    yield shared
    shared.close()
