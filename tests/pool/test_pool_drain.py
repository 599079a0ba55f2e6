"""How a pool stops: drain, abandon, stop."""

# ruff: noqa: ASYNC240 - files are how these jobs and their tests meet

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from exkiq.pool import pool as pool_module
from exkiq.pool.children import ChildProcess, Stage
from exkiq.wire.codec import decode_value, encode_value
from tests.pool.harness import Box, job, make_pool, started, until


def test_a_drain_waits_for_what_runs_and_starts_nothing_more(tmp_path: Path) -> None:
    """A deploy would interrupt jobs that need one moment more, or start new ones meanwhile."""

    async def main() -> None:
        async with started() as (pool, box):
            gate = tmp_path / "gate"
            pool.run(
                [
                    job("a", "hold", str(tmp_path / "a"), str(gate)),
                    job("b", "ahold", str(tmp_path / "b"), str(gate)),
                    job("s", "until_stopping", str(tmp_path / "s")),
                ]
            )
            await until(lambda: all((tmp_path / name).exists() for name in "abs"))
            async with asyncio.TaskGroup() as group:
                drain = group.create_task(pool.drain(10))
                await box.until_ended("s")  # it saw `is_stopping`
                assert pool.free == 0
                pool.run([job("late", "echo", checkpoint=b"\x01")])
                await box.until_ended("late")
                assert not drain.done()
                gate.touch()

            assert box.values == {"a": "held", "b": "held", "s": "saw it"}
            assert box.returned == {"late": b"\x01"}

    asyncio.run(main())


def test_what_does_not_end_in_time_is_stopped_and_handed_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that outlasts the drain would be lost, failed, or run on beside its next run."""
    spawned: list[int] = []
    spawn = ChildProcess.spawn

    def counting_spawn(child: ChildProcess) -> Coroutine[Any, Any, None]:
        spawned.append(child.number)
        return spawn(child)

    monkeypatch.setattr(ChildProcess, "spawn", counting_spawn)

    async def main() -> None:
        async with started(processes=2, concurrency=4) as (pool, box):
            paths = {name: str(tmp_path / name) for name in ("t", "a", "ts", "as", "x", "p")}
            never = str(tmp_path / "never")
            pool.run(
                [
                    job("t", "block", paths["t"], checkpoint=encode_value("earlier")),
                    job("a", "ahold", paths["a"], never),
                    job("ts", "save_and_hold", paths["ts"], never, {"page": 1}),
                    job("as", "asave_and_hold", paths["as"], never, [2]),
                    job("x", "astubborn", paths["x"]),
                    job("p", "pid_and_hold", paths["p"], never),
                ]
            )
            await until(lambda: all(Path(path).exists() for path in paths.values()))
            await box.until(lambda: len(box.checkpoints) == 2)
            await pool.drain(0.05)

            returned = {
                name: None if value is None else decode_value(value)
                for name, value in box.returned.items()
            }
            assert returned == {
                "t": "earlier",
                "a": None,
                "ts": {"page": 1},
                "as": [2],
                "x": None,
                "p": None,
            }
            assert Path(paths["a"] + ".cancelled").exists(), "async jobs may clean up"
            assert pool.running == 0
            child = int(Path(paths["p"]).read_text())
            await until(lambda: not Path(f"/proc/{child}/exe").exists())
            await asyncio.sleep(0.02)
            assert spawned == [1, 2], "nobody comes in their place"

    asyncio.run(main())


def test_a_job_that_ends_while_it_is_being_stopped_is_done(tmp_path: Path) -> None:
    """Finished work would be done again elsewhere."""

    async def main() -> None:
        async with started() as (pool, box):
            pool.run([job("a", "afinish_when_cancelled", str(tmp_path / "a"))])
            await until((tmp_path / "a").exists)
            await pool.drain(0)

            assert box.values == {"a": "finished"}
            assert box.returned == {}

    asyncio.run(main())


def test_a_drain_does_not_wait_for_what_cannot_be_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every deploy would take longer for blocking code, to no avail."""
    monkeypatch.setattr(pool_module, "CANCEL_SECONDS", 60.0)

    async def main() -> None:
        async with started() as (pool, box):
            pool.run([job("a", "block", str(tmp_path / "a")), job("b", "aforever")])
            await until((tmp_path / "a").exists)
            async with asyncio.timeout(5):
                await pool.drain(0)

            assert box.returned == {"a": None, "b": None}

    asyncio.run(main())


def test_jobs_started_in_the_moment_of_the_drain_are_reported() -> None:
    """A job whose task is cancelled before its first step would never be heard of again."""

    async def main() -> None:
        async with started(concurrency=50) as (pool, box):
            names = [f"j{i}" for i in range(50)]
            pool.run([job(name, "aforever") for name in names])
            await pool.drain(0)

            assert set(box.returned) == set(names)
            assert [child.stage for child in pool._crew.children] == [Stage.READY], "it said so"

    asyncio.run(main())


def test_abandon_stops_everything_and_drops_the_outcomes(tmp_path: Path) -> None:
    """After its session was over a node would go on with jobs that run elsewhere."""

    async def main() -> None:
        async with started(processes=2, concurrency=1) as (pool, box):
            never = str(tmp_path / "never")
            pool.run([job("a", "pid_and_hold", str(tmp_path / "a"), never)])
            await until(lambda: (tmp_path / "a").exists() and bool((tmp_path / "a").read_text()))
            child = int((tmp_path / "a").read_text())
            pool.run([job("c", "echo"), job("over", "echo")])  # there is no slot for the last
            pool.abandon()
            assert pool.running == 0
            await box.until(lambda: pool.free == 2)
            assert box.ends == []
            assert not Path(f"/proc/{child}/exe").exists()
            pool.run([job("a", "echo", 5), job("b", "echo", 6)])
            await box.until_ended("a", "b")

            assert box.ends.count("a") == 1
            assert box.values == {"a": [[5], {}], "b": [[6], {}]}

    asyncio.run(main())


def test_stop_hands_back_what_runs_and_may_be_called_at_any_time(tmp_path: Path) -> None:
    """A second signal, or one before the start, would hang or raise."""

    async def main() -> None:
        box = Box()
        pool = make_pool(box)
        await pool.stop()

        pool = make_pool(box)
        await pool.start()
        pool.run([job("a", "block", str(tmp_path / "a"))])
        await until((tmp_path / "a").exists)
        await pool.stop()
        await pool.stop()
        await pool.drain(1)

        assert box.returned == {"a": None}

    asyncio.run(main())


def test_a_stop_cuts_a_drain_short(tmp_path: Path) -> None:
    """A second signal would wait for the first one's drain."""

    async def main() -> None:
        async with started(processes=2, concurrency=1) as (pool, box):
            never = str(tmp_path / "never")
            pool.run(
                [
                    job("a", "hold", str(tmp_path / "a"), never),
                    job("b", "ahold", str(tmp_path / "b"), never),
                ]
            )
            await until(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists())
            async with asyncio.timeout(5), asyncio.TaskGroup() as group:
                group.create_task(pool.drain(60))
                await asyncio.sleep(0)
                await pool.stop()

            assert box.returned == {"a": None, "b": None}

    asyncio.run(main())


def test_idle_children_leave_by_themselves_and_run_what_users_do_at_exit(tmp_path: Path) -> None:
    """Buffers of the user's libraries would not be written."""
    (tmp_path / "exit_app.py").write_text(
        "import atexit, pathlib\n"
        "from tests.pool.pool_loader import TestTask\n"
        f"atexit.register(pathlib.Path({str(tmp_path / 'bye')!r}).touch)\n"
        "QUEUES = ['default']\n"
    )

    async def main() -> None:
        async with started(app=("exit_app",), sys_path=[str(tmp_path)]):
            pass

    asyncio.run(main())
    assert (tmp_path / "bye").exists()
