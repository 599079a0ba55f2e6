"""Those who watch a job are told each step, in order, and once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exkiq.clock import ManualClock
from exkiq.errors import NoSuchJob
from exkiq.machine import Machine, Spec, commands
from exkiq.queues import LocalHouse
from exkiq.queues.watchers import BEAT_S, Told, Watch, Watchers
from tests.aggregator.pretend import Pids
from tests.queues.timer import Timer

ERROR = ["ValueError", "no", "trace"]


class Room:
    """A house, those who watch in it, and their timers."""

    def __init__(self) -> None:
        self.pid = Pids()
        self.clock = ManualClock()
        self.house = LocalHouse(self.clock)
        self.machine: Machine = self.house.machine
        self.timers: list[Timer] = []
        self.told: list[Told] = []
        self.watchers = Watchers(lambda: self.machine, self._later)
        self.house.subscribe(self.watchers.applied)
        self.propose(commands.session_begin(self.pid(), "n1", "run", "a:1"))

    def _later(self, delay: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(delay, call))
        return self.timers[-1]

    def propose(self, op: bytes) -> None:
        self.house.propose_nowait(op)

    def entry(self, *ops: bytes) -> None:
        """These operations as one entry of the log."""
        body = commands.encode_entry(self.clock.now_ms(), 1, ops)
        applied = self.machine.apply(self.machine.index + 1, body)
        self.watchers.applied(applied)

    def enqueue(self, job_id: str, max_lost: int = 3, delay_ms: int = 0) -> None:
        spec = Spec("app:work", "default", max_lost=max_lost)
        self.propose(commands.enqueue(self.pid(), spec, [job_id], [b""], delay_ms=delay_ms))

    def claim(self, job_id: str) -> int:
        self.propose(self.claim_op(job_id))
        return self.fence(job_id)

    def claim_op(self, job_id: str) -> bytes:
        return commands.claim(self.pid(), [("n1", 1, [job_id])])

    def fence(self, job_id: str) -> int:
        return self.machine.jobs[job_id].fence

    def fail_op(self, job_id: str, decision: list[object]) -> bytes:
        row = [job_id, self.fence(job_id), decision, ERROR, 1]
        return commands.fail(self.pid(), 1, [row])

    def back_op(self, job_id: str, *, is_lost: bool = False) -> bytes:
        return commands.hand_back(
            self.pid(), 1, [job_id], [self.fence(job_id)], None, is_lost=is_lost
        )

    def complete_op(self, job_id: str) -> bytes:
        return commands.complete(self.pid(), 1, [job_id], [self.fence(job_id)], [b"value"])

    def watch(self, job_id: str, seen: int = 0) -> Watch:
        return self.watchers.watch(job_id, seen, lambda _, told, __: self.told.append(told))

    def steps(self) -> list[dict[Any, Any]]:
        """What was told since the last look."""
        told, self.told = self.told, []
        return [step for step in told if isinstance(step, dict)]

    def names(self) -> list[str]:
        return [step["name"] for step in self.steps()]


def test_each_step_of_a_long_life() -> None:
    """A step would be missing, in the wrong order, or told of another job."""
    room = Room()
    room.enqueue("1", delay_ms=1_000)
    room.enqueue("2")
    room.watch("1")
    room.propose(commands.move(room.pid(), "1", "other"))
    room.clock.advance(1_500)
    room.propose(commands.due(room.pid()))
    room.claim("1")
    room.propose(room.back_op("1"))
    room.claim("1")
    room.propose(room.back_op("1", is_lost=True))
    room.claim("1")
    room.claim("2")
    room.propose(room.fail_op("1", ["requeue"]))
    room.claim("1")
    room.propose(room.fail_op("1", ["move", "third"]))
    room.claim("1")
    room.propose(room.complete_op("1"))
    steps = room.steps()
    assert [step["name"] for step in steps] == [
        "scheduled",
        "moved",
        "started",
        "handed_back",
        "started",
        "lost",
        "started",
        "retrying",
        "started",
        "moved",
        "started",
        "succeeded",
    ]
    queues = [step["queue"] for step in steps]
    assert queues == ["default", *["other"] * 8, *["third"] * 3]
    assert [step["is_present"] for step in steps] == [True] + [False] * 11
    assert len(room.watchers) == 0


def test_a_retry_says_why_and_when() -> None:
    """Someone who watches would not learn what went wrong, nor how long to wait."""
    room = Room()
    room.enqueue("1")
    room.watch("1")
    room.claim("1")
    room.propose(room.fail_op("1", ["retry", 1_500]))
    retrying = room.steps()[-1]
    assert (retrying["error"], retrying["delay_ms"], retrying["attempt"]) == (ERROR, 1_500, 2)
    room.clock.advance(1_000)
    room.watch("1")
    late = room.steps()[-1]
    assert (late["name"], late["error"], late["delay_ms"]) == ("retrying", ERROR, 1_500)
    room.clock.advance(1_000)
    room.propose(commands.due(room.pid()))
    room.claim("1")
    started = room.steps()[-1]
    assert (started["by"], started["error"], started["delay_ms"]) == ("n1", None, None)
    room.propose(room.fail_op("1", ["failed"]))
    assert [(step["name"], step["error"]) for step in room.steps()] == [("failed", ERROR)] * 2


def test_steps_that_share_an_entry_are_told_in_order() -> None:
    """A job that failed and starts again at once would seem to start before it failed."""
    room = Room()
    room.enqueue("1", max_lost=1)
    room.watch("1")
    room.claim("1")
    room.entry(room.fail_op("1", ["retry", 0]), room.claim_op("1"))
    room.entry(room.back_op("1"), room.claim_op("1"))
    room.entry(room.back_op("1", is_lost=True), room.claim_op("1"))
    room.entry(room.back_op("1", is_lost=True))
    starts = ["started", "retrying", "started", "handed_back", "started", "lost", "started"]
    assert room.names() == ["queued", *starts, "lost", "failed"]


def test_a_cancelled_job_ends() -> None:
    """Someone would watch a job for ever that will not run."""
    room = Room()
    for job_id in "12":
        room.enqueue(job_id)
        room.watch(job_id)
    room.propose(commands.cancel(room.pid(), "1"))
    room.claim("2")
    room.propose(commands.cancel(room.pid(), "2", running=True))
    room.propose(room.fail_op("2", ["retry", 0]))
    assert room.names() == ["queued", "queued", "cancelled", "started", "cancelled"]
    room.watch("1")
    assert room.names() == ["cancelled"]


def test_who_saw_more_elsewhere_waits_for_this_node() -> None:
    """After the death of a node its watchers would be told the past as the present."""
    ahead, behind = Room(), Room()
    for room in (ahead, behind):
        room.enqueue("1")
    ahead.watch("1")
    ahead.claim("1")
    seen = ahead.steps()[-1]
    behind.watch("1", seen["index"])
    assert behind.told == []
    behind.claim("1")
    (present,) = behind.steps()
    assert (present["name"], present["index"], present["is_present"]) == ("started", 3, True)
    behind.propose(behind.complete_op("1"))
    assert behind.names() == ["succeeded"]
    assert [timer.is_cancelled for timer in behind.timers if timer.delay != BEAT_S] == [True]


def test_a_job_may_appear_a_moment_late_or_not_at_all() -> None:
    """On a node that is behind, a job just enqueued elsewhere would not exist."""
    room = Room()
    room.watch("1")
    room.watch("2")
    assert room.told == []
    room.enqueue("1")
    assert room.names() == ["queued"]
    next(timer for timer in room.timers if timer.delay != BEAT_S and not timer.is_cancelled).call()
    assert [type(told) for told in room.told] == [NoSuchJob]
    assert len(room.watchers) == 1


def test_watchers_are_told_now_and_then_that_somebody_is_there() -> None:
    """A node that hangs would be taken for a job that runs long; or timers would pile up."""
    room = Room()
    room.enqueue("1")
    room.watch("1")
    room.watch("2")
    beats = [timer for timer in room.timers if timer.delay == BEAT_S]
    assert len(beats) == 1
    room.told.clear()
    beats[0].call()
    assert room.told == [None, None]
    room.propose(commands.cancel(room.pid(), "1"))
    room.watchers.drop(next(iter(room.watchers._early)))
    [timer for timer in room.timers if timer.delay == BEAT_S][-1].call()
    assert len([timer for timer in room.timers if timer.delay == BEAT_S]) == 2
    room.enqueue("3")
    room.watch("3")
    assert len([timer for timer in room.timers if timer.delay == BEAT_S]) == 3


def test_a_dropped_watch_hears_nothing() -> None:
    """What is known of a client that left would be kept for ever."""
    room = Room()
    room.enqueue("1")
    watches = [room.watch("1"), room.watch("1"), room.watch("unknown")]
    room.told.clear()
    for watch in watches[1:] * 2:
        room.watchers.drop(watch)
    room.claim("1")
    assert room.names() == ["started"]
    room.watchers.drop(watches[0])
    room.propose(room.complete_op("1"))
    assert room.told == []
    assert len(room.watchers) == 0


def test_a_snapshot_that_replaces_the_machine_tells_the_present() -> None:
    """Steps of entries that this node never applied would hide where the job is now."""
    room, other = Room(), Room()
    for each in (room, other):
        for job_id in ("ended", "runs", "gone"):
            each.enqueue(job_id)
    for job_id in ("ended", "runs", "gone", "new", "unknown"):
        room.watch(job_id)
    other.enqueue("new")
    for job_id in ("ended", "runs", "gone"):
        other.claim(job_id)
    other.propose(other.complete_op("ended"))
    other.propose(other.complete_op("gone"))
    other.machine.forget(other.machine.jobs["gone"])
    room.told.clear()
    room.machine = other.machine
    room.watchers.machine_replaced()
    assert sorted(room.names()) == ["queued", "started", "succeeded", "succeeded"]
    assert len(room.watchers) == 3
