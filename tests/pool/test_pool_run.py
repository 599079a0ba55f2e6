"""Jobs that end well, in real children."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import uvloop

from exkiq.machine import limits
from exkiq.pool import VALUE_NOT_SERIALISABLE, VALUE_TOO_LARGE, Pool
from exkiq.wire.codec import encode_value
from tests.pool.conftest import Shared
from tests.pool.harness import ROOT, Box, job, started, until


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_jobs_of_both_kinds_run_and_give_their_value(loop_factory: Any) -> None:
    """A node on one of the two loops would not run its jobs."""

    async def main() -> None:
        async with started() as (pool, box):
            assert pool.queues == ("default", "emails")
            assert pool.free == 4
            pool.run([job("a", "echo", 1, "x"), job("b", "aecho", b"y"), job("c", "noop")])
            assert pool.free == 1
            await box.until_ended("a", "b", "c")

            assert box.values == {"a": [[1, "x"], {}], "b": [[b"y"], {}], "c": None}
            assert box.raw["c"] is None
            assert pool.free == 4

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_a_child_does_without_uvloop(tmp_path: Path) -> None:
    """Where uvloop is not installed no job would run."""
    (tmp_path / "uvloop.py").write_text("raise ImportError('not here')")

    async def main() -> None:
        async with started(sys_path=[str(tmp_path), ROOT]) as (pool, box):
            pool.run([job("a", "echo", 1), job("b", "aecho", 2)])
            await box.until_ended("a", "b")

            assert box.values == {"a": [[1], {}], "b": [[2], {}]}

    asyncio.run(main())


def test_a_job_knows_itself(shared: Shared) -> None:
    """`current_job()` would tell the wrong id, attempt, fence, queue or checkpoint."""

    async def test(pool: Pool, box: Box) -> None:
        changes = {"attempt": 3, "queue": "emails", "checkpoint": encode_value([1, 2])}
        pool.run([job("a", "about_me", **changes), job("b", "aabout_me", **changes)])
        await box.until_ended("a", "b")

        for name in ("a", "b"):
            fence = sum(name.encode())
            expected = [name, 3, fence, "emails", 1_700_000_000_000, [1, 2], False]
            assert box.values[name] == expected

    shared.run(test)


def test_values_that_cannot_be_kept_are_marked_and_the_job_succeeds(shared: Shared) -> None:
    """A job that did its work would fail because of its return value."""

    async def test(pool: Pool, box: Box) -> None:
        fits = limits.RESULT_BYTES_MAX - 5  # and five bytes of msgpack's own
        pool.run(
            [
                job("fits", "large", fits),
                job("large", "large", fits + 1),
                job("odd", "not_encodable"),
            ]
        )
        await box.until_ended("fits", "large", "odd")

        assert box.values["fits"] == bytes(fits)
        assert box.raw["large"] == VALUE_TOO_LARGE
        odd = box.raw["odd"] or b""
        assert odd.startswith(VALUE_NOT_SERIALISABLE)
        assert "object" in odd[2:].decode()

    shared.run(test)


def test_no_child_ever_has_more_jobs_than_slots(tmp_path: Path) -> None:
    """The cap would be exceeded; what has no slot would be lost rather than handed back;
    one child would be full while another is idle."""

    async def main() -> None:
        async with started(processes=2, concurrency=2) as (pool, box):
            pool.run([job("p1", "pid"), job("p2", "pid")])
            await box.until_ended("p1", "p2")
            assert box.values.pop("p1") != box.values.pop("p2")
            gate = str(tmp_path / "gate")
            names = [f"j{i}" for i in range(5)]
            kinds = ["hold", "ahold", "hold", "ahold", "hold"]
            pool.run(
                [
                    job(name, kind, str(tmp_path / name), gate)
                    for name, kind in zip(names, kinds, strict=True)
                ]
            )
            assert pool.free == 0
            await until(lambda: all((tmp_path / name).exists() for name in names[:4]))
            await box.until_ended("j4")
            assert box.returned == {"j4": None}
            (tmp_path / "gate").touch()
            await box.until_ended(*names)

            assert set(box.values) == set(names[:4])
            assert not (tmp_path / "j4").exists()
            assert pool.free == 4

    asyncio.run(main())


def test_hundreds_of_async_jobs_run_at_once_in_one_child(tmp_path: Path) -> None:
    """Long network jobs would wait for each other."""

    async def main() -> None:
        async with started(concurrency=300) as (pool, box):
            gate = str(tmp_path / "gate")
            names = [f"j{i}" for i in range(300)]
            pool.run([job(name, "ahold", str(tmp_path / name), gate) for name in names])
            await until(lambda: len(list(tmp_path.iterdir())) == 300)
            (tmp_path / "gate").touch()
            await box.until_ended(*names)

            assert set(box.values.values()) == {"held"}

    asyncio.run(main())


@pytest.mark.parametrize("task", ["count", "acount"])
def test_an_instance_stays_with_its_slot_until_a_job_fails(task: str) -> None:
    """State of a worker would be made for every job, or kept after a failure."""

    async def main() -> None:
        async with started(concurrency=1) as (pool, box):
            for name, is_broken in [("a", False), ("b", False), ("c", True), ("d", False)]:
                pool.run([job(name, task, is_broken)])
                await box.until_ended(name)

            assert [box.values.get(name) for name in "abcd"] == [[1, 1], [1, 2], None, [2, 1]]

    asyncio.run(main())


def test_hooks_run_around_an_attempt_of_either_kind(shared: Shared) -> None:
    """`before` and `after` would not run, or the async ones would never be awaited."""

    async def test(pool: Pool, box: Box) -> None:
        for name in ("hooked", "hooked_async_hooks", "ahooked", "hooked_fail"):
            pool.run([job(name, name, "v")])
            await box.until_ended(name)
            pool.run([job(f"{name}.noted", "noted")])
            await box.until_ended(f"{name}.noted")

        value = [["v"], {}]
        for name in ("hooked", "hooked_async_hooks", "ahooked"):
            expected = [["before", name], ["succeeded", value, "NoneType"]]
            assert box.values[f"{name}.noted"] == expected
        expected = [["before", "hooked_fail"], ["failed", None, "ValueError"]]
        assert box.values["hooked_fail.noted"] == expected

    shared.run(test)


def test_a_raising_before_fails_and_a_raising_after_is_only_logged(
    shared: Shared, caplog: pytest.LogCaptureFixture
) -> None:
    """A hook that breaks would be silent, or undo a success."""

    async def test(pool: Pool, box: Box) -> None:
        pool.run([job("a", "before_raises"), job("b", "after_raises", 1)])
        await box.until_ended("a", "b")
        await box.until(lambda: "after broke" in caplog.text)

        assert box.failed["a"][3][:2] == ["ValueError", "before broke"]
        assert box.values["b"] == [[1], {}]

    shared.run(test)


def test_checkpoints_are_reported_as_they_are_saved(shared: Shared, tmp_path: Path) -> None:
    """A checkpoint would not survive the node."""

    gate = str(tmp_path / "gate")

    async def test(pool: Pool, box: Box) -> None:
        pool.run(
            [
                job("a", "save_and_hold", str(tmp_path / "a"), gate, {"page": 7}),
                job("b", "asave_and_hold", str(tmp_path / "b"), gate, [1]),
            ]
        )
        await box.until(lambda: len(box.checkpoints) == 2)

        assert sorted(box.checkpoints) == [("a", {"page": 7}), ("b", [1])]
        assert box.ends == []
        (tmp_path / "gate").touch()
        await box.until_ended("a", "b")

    shared.run(test)


def test_children_hear_neither_ctrl_c_nor_sigterm(shared: Shared) -> None:
    """Ctrl-C in the terminal would kill jobs that the node is draining."""

    async def test(pool: Pool, box: Box) -> None:
        pool.run([job("a", "signals_are_held")])
        await box.until_ended("a")
        pool.run([job("b", "noop")])
        await box.until_ended("b")

        assert box.values["a"] is True

    shared.run(test)


def test_programs_that_jobs_start_do_not_get_the_line(shared: Shared) -> None:
    """They could hold it open beyond the child's death, or write to it."""

    async def test(pool: Pool, box: Box) -> None:
        pool.run([job("a", "inheritable")])
        await box.until_ended("a")

        assert box.values["a"] == []

    shared.run(test)


def test_one_turn_of_the_loop_gives_one_report() -> None:
    """A thousand short jobs would be a thousand proposals."""

    async def main() -> None:
        async with started(concurrency=100) as (pool, box):
            for turn in range(10):
                names = [f"j{turn}.{i}" for i in range(100)]
                pool.run([job(name, "anoop") for name in names])
                await box.until_ended(*names)

            assert len(box.ends) == 1000
            assert len(box.reports) < 300

    asyncio.run(main())


def test_frames_beyond_the_buffer_of_the_socket_arrive_whole() -> None:
    """Large arguments and values would be cut, or refused as one frame too large."""

    async def main() -> None:
        async with started(concurrency=100) as (pool, box):
            blob = bytes(limits.RESULT_BYTES_MAX - 100)
            names = [f"j{i}" for i in range(100)]
            pool.run([job(name, "echo", blob) for name in names])
            await box.until_ended(*names)

            assert all(box.values[name] == [[blob], {}] for name in names)

    asyncio.run(main())
