"""Parts of slots: their groups, what confirms a start, jobs alone in a process, their plan."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from exkiq.clock import ManualClock
from exkiq.pool import Assignment, isolation
from exkiq.pool.ability import Ability
from exkiq.pool.child import ChildConfig, ChildServer
from exkiq.pool.children import ChildPlan, ChildProcess
from exkiq.pool.confirming import Confirming
from exkiq.pool.groups import shares
from exkiq.pool.ledger import Ledger
from exkiq.pool.mark import Mark, memory_to_share
from exkiq.pool.outbox import Outbox
from exkiq.pool.telling import Telling
from exkiq.pool.words import Order, Word
from exkiq.pool.work import Catalog
from exkiq.wire.frames import FrameDecoder, encode_frame
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


def mark() -> Mark:
    descriptor = memory_to_share()
    try:
        return Mark(descriptor)
    finally:
        os.close(descriptor)


def test_what_is_not_taken_up_in_time_is_given_up() -> None:
    """A job would wait for ever in a child that stands still, or be given to another one too."""
    clock, number = ManualClock(), mark()
    late: list[list[str]] = []

    async def main() -> None:
        confirming = Confirming(1.0, clock, lambda jobs: late.append([each.id for each in jobs]))
        confirming.watch(number)
        assert confirming.sent([job("a", "t")], clock.monotonic()) == (1, 500)
        clock.advance(400)
        assert confirming.sent([job("b", "t")], clock.monotonic()) == (2, 900)
        number.number = 2
        assert confirming.sent([job("c", "t"), job("d", "t")], clock.monotonic()) == (3, 900)
        assert confirming.sent([job("e", "t")], clock.monotonic()) == (4, 900)

        clock.advance(999)
        confirming._look()
        assert late == []
        clock.advance(1)
        confirming._look()
        assert late == [["c", "d"], ["e"]]
        confirming.stop()

    asyncio.run(main())


def test_batches_that_were_taken_up_are_not_kept() -> None:
    """Their arguments would stay in memory for as long as a child has to take up a batch."""

    async def main() -> None:
        number = mark()
        confirming = Confirming(1.0, ManualClock(), lambda _: None)
        confirming.watch(number)
        for _ in range(100):
            number.number, _ = confirming.sent([job("a", "t")], 0.0)
        assert len(confirming._waiting) == 1
        confirming.stop()
        without = Confirming(1.0, ManualClock(), lambda _: None)
        without.sent([job("a", "t")], 0.0)
        assert not without._waiting

    asyncio.run(main())


def test_a_child_sets_the_mark_before_it_looks_at_the_clock() -> None:
    """Held up between the two, it would begin a job that was given to another one by then."""
    number = mark()
    asked: list[int] = []
    words: list[list[Any]] = []

    class LateClock(ManualClock):
        def monotonic(self) -> float:
            asked.append(number.number)
            return 1.0

    class Line:
        def write(self, frames: bytes) -> None:
            words.extend(FrameDecoder().feed(frames))  # type: ignore[arg-type]

    async def main() -> None:
        config = ChildConfig(modules=[], loader="", cwd="", node_pid=0)
        server = ChildServer(TestApp((), {}), config, number)
        server._clock = LateClock()  # type: ignore[assignment]
        server._transport = Line()  # type: ignore[assignment]
        server.data_received(encode_frame([int(Order.START), 7, 999, [job("a", "t", fence=5)]]))
        assert words == [[int(Word.RETURNED), [["a", 5]]]], "at once: nothing may come before it"

    asyncio.run(main())
    assert asked == [7]


def test_a_node_that_is_held_up_itself_takes_nothing_back_from_its_children(tmp_path: Path) -> None:
    """It would give to others what its children run, for it reads too late that they do."""
    uvloop = pytest.importorskip("uvloop")  # it looks at its timers before it reads
    begun, gate = tmp_path / "begun", tmp_path / "gate"

    def hold_up() -> None:
        while not begun.exists():
            time.sleep(0.002)
        time.sleep(0.1)

    async def main() -> None:
        async with started(claim_timeout=0.05) as (pool, box):
            pool.run([job("a", "hold", str(begun), str(gate))])
            await asyncio.sleep(0)
            hold_up()
            gate.touch()
            await box.until_ended("a")
            assert box.values == {"a": "held"}

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_a_child_that_is_stopped_gives_back_what_it_has_not_taken_up(tmp_path: Path) -> None:
    """Its jobs would wait until somebody lets it go on, and then run here and elsewhere."""
    (tmp_path / "gate").touch()

    def touching(*names: str) -> list[Assignment]:
        gate = str(tmp_path / "gate")
        return [job(name, "hold", str(tmp_path / name), gate) for name in names]

    async def main() -> None:
        async with started(processes=2, concurrency=2, claim_timeout=0.1) as (pool, box):
            stopped = pool._crew.children[0]
            os.kill(stopped.pid, signal.SIGSTOP)
            pool.run(touching(*"abcd"))
            await box.until_ended("a", "b", "c", "d")
            assert (len(box.returned), len(box.values)) == (2, 2)
            assert pool.free == 2, "nothing more for it"
            pool.run(touching(*"efg"))
            await box.until_ended("e", "f", "g")
            assert len(box.returned) == 3

            os.kill(stopped.pid, signal.SIGCONT)
            await box.until(lambda: pool.free == 4)
            assert stopped in pool._crew.children
            pool.run(touching("a2", "b2", "c2", "d2"))
            await box.until_ended("a2", "b2", "c2", "d2")
            assert len(box.returned) == 3
            assert not any((tmp_path / name).exists() for name in box.returned)

    asyncio.run(main())


def test_a_job_that_a_dying_child_never_began_is_not_charged_with_its_death() -> None:
    """It would lose an attempt, or in the end fail, for what it had no part in."""

    async def main() -> None:
        async with started(claim_timeout=5.0) as (pool, box):
            (child,) = pool._crew.children
            os.kill(child.pid, signal.SIGSTOP)
            pool.run([job("a", "echo", checkpoint=b"\x05")])
            os.kill(child.pid, signal.SIGKILL)
            await box.until_ended("a")
            assert box.returned == {"a": b"\x05"}
            await box.until(lambda: pool.free == 4)

    asyncio.run(main())


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


def test_the_given_path_comes_first_and_nothing_is_there_twice() -> None:
    """Another module of the same name would be loaded as APP; exkiq itself would be missing."""
    plan = ChildPlan(("app",), "l:l", 1, ("/first", "/second", "/first"), "/")
    path = plan.import_path()

    assert path[:2] == ["/first", "/second"]
    assert len(path) == len(set(path))
