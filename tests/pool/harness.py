"""A pool with real children for the tests, and a box for what it reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from exkiq.clock import SystemClock
from exkiq.pool import Assignment, Pool, Report
from exkiq.wire.codec import decode_value, encode_call

ROOT = str(Path(__file__).resolve().parents[2])
APP = "tests.pool.pool_app"
LOADER = "tests.pool.pool_loader:load_app"
SECONDS_MAX = 10.0


def job(name: str, task: str, *args: Any, **changes: Any) -> Assignment:
    """An assignment; the fence is taken from the name, so that no two are alike."""
    plain = Assignment(
        id=name,
        fence=sum(name.encode()),
        task=task,
        payload=encode_call(args, {}),
        attempt=1,
        lost=0,
        retries=5,
        queue="default",
        enqueued_ms=1_700_000_000_000,
        timeout_ms=0,
        checkpoint=None,
    )
    return plain._replace(**changes)


class Box:
    """Everything that was reported, by job."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.values: dict[str, Any] = {}
        self.raw: dict[str, bytes | None] = {}
        self.run_ms: dict[str, int] = {}
        self.failed: dict[str, list[Any]] = {}
        self.returned: dict[str, bytes | None] = {}
        self.lost: list[str] = []
        self.checkpoints: list[tuple[str, Any]] = []
        self.ends: list[str] = []
        self.progress: list[tuple[str, Any]] = []
        self.awaiting: list[str] = []
        self._news = asyncio.Event()

    def __call__(self, report: Report) -> None:
        self.reports.append(report)
        done = report.done
        columns = zip(done.ids, done.fences, done.values, done.run_ms, strict=True)
        for name, fence, value, run_ms in columns:
            assert fence == sum(name.encode())
            self.raw[name] = value
            self.run_ms[name] = run_ms
            is_value = value is not None and not value.startswith(b"\xc1")
            self.values[name] = decode_value(value) if is_value and value else None
        self.failed |= {str(row[0]): row for row in report.failed}
        self.returned |= {row[0]: row[2] for row in report.returned}
        self.lost += [row[0] for row in report.lost]
        self.checkpoints += [(row[0], decode_value(row[2])) for row in report.checkpoints]
        self.progress += [(row[0], decode_value(row[2])) for row in report.progress]
        self.awaiting += sorted(report.awaiting)
        self.ends += done.ids + [str(row[0]) for row in report.failed]
        self.ends += [row[0] for row in report.returned] + [row[0] for row in report.lost]
        self._news.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for news until it is so."""
        async with asyncio.timeout(SECONDS_MAX):
            while not is_so():
                self._news.clear()
                await self._news.wait()

    async def until_ended(self, *names: str) -> None:
        await self.until(lambda: set(names) <= set(self.ends))


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that no report tells: a file, a process."""
    async with asyncio.timeout(SECONDS_MAX):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def make_pool(
    report: Callable[[Report], None],
    *,
    processes: int = 1,
    concurrency: int = 4,
    app: tuple[str, ...] = (APP,),
    loader: str = LOADER,
    sys_path: Sequence[str] = (ROOT,),
    cwd: str = ROOT,
    claim_timeout: float = 1.0,
) -> Pool:
    return Pool(
        app=app,
        loader=loader,
        processes=processes,
        concurrency=concurrency,
        report=report,
        clock=SystemClock(),
        sys_path=sys_path,
        cwd=cwd,
        claim_timeout=claim_timeout,
    )


@asynccontextmanager
async def started(**options: Any) -> AsyncIterator[tuple[Pool, Box]]:
    """A running pool and its box; stopped at the end, and nothing was reported twice."""
    box = Box()
    pool = make_pool(box, **options)
    await pool.start()
    try:
        yield pool, box
    finally:
        await pool.stop()
    assert sorted(set(box.ends)) == sorted(box.ends), "a job was reported twice"
