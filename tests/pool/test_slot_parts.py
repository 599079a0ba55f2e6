"""Parts of slots: their groups, what confirms a start, jobs alone in a process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from exkiq.clock import ManualClock
from exkiq.pool import Assignment, isolation
from exkiq.pool.ability import Ability
from exkiq.pool.children import ChildProcess
from exkiq.pool.confirming import READ_SECONDS, Confirming
from exkiq.pool.groups import shares
from exkiq.pool.ledger import Ledger
from exkiq.pool.outbox import Outbox
from exkiq.pool.telling import Telling
from exkiq.pool.words import Order, Word
from exkiq.pool.work import Catalog
from exkiq.wire.frames import FrameDecoder
from tests.pool.harness import job, started, until
from tests.pool.pool_loader import TestApp


def test_the_slots_of_pools_are_dealt_out_over_the_children() -> None:
    """A pool would have more or fewer slots than it says, or a child more than its share."""
    for processes in (1, 2, 3, 7):
        for slots in ({}, {"a": 1}, {"a": 5, "b": 2, "c": 7}):
            concurrency = -(-sum(slots.values()) // processes) + 1
            dealt = [
                shares(slots, processes=processes, concurrency=concurrency, number=number)
                for number in range(1, processes + 1)
            ]
            assert {sum(share.values()) for share in dealt} == {concurrency}
            for queue, count in slots.items():
                mine = [share[queue] for share in dealt]
                assert sum(mine) == count
                assert max(mine) - min(mine) <= 1
            assert min(share[""] for share in dealt) >= 1


def test_a_ledger_counts_the_jobs_of_each_group() -> None:
    """A slot would be taken for ever, or given twice."""
    ledger = Ledger()
    ledger.group_by({"": 2, "mail": 1})
    ledger.begin(job("a", "t", queue="mail"), 0.0)
    ledger.begin(job("b", "t", queue="other"), 0.0)
    assert (ledger.taken("mail"), ledger.taken("")) == (1, 1)
    ledger.end("a")
    assert (ledger.taken("mail"), ledger.taken("")) == (0, 1)
    ledger.begin(job("a", "t", queue="mail"), 0.0)
    ledger.clear()
    assert (ledger.taken("mail"), ledger.taken("")) == (0, 0)


def test_what_is_not_confirmed_in_time_is_given_up_and_known_to_be() -> None:
    """A job would wait for ever in a child that stands still, or run twice unnoticed."""
    clock = ManualClock()
    late: list[list[str]] = []

    async def main() -> None:
        confirming = Confirming(1.0, clock, lambda jobs: late.append([each.id for each in jobs]))
        first, start_by_ms = confirming.sent([job("a", "t")])
        assert start_by_ms == 500
        clock.advance(400)
        second, _ = confirming.sent([job("b", "t"), job("c", "t")])
        third, _ = confirming.sent([job("d", "t")])
        assert confirming.started(first)
        assert confirming.started(third)

        clock.advance(999)
        confirming._look()
        assert late == []
        clock.advance(1)
        confirming._look()
        assert late == [["b", "c"]]
        assert not confirming.started(second), "others may have it by now"
        confirming.stop()

    asyncio.run(main())
    assert READ_SECONDS < 0.1


def test_a_child_that_begins_what_was_given_back_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """The job would run here and on another node."""
    order = ChildProcess.order

    def delayed(child: ChildProcess, kind: Order, *rest: Any) -> None:
        if kind is Order.START:
            number, _, rows = rest
            rest = number, 2**60, rows
            asyncio.get_running_loop().call_later(0.3, order, child, kind, *rest)
        else:
            order(child, kind, *rest)

    async def main() -> None:
        async with started(claim_timeout=0.1) as (pool, box):
            pids = [child.pid for child in pool._crew.children]
            monkeypatch.setattr(ChildProcess, "order", delayed)
            pool.run([job("a", "block", str(tmp_path / "a"))])
            await box.until_ended("a")
            assert box.returned == {"a": None}
            await box.until(lambda: pool.free == 4 and [c.pid for c in pool._crew.children] != pids)
            monkeypatch.undo()

    asyncio.run(main())
    assert "began jobs that were given back by then" in caplog.text


def test_the_last_progress_of_each_job_goes_out_at_most_once_a_period() -> None:
    """The node would be flooded; or the last word of a job would be missed."""
    clock = ManualClock()
    words: list[list[Any]] = []

    def send(frames: bytes) -> None:
        words.extend(FrameDecoder().feed(frames))  # type: ignore[arg-type]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        telling = Telling(loop, Outbox(loop, send), clock)
        for i in range(100):
            telling.say(job("a", "t"), bytes([i]))
            telling.say(job("b", "t"), bytes([i]))
        await until(lambda: len(words) == 1)
        telling.say(job("a", "t"), b"\x07")
        telling.say(job("a", "t"), b"\x08")
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(words) == 1, "not so soon after the last"
        await until(lambda: len(words) == 2)

    asyncio.run(main())
    assert [word[0] for word in words] == [Word.PROGRESS] * 2
    assert sorted(words[0][1]) == [["a", 97, b"\x63"], ["b", 98, b"\x63"]]
    assert words[1][1] == [["a", 97, b"\x08"]]


def test_unknown_tasks_are_bounded_and_told_once() -> None:
    """Anybody could fill a child's memory with names; each job would be one more message."""
    words: list[list[Any]] = []

    def send(frames: bytes) -> None:
        words.extend(FrameDecoder().feed(frames))  # type: ignore[arg-type]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        outbox = Outbox(loop, send)
        ability = Ability(loop, outbox, Catalog(TestApp((), {})))
        ability.unknown("a")
        outbox.flush()
        ability.unknown("a")
        outbox.flush()
        assert [word[1] for word in words] == [[[["a"], {}]]]
        for i in range(1500):
            ability.unknown(f"t{i}")
        outbox.flush()
        assert len(words[-1][1][-1][0]) == 1000

    asyncio.run(main())


def test_a_job_whose_own_process_cannot_start_goes_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be lost, or go to and fro between the leader and this node."""

    async def main() -> None:
        async with started() as (pool, box):

            async def no_room(_: ChildProcess) -> None:
                raise OSError("no room for another process")

            monkeypatch.setattr(ChildProcess, "spawn", no_room)
            pool.run([job("a", "pid", isolated=True, checkpoint=b"\x05")])
            assert (pool.running, pool.free) == (1, 3)
            await box.until_ended("a")
            await box.until(lambda: pool.free == 4)
            assert box.returned == {"a": b"\x05"}
            assert pool.unable == ("pid",)
            monkeypatch.undo()

    asyncio.run(main())
    assert "no room for another process" in caplog.text


def test_jobs_that_wait_for_their_own_process_can_be_stopped_and_drained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They would be started after a cancel, or be forgotten by a drain."""
    gate = asyncio.Event()

    async def no_room(_: ChildProcess) -> None:
        await gate.wait()
        raise OSError("no room for another process")

    async def main() -> None:
        async with started() as (pool, box):
            waiting: list[Assignment] = [job(name, "pid", isolated=True) for name in "ab"]
            monkeypatch.setattr(ChildProcess, "spawn", no_room)
            pool.run(waiting)
            pool.stop_job("a", waiting[0].fence)
            await box.until_ended("a")
            await pool.drain(0.1)
            assert box.returned == {"a": None, "b": None}
            gate.set()

    asyncio.run(main())


def test_a_lone_child_is_kept_for_its_task_and_makes_room_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each job would import the APP anew; or children of tasks long gone would fill the memory."""

    async def main() -> None:
        async with started(concurrency=1) as (pool, box):
            for name, task in (("a", "pid"), ("b", "pid"), ("c", "aecho"), ("d", "pid")):
                pool.run([job(name, task, isolated=True)])
                await box.until_ended(name)
            assert box.values["a"] == box.values["b"] != box.values["d"]
            await until(lambda: len(pool._isolation.children) == 1)
            monkeypatch.setattr(isolation, "IDLE_SECONDS", 0.01)
            pool.run([job("e", "pid", isolated=True)])
            await box.until_ended("e")
            assert box.values["e"] == box.values["d"]
            await until(lambda: pool._isolation.children == [])

    asyncio.run(main())
