"""Rows about what lives in a slot: instances, pools of them, hooks."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from exkiq.pool import Pool
from tests.pool.harness import Box, make_pool, until
from tests.pool.harness import started as plain_started
from tests.rows.slot_pools import APP, COMMON_SLOTS, Notes, SharedPool, job, started, warnings_of

# --- instances --------------------------------------------------------------------------------


def test_HD_02_a_slot_keeps_its_instance_until_a_job_fails(
    notes: Notes, slot_folder: Path, slots: SharedPool
) -> None:
    """Each job would connect anew; one failure would cost all slots their connections."""

    async def test(pool: Pool, box: Box) -> None:
        pool.run([job(name, "Kept", "open") for name in "abc"])
        await until(lambda: len(notes("waiting")) == 3)
        (slot_folder / "open").touch()
        await box.until_ended("a", "b", "c")
        by_thread = {box.values[name][2]: box.values[name][0] for name in "abc"}
        assert sorted(by_thread.values()) == [1, 2, 3]

        pool.run([job("x", "Kept", "", True)])
        await box.until_ended("x")
        (slot_folder / "open").unlink()
        pool.run([job(name, "Kept", "open") for name in "def"])
        await until(lambda: len(notes("waiting")) == 6)
        (slot_folder / "open").touch()
        await box.until_ended("d", "e", "f")

        after = {box.values[name][2]: box.values[name][0] for name in "def"}
        kept = [number for thread, number in after.items() if by_thread.get(thread) == number]
        assert len(kept) == 2, "the other slots keep theirs"
        assert 4 in after.values(), "the failed one is made anew"

    slots.run(test)


def test_HL_11_sync_jobs_have_threads_and_async_jobs_the_loop(
    slots: SharedPool, notes: Notes
) -> None:
    """A blocking job would stop its neighbours; a success would cost an instance."""

    async def test(pool: Pool, box: Box) -> None:
        for name in "abc":
            pool.run([job(name, "AsyncKept", name == "b")])
            await box.until_ended(name)
        pool.run([job("d", "Kept")])
        await box.until_ended("d")

        assert [box.values[name][0] for name in "ac"] == [1, 2]
        assert box.values["a"][1] == box.values["d"][1]
        assert box.values["a"][2] != box.values["d"][2]

    slots.run(test)


def test_HD_10_an_init_that_fails_gives_the_job_back_until_it_works(
    notes: Notes, slot_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Jobs would fail for a server that is away, or go to and fro for as long as it is."""

    async def main() -> None:
        async with started(slots=2) as (pool, box):
            for task in ("Database", "AsyncDatabase"):
                name = f"{APP}:{task}"
                pool.run([job(task, task)])
                await box.until_ended(task)
                assert box.returned == {task: None}
                await box.until(lambda name=name: pool.unable == (name,))
                assert pool.free_by_group[""] == 2, "other classes have all the room"
                pool.run([job("other" + task, "Kept"), job("no" + task, task)])
                await box.until_ended("other" + task, "no" + task)
                assert box.returned.pop("no" + task, 0) is None
                (slot_folder / "up").touch()
                await box.until(lambda: pool.unable == () and pool.free_by_group[""] == 2)
                pool.run([job("yes" + task, task)])
                await box.until_ended("yes" + task)
                assert box.values["yes" + task] == "connected"
                (slot_folder / "up").unlink()
                box.returned.clear()
            assert box.failed == {}

    asyncio.run(main())
    (first, *_) = warnings_of(caplog, "Database could not be initialised in slot 1")
    assert "SystemExit: no server; it is tried again in 0.05 s" in first
    assert warnings_of(caplog, "AsyncDatabase could not be initialised in slot async 2: Keyboard")


def test_HD_10_a_slot_without_its_worker_takes_no_job_and_the_others_go_on(
    notes: Notes, slot_folder: Path
) -> None:
    """Of many slots those that a server refuses would take jobs only to give them back."""

    async def main() -> None:
        async with started(slots=4) as (pool, box):
            pool.run([job(f"j{i}", "Few", "all") for i in range(4)])
            await box.until(lambda: len(box.returned) == 2)
            assert len(notes("many")) == 2
            assert (pool.free_by_group[""], pool.unable) == (0, ())
            (slot_folder / "all").touch()
            await box.until_ended(*(f"j{i}" for i in range(4)))
            assert pool.free_by_group[""] == 2
            for i in range(4, 20, 2):
                pool.run([job(f"j{i}", "Few"), job(f"j{i + 1}", "Few")])
                await box.until_ended(f"j{i}", f"j{i + 1}")

            assert len(box.returned) == 2, "with the room that is told none comes back"
            assert (len(box.values), pool.unable) == (18, ())
            assert len(notes("few")) == 4
            assert len(set(box.values.values())) == 2

    asyncio.run(main())


def test_HL_13_failed_init_takes_the_place_of_the_timer(notes: Notes, slot_folder: Path) -> None:
    """A worker that knows when its server is back would wait for a timer, or spin."""

    async def main() -> None:
        async with started(slots=1) as (pool, box):
            pool.run([job("b", "AsyncHealing")])
            await box.until_ended("b")
            pool.run([job("a", "Healing")])
            await box.until_ended("a")
            assert box.returned == {"a": None, "b": None}
            await box.until(lambda: pool.unable == (f"{APP}:Healing",))
            assert notes("failed_init") == ["not yet"]

            (slot_folder / "heal").touch()
            await box.until(lambda: pool.unable == () and pool.free_by_group[""] == 1)
            pool.run([job("c", "Healing")])
            await box.until_ended("c")
            pool.run([job("d", "AsyncHealing")])
            await box.until_ended("d")
            assert (box.values["c"], box.values["d"]) == (4, 3)

    asyncio.run(main())
    times = [float(line) for line in notes("healing")]
    assert len(times) == 4
    assert min(later - sooner for sooner, later in pairwise(times)) >= 0.01


def test_HL_13_a_failed_init_that_raises_leaves_the_timer(
    notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    """The slot would wait for a call that never comes."""

    async def main() -> None:
        async with started(slots=1) as (pool, box):
            pool.run([job("a", "Clumsy")])
            await box.until_ended("a")
            await box.until(lambda: pool.unable == (f"{APP}:Clumsy",))
            await box.until(lambda: pool.unable == ())
            pool.run([job("b", "Clumsy")])
            await box.until_ended("b")
            assert box.values["b"] == 3

    asyncio.run(main())
    assert len(warnings_of(caplog, "failed_init of Clumsy raised ZeroDivisionError: clumsy")) == 2


def test_HD_11_a_declared_pool_has_its_own_slots_and_init_args(
    notes: Notes, slot_folder: Path, slots: SharedPool
) -> None:
    """Its jobs would take the room of others, or theirs its room; its workers would not know
    what they are for."""

    async def test(pool: Pool, box: Box) -> None:
        assert pool.free_by_group == {"": 5, "printers": 3}
        prints = [job(f"p{i}", "Printer", queue="printers") for i in range(4)]
        holds = [job(f"h{i}", "hold", "go") for i in range(6)]
        pool.run([*prints, *holds])
        await until(lambda: len(notes("printing")) == 3 and len(notes("held")) == 5)
        await box.until_ended("p3", "h5")
        assert set(box.returned) == {"p3", "h5"}
        assert pool.free_by_group == {"": 0, "printers": 0}
        (slot_folder / "print").touch()
        (slot_folder / "go").touch()
        await box.until_ended(*(each.id for each in prints + holds))

        states = [box.values[f"p{i}"] for i in range(3)]
        assert {tuple(state[:2]) for state in states} == {("laser", 9100)}
        assert len({state[2] for state in states}) == 3

    slots.run(test)


def test_HD_11_the_slots_of_a_pool_are_divided_and_taken_out_of_the_concurrency(
    notes: Notes,
) -> None:
    """A node would run more than its concurrency; or too large a pool would start and starve."""

    async def main() -> None:
        async with plain_started(
            app=(APP,), loader="exkiq.task:load_app", processes=2, concurrency=4
        ) as (pool, _):
            assert pool.free_by_group == {"": 5, "printers": 3}
            shares = [child.groups for child in pool._crew.children]
            assert shares == [{"": 2, "printers": 2}, {"": 3, "printers": 1}]
        with pytest.raises(ValueError, match=r"3 slots .*printers.* the node has 2; raise"):
            await make_pool(print, app=(APP,), loader="exkiq.task:load_app", concurrency=2).start()

    asyncio.run(main())


def test_HD_T6_hooks_run_around_every_attempt(
    slots: SharedPool, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    """A raise in one would decide about jobs that it should not, or not where it should."""

    async def test(pool: Pool, box: Box) -> None:
        for name, kind in (("good", "x"), ("bad", "fail"), ("refused", "x"), ("loud", "x")):
            pool.run([job(name, "Hooked", kind)])
            await box.until_ended(name)
        pool.run([job("dead", "Hooked", "die")])
        await box.until_ended("dead")
        await box.until(lambda: pool.free_by_group[""] == COMMON_SLOTS)

        assert set(box.values) == {"good", "loud"}
        assert box.failed["refused"][3][0] == "PermissionError"
        assert box.failed["dead"][3][0] == "ChildDied"

    slots.run(test)
    assert notes("hooks") == [
        *("before good", "after good succeeded NoneType"),
        *("before bad", "after bad failed ValueError"),
        *("before refused", "after refused failed PermissionError"),
        *("before loud", "after loud succeeded NoneType"),
        "before dead",
    ]
    assert len(warnings_of(caplog, "its after hook raised ZeroDivisionError: after broke")) == 1
