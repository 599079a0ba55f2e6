"""Rows about a run in a slot: how it begins, what it says, how it ends."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest

from exkiq.pool import Pool
from exkiq.pool import pool as pool_module
from exkiq.wire.codec import decode_value
from tests.pool.harness import Box, until
from tests.pool.harness import job as plain_job
from tests.pool.harness import started as plain_started
from tests.rows.slot_pools import APP, COMMON_SLOTS, Notes, SharedPool, job, started, warnings_of

# --- being started ----------------------------------------------------------------------------


def test_HL_10_what_a_blocked_child_does_not_begin_goes_back_and_is_never_begun(
    notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    """Jobs would wait behind blocking code while other nodes are idle; or run twice after it."""

    async def main() -> None:
        async with started(processes=1, claim_timeout=0.2) as (pool, box):
            pool.run([job("block", "block_loop", 0.7)])
            await until(lambda: bool(notes("blocking")))
            loop = asyncio.get_running_loop()
            begun = loop.time()
            pool.run([job("a", "hold", "a"), job("b", "quick", checkpoint=b"\x05")])
            await box.until_ended("a", "b")
            assert 0.15 < loop.time() - begun < 0.6
            assert box.returned == {"a": None, "b": b"\x05"}
            assert pool.free == 0, "no more for a child that does not begin"

            await box.until_ended("block")
            assert box.values == {"block": "blocked"}
            assert pool.free > 0
            pool.run([job("c", "quick")])
            await box.until_ended("c")

    asyncio.run(main())
    assert notes("held") == []
    assert len(warnings_of(caplog, "has not begun 2 jobs in time")) == 1


def test_HA_01_a_job_that_blocks_from_its_first_line_is_not_started_twice(notes: Notes) -> None:
    """The child could not say that it has begun: the job would be given to another node too."""

    async def main() -> None:
        async with started(claim_timeout=0.1) as (pool, box):
            pool.run([job(f"b{i}", "block_loop", 0.15) for i in range(3)])
            await box.until_ended("b0", "b1", "b2")
            assert box.returned == {}
            assert set(box.values.values()) == {"blocked"}

    asyncio.run(main())
    assert len(notes("blocking")) == 3


def test_HA_04_a_task_that_is_unknown_goes_back_uncounted(
    notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    """A job of a newer release would fail on an older node, and use up its retries."""

    async def main() -> None:
        async with started() as (pool, box):
            for name in "ab":
                pool.run([job(name, "Tomorrow")])
                await box.until_ended(name)
            assert box.returned == {"a": None, "b": None}
            assert pool.unable == (f"{APP}:Tomorrow",)
            assert (pool.free, box.failed) == (8, {})

    asyncio.run(main())
    (line,) = warnings_of(caplog, "cannot run")
    assert "Tomorrow" in line


# --- ends -------------------------------------------------------------------------------------


def test_HD_T9_a_cancelled_job_is_stopped_in_its_own_way(
    slots: SharedPool, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    """It would run on to its end; or be told like a crash."""
    caplog.set_level(logging.INFO)

    async def test(pool: Pool, box: Box) -> None:
        names = {"Patient": "patient", "Sleeper": "sleeper", "Keen": "keen"}
        jobs = [job(name, task) for task, name in names.items()]
        pool.run(jobs)
        await until(lambda: all(notes(name) for name in names.values()))
        pool.stop_job("patient", 1)  # of another start
        for each in jobs:
            pool.stop_job(each.id, each.fence)
        await box.until_ended(*names.values())

        kinds = {name: (row[2], row[3][0]) for name, row in box.failed.items()}
        assert kinds["sleeper"] == (["failed"], "JobCancelled")
        assert kinds["patient"][1] == "InterruptedError"
        assert box.values == {"keen": "done all the same"}

    slots.run(test)
    assert warnings_of(caplog, "patient") + warnings_of(caplog, "sleeper") == []
    assert "job sleeper" in caplog.text


def test_HL_11_an_isolated_job_has_a_process_to_itself(
    notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    """A segfault would take neighbours along; the node would run more than its slots."""
    caplog.set_level(logging.INFO)

    async def main() -> None:
        async with started(slots=3) as (pool, box):
            pool.run([job("in", "hold", "never")])
            pool.run([job(n, "Lonely", isolated=True) for n in ("a", "b", "over")])
            assert pool.free_by_group[""] == 0
            await box.until_ended("a", "b", "over")
            assert box.returned == {"over": None}
            assert len({box.values["a"], box.values["b"], pool._crew.children[0].pid}) == 3
            assert pool.free_by_group[""] == 2

            pool.run([job("c", "Lonely", isolated=True)])
            await box.until_ended("c")
            assert box.values["c"] in (box.values["a"], box.values["b"]), "a child is kept"
            pool.run([job("s", "Lonely", "SIGSEGV", isolated=True)])
            deaf = job("deaf", "Deaf", isolated=True)
            pool.run([deaf])
            await box.until_ended("s")
            assert box.failed["s"][3][0] == "ChildDied"
            await until(lambda: bool(notes("deaf")))
            pool.stop_job(deaf.id, deaf.fence)
            await box.until_ended("deaf")
            assert box.failed["deaf"][3][0] == "JobCancelled"
            assert (box.lost, pool.free_by_group[""]) == ([], 2)
            assert pool.running == 1, "the neighbour runs on"

    asyncio.run(main())
    assert warnings_of(caplog, "deaf") == []


def test_HL_18_HA_08_a_drain_asks_what_does_not_end_and_hands_it_back(
    notes: Notes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of work would begin anew elsewhere; a job that can end would be disturbed."""
    monkeypatch.setattr(pool_module, "CANCEL_SECONDS", 0.2)

    async def main() -> None:
        async with started(processes=1) as (pool, box):
            tasks = {"s": "Saving", "a": "AsyncSaving", "c": "ClumsySaving", "q": "Quick"}
            pool.run([job(name, task) for name, task in tasks.items()])
            await until(lambda: len(notes("saving")) == 4)
            loop = asyncio.get_running_loop()
            begun = loop.time()
            await pool.drain(0.5)

            assert loop.time() - begun < 0.5, "nothing is left to wait for"
            kept = {name: value and decode_value(value) for name, value in box.returned.items()}
            assert kept == {"s": {"page": 7}, "a": {"page": 8}, "c": None}
            assert box.values == {"q": None}
            assert (box.failed, notes("asked")) == ({}, [])

    asyncio.run(main())
    assert len(warnings_of(caplog, "its on_shutdown raised ZeroDivisionError: no page")) == 1


def test_HA_08_a_drain_without_time_asks_all_the_same(notes: Notes) -> None:
    """A node that has to leave at once would forget how far its jobs were."""

    async def main() -> None:
        async with started() as (pool, box):
            pool.run([job("s", "Saving"), job("a", "AsyncSaving")])
            await until(lambda: len(notes("saving")) == 2)
            await pool.drain(0)
            kept = {name: value and decode_value(value) for name, value in box.returned.items()}
            assert kept == {"s": {"page": 7}, "a": {"page": 8}}

    asyncio.run(main())


# --- what a job says --------------------------------------------------------------------------


def test_HD_T8_progress_is_told_now_and_then_and_its_last_word_always(
    notes: Notes, slot_folder: Path, slots: SharedPool
) -> None:
    """A job that counts to thousands would send as many messages, or stop short of its end."""

    async def test(pool: Pool, box: Box) -> None:
        pool.run([job("p", "count_to", 5000, "counted"), job("much", "too_much")])
        await box.until(lambda: ("p", {"done": 5000}) in box.progress)
        (slot_folder / "counted").touch()
        await box.until_ended("p", "much")

        said = [value["done"] for name, value in box.progress if name == "p"]
        assert said == sorted(said)
        assert len(said) < 20
        assert box.failed["much"][3][0] == "JobTooLarge"

    slots.run(test)


def test_HL_09_a_success_mode_runs_once_the_success_is_in_the_log(
    notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    """It would tell of successes that the log does not know; or turn one into a failure."""
    caplog.set_level(logging.INFO)

    async def main() -> None:
        async with started() as (pool, box):
            await test(pool, box)

    async def test(pool: Pool, box: Box) -> None:
        now = {"enqueued_ms": 10}
        pool.run([job("a", "Recorded", "fine", **now), job("r", "Recorded", "raise")])
        pool.run([job("l", "Logged", "x" * 500), job("plain", "quick")])
        await box.until_ended("a", "r", "l", "plain")
        assert sorted(box.awaiting) == ["a", "l", "r"]
        assert set(box.values) == {"a", "r", "l", "plain"}
        assert notes("successes") == []

        pool.committed(["a", "r", "l", "plain", "unknown"])
        pool.committed(["a"])
        await until(lambda: bool(notes("successes")) and "job l" in caplog.text)
        await until(lambda: bool(warnings_of(caplog, "its success mode raised")))
        (line,) = notes("successes")
        name, value, waited_ms, run_ms = line.split()
        assert (name, value) == ("a", "fine")
        assert int(waited_ms) > 1_700_000_000_000
        assert 20 <= int(run_ms) < 2000

    asyncio.run(main())
    (line,) = [r.getMessage() for r in caplog.records if "succeeded: waited" in r.getMessage()]
    assert "x" * 50 in line
    assert len(line) < 400


def test_HL_12_HL_19_a_thousand_failures_leave_nothing_behind(slots: SharedPool) -> None:
    """Each would keep its worker, and what it is connected to, until a collector comes by."""

    async def test(pool: Pool, box: Box) -> None:
        kinds = [("Failing", kind) for kind in ("plain", "chain", "exit")]
        kinds += [("AsyncFailing", kind) for kind in ("plain", "cancel")]
        for i in range(200):
            jobs = [job(f"{i}{task}{kind}", task, kind) for task, kind in kinds]
            pool.run(jobs)
            await box.until_ended(*(each.id for each in jobs))
        assert len(box.failed) == 1000
        pool.run([job("c", "Failing.count")])
        await box.until_ended("c")
        pool.run([job("ac", "AsyncFailing.count")])
        await box.until_ended("ac")
        assert box.values["c"] <= COMMON_SLOTS
        assert box.values["ac"] <= COMMON_SLOTS

    slots.run(test)


def test_HL_18_a_pool_has_a_grace_of_its_own(notes: Notes, slot_folder: Path) -> None:
    """Its jobs would hold up the end of a node; or those of other queues would lose their time."""

    async def main() -> None:
        options = {"app": ("tests.rows.grace_jobs",), "loader": "exkiq.task:load_app"}
        async with plain_started(**options) as (pool, box):  # type: ignore[arg-type]
            gate = str(slot_folder / "gate")
            pool.run(
                [
                    plain_job("b", "tests.rows.grace_jobs:Brief", queue="brief"),
                    plain_job("l", "tests.rows.grace_jobs:Long", gate),
                ]
            )
            await until(lambda: all((slot_folder / f"runs {name}").exists() for name in "bl"))
            async with asyncio.TaskGroup() as group:
                group.create_task(pool.drain(20))
                await box.until_ended("b")
                assert box.returned == {"b": None}
                (slot_folder / "gate").touch()
            assert box.values == {"l": "ended"}

    asyncio.run(main())


def test_HD_07_a_death_among_several_jobs_is_named_by_the_next_one(
    notes: Notes, slot_folder: Path
) -> None:
    """The innocent would be charged with it, or the culprit would take others along for ever."""

    async def main() -> None:
        async with started(slots=2) as (pool, box):
            others = pool._crew.children[0].pid
            pool.run([job("calm", "hold", "go")])
            await until(lambda: bool(notes("held")))
            pool.run([job("mad", "Hooked", "die")])
            await box.until_ended("calm", "mad")
            assert sorted(box.lost) == ["calm", "mad"]
            box.ends.clear()
            await box.until(lambda: pool.free_by_group[""] == 2)
            assert pool._crew.children[0].pid != others

            (slot_folder / "go").touch()
            pool.run([job("mad", "Hooked", "die", lost=1), job("calm", "hold", "go", lost=1)])
            await box.until_ended("calm", "mad")
            assert box.failed["mad"][3][0] == "ChildDied"
            assert box.values == {"calm": "go"}

    asyncio.run(main())


def test_HD_09_user_code_runs_in_children_only(slots: SharedPool, notes: Notes) -> None:
    """A worker could stop the process that keeps the log."""

    async def test(pool: Pool, box: Box) -> None:
        pool.run([job("a", "Kept"), job("b", "AsyncKept"), job("c", "quick")])
        pool.run([job("d", "Lonely", isolated=True)])
        await box.until_ended(*"abcd")
        pids = {box.values["a"][1], box.values["b"][1], box.values["c"], box.values["d"]}
        assert os.getpid() not in pids
        assert len(pids) == 2

    slots.run(test)


def test_HL_12_each_kind_of_crash_is_one_warning_and_one_error(
    notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    """A kind of crash would leave no trace, or take the node or a neighbour along."""
    kinds = {
        "exception": ("Failing", "ValueError"),
        "exit": ("Failing", "SystemExit"),
        "interrupt": ("Failing", "KeyboardInterrupt"),
        "cancel": ("AsyncFailing", "CancelledError"),
    }

    async def main() -> None:
        async with started() as (pool, box):
            pool.run([job(name, task, name) for name, (task, _) in kinds.items()])
            await box.until_ended(*kinds)
            pool.run([job("late", "hold", "never", timeout_ms=50), job("calm", "hold", "never")])
            await box.until_ended("late", "calm")
            await box.until(lambda: pool.free_by_group[""] == COMMON_SLOTS)
            pool.run([job("dead", "Hooked", "die")])
            await box.until_ended("dead")

            told = {name: row[3][0] for name, row in box.failed.items()}
            expected = {name: kind for name, (_, kind) in kinds.items()}
            assert told == expected | {"late": "JobTimeout", "dead": "ChildDied"}
            assert box.returned == {"calm": None}, "a neighbour is handed back"

    asyncio.run(main())
    for name in (*kinds, "late", "dead"):
        records = [each for each in caplog.records if getattr(each, "exkiq_job", "") == name]
        assert [each.levelno for each in records] == [logging.WARNING], name
        assert records[0].exkiq_crash_reason  # type: ignore[attr-defined]
