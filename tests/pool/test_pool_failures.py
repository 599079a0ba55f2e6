"""Attempts that fail, in real children."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from exkiq.machine import limits
from exkiq.pool import Pool, children
from tests.pool.conftest import Shared
from tests.pool.harness import Box, job, started, until

KINDS = {
    "fail": "ValueError",
    "afail": "ValueError",
    "leave": "SystemExit",
    "aleave": "SystemExit",
    "interrupt": "KeyboardInterrupt",
    "ainterrupt": "KeyboardInterrupt",
    "cancel_itself": "CancelledError",
    "stop_iteration": "StopIteration",
    "nasty": "Nasty",
    "surrogate": "ValueError",
    "deep": "ValueError",
}


def test_every_kind_of_crash_fails_its_own_job_only(
    shared: Shared, caplog: pytest.LogCaptureFixture
) -> None:
    """A job that leaves, interrupts or cancels would take its child or its neighbours along,
    or would leave no trace."""

    async def test(pool: Pool, box: Box) -> None:
        pid = job("pid", "pid")
        pool.run([pid, *(job(task, task) for task in KINDS)])
        await box.until_ended("pid", *KINDS)
        pool.run([job("pid2", "pid")])
        await box.until_ended("pid2")

        assert {name: row[3][0] for name, row in box.failed.items()} == KINDS
        assert {row[2][0] for row in box.failed.values()} == {"retry"}
        assert box.values["pid2"] == box.values["pid"], "the child was replaced"

    shared.run(test)
    for task, kind in KINDS.items():
        records = [r for r in caplog.records if getattr(r, "exkiq_job", None) == task]
        assert [record.levelno for record in records] == [logging.WARNING], task
        assert records[0].exkiq_crash_reason.startswith(kind)  # type: ignore[attr-defined]


def test_an_error_is_told_from_the_users_first_line(shared: Shared) -> None:
    """The reader of a traceback would have to wade through our frames, or miss the end."""

    async def test(pool: Pool, box: Box) -> None:
        pool.run([job("f", "fail", "x" * 20_000), job("a", "afail"), job("d", "deep")])
        await box.until_ended("f", "a", "d")

        _, message, trace = box.failed["f"][3]
        assert len(message) == limits.ERROR_MESSAGE_CHARS_MAX
        assert len(trace.encode()) <= limits.TRACEBACK_BYTES_MAX
        for name, function in [("a", "afail"), ("d", "deep")]:
            trace = box.failed[name][3][2]
            first_file = trace.splitlines()[1]
            assert "tests/pool" in first_file, trace
            assert "/exkiq/pool/" not in trace
            assert f"in {function}" in trace
        assert box.failed["d"][3][2].endswith("ValueError: the bottom\n")

    shared.run(test)


def test_the_tasks_own_rule_decides_and_knows_the_job(shared: Shared) -> None:
    """`backoff=` would be ignored."""

    async def test(pool: Pool, box: Box) -> None:
        pool.run([job("a", "own_decide", attempt=2), job("b", "fail", attempt=6)])
        await box.until_ended("a", "b")

        assert box.failed["a"][2] == ["retry", 8000]
        assert box.failed["b"][2] == ["failed"]

    shared.run(test)


@pytest.mark.parametrize(
    ("task", "second"), [("raising_decide", "bad backoff"), ("rubbish_decide", "explode")]
)
def test_a_rule_that_raises_puts_the_job_into_the_failed_set(
    shared: Shared, task: str, second: str
) -> None:
    """A broken `backoff` would leave its job running for ever, or hide one of the errors."""

    async def test(pool: Pool, box: Box) -> None:
        pool.run([job("a", task, "own error")])
        await box.until_ended("a")

        _, _, decision, (kind, message, trace), _ = box.failed["a"]
        assert decision == ["failed"]
        assert kind == "ValueError"
        assert "own error" in message
        assert second in message
        assert "own error" in trace
        assert second in trace

    shared.run(test)


def test_an_async_job_over_its_timeout_is_cancelled_and_fails(
    shared: Shared, tmp_path: Path
) -> None:
    """A hanging call would hold its slot for ever; its neighbours would suffer."""

    async def test(pool: Pool, box: Box) -> None:
        path, gate = str(tmp_path / "a"), str(tmp_path / "gate")
        pool.run(
            [
                job("slow", "ahold", path, gate, timeout_ms=50),
                job("own", "aown_hold", path, gate, timeout_ms=50),
                job("quick", "aecho", timeout_ms=50_000),
                job("other", "ahold", str(tmp_path / "b"), gate),
            ]
        )
        await box.until_ended("slow", "own", "quick")
        (tmp_path / "gate").touch()
        await box.until_ended("other")

        _, _, decision, (kind, message, trace), run_ms = box.failed["slow"]
        assert decision[0] == "retry"
        assert kind == "JobTimeout"
        assert "50 ms" in message
        assert "in ahold" in trace
        assert run_ms >= 45
        assert box.failed["own"][2] == ["move", "timeouts"]
        assert (tmp_path / "a.cancelled").exists()
        assert box.values["other"] == "held"

    shared.run(test)


def test_blocking_code_over_its_timeout_ends_with_its_child(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Native code that hangs would never end; neighbours would be failed, not handed back."""

    async def main() -> None:
        async with started() as (pool, box):
            path, gate = str(tmp_path / "n"), str(tmp_path / "gate")
            pool.run(
                [job("pid", "pid"), job("n", "hold", path, gate), job("m", "ahold", path, gate)]
            )
            await until((tmp_path / "n").exists)
            pool.run([job("b", "own_block", str(tmp_path / "b"), timeout_ms=100)])
            await box.until_ended("b", "n", "m")
            await box.until(lambda: pool.free == 4)
            pool.run([job("pid2", "pid")])
            await box.until_ended("pid2")

            _, _, decision, (kind, _, trace), _ = box.failed["b"]
            assert decision == ["move", "timeouts"], "the task's own rule decides"
            assert kind == "JobTimeout"
            assert "in block" in trace
            assert box.returned == {"n": None, "m": None}
            assert box.values["pid2"] != box.values["pid"]

    asyncio.run(main())
    assert "died" not in caplog.text, "nobody crashed"


def test_a_job_that_ends_in_time_leaves_no_timer_behind(tmp_path: Path) -> None:
    """A job's timeout would strike after its end."""

    async def main() -> None:
        async with started(concurrency=1) as (pool, box):
            for name in ("a", "b"):
                pool.run([job(name, "echo", timeout_ms=60)])
                await box.until_ended(name)
            path, gate = str(tmp_path / "c"), str(tmp_path / "gate")
            pool.run([job("c", "hold", path, gate)])
            await asyncio.sleep(0.1)
            (tmp_path / "gate").touch()
            await box.until_ended("c")

            assert set(box.values) == {"a", "b", "c"}

    asyncio.run(main())


def test_a_child_whose_loop_is_blocked_is_replaced_by_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`async def` code that blocks, or swallows its cancellation, would hold its child for ever."""
    monkeypatch.setattr(children, "TIMEOUT_GRACE_SECONDS", 0.1)

    async def main() -> None:
        async with started(processes=2, concurrency=2) as (pool, box):
            pool.run(
                [
                    job("b", "block_loop", str(tmp_path / "b"), timeout_ms=20),
                    job("s", "astubborn", str(tmp_path / "s"), timeout_ms=20),
                ]
            )
            await box.until_ended("b", "s")
            await box.until(lambda: pool.free == 4)

            rows: list[Any] = [box.failed["b"], box.failed["s"]]
            assert [row[3][0] for row in rows] == ["JobTimeout", "JobTimeout"]
            assert all(row[4] >= 100 for row in rows)

    asyncio.run(main())
