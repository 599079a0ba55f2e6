"""Those who wait for a job's end are told, once, by the log or by their own time limit."""

from __future__ import annotations

from collections.abc import Callable

from exkiq.clock import ManualClock
from exkiq.errors import NoSuchJob, ResultTooLarge
from exkiq.machine import Machine, Spec, commands
from exkiq.queues import LocalHouse
from exkiq.queues.waiters import Ending, Waiter, Waiters
from tests.aggregator.pretend import Pids
from tests.queues.timer import Timer


class Room:
    """A house, those who wait in it, and their timers."""

    def __init__(self) -> None:
        self.pid = Pids()
        self.house = LocalHouse(ManualClock())
        self.machine: Machine = self.house.machine
        self.timers: list[Timer] = []
        self.told: list[Ending] = []
        self.waiters = Waiters(lambda: self.machine, self._later)
        self.house.subscribe(self.waiters.applied)
        self.house.propose_nowait(commands.session_begin(self.pid(), "n1", "run", "a:1"))

    def _later(self, delay: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(delay, call))
        return self.timers[-1]

    def enqueue(self, job_id: str, retries: int = 5) -> None:
        spec = Spec("app:work", "default", retries=retries)
        self.house.propose_nowait(commands.enqueue(self.pid(), spec, [job_id], [b""]))

    def claim(self, job_id: str) -> int:
        self.house.propose_nowait(commands.claim(self.pid(), [("n1", 1, [job_id])]))
        return self.house.machine.jobs[job_id].fence

    def complete(self, job_id: str, value: bytes | tuple[str, str] | None = b"value") -> None:
        fence = self.claim(job_id)
        self.house.propose_nowait(commands.complete(self.pid(), 1, [job_id], [fence], [value]))

    def fail(self, job_id: str, decision: list[object]) -> None:
        failure = [job_id, self.claim(job_id), decision, ["ValueError", "no", "trace"], 5]
        self.house.propose_nowait(commands.fail(self.pid(), 1, [failure]))

    def wait(self, job_id: str, timeout: float | None = None) -> Waiter:
        return self.waiters.wait(job_id, timeout, lambda _, ending: self.told.append(ending))

    def active(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.is_cancelled]


def test_all_who_wait_are_told_when_the_job_ends() -> None:
    """A waiter would sleep through the end of its job, or keep its timer."""
    room = Room()
    room.enqueue("1")
    first, second = room.wait("1", 5.0), room.wait("1")
    assert [timer.delay for timer in room.timers] == [5.0]
    assert room.told == []
    room.complete("1")
    assert room.told == [["succeeded", b"value"]] * 2
    assert first.is_told
    assert second.is_told
    assert room.active() == []
    assert len(room.waiters) == 0
    room.wait("1")
    assert len(room.told) == 3


def test_each_way_to_end_has_its_answer() -> None:
    """A caller would take a failure for a success, or never hear of it."""
    room = Room()
    for job_id in "12345":
        room.enqueue(job_id)
        room.wait(job_id)
    room.complete("1", None)
    room.fail("2", ["failed"])
    room.house.propose_nowait(commands.cancel(room.pid(), "3"))
    room.complete("4", ("ResultTooLarge", "300 KiB"))
    room.fail("5", ["abandon"])
    error = room.told.pop(3)
    assert isinstance(error, ResultTooLarge)
    assert room.told == [
        ["succeeded", None],
        ["failed", ["ValueError", "no", "trace"], 1],
        ["cancelled"],
        ["failed", ["ValueError", "no", "trace"], 1],
    ]


def test_only_the_final_outcome_counts() -> None:
    """A first failure would be told as the end."""
    room = Room()
    room.enqueue("1")
    room.wait("1")
    room.fail("1", ["requeue"])
    room.fail("1", ["requeue"])
    assert room.told == []
    room.fail("1", ["failed"])
    assert room.told == [["failed", ["ValueError", "no", "trace"], 3]]


def test_time_runs_out() -> None:
    """A caller with a limit would wait on, or be told twice."""
    room = Room()
    room.enqueue("1")
    assert room.wait("1", 0).is_told
    assert room.told == [["pending"]]
    assert room.timers == []
    room.wait("1", 2.0)
    room.timers[0].call()
    room.complete("1")
    assert room.told == [["pending"]] * 2


def test_an_id_may_appear_a_moment_late() -> None:
    """On a node that is behind, a job just enqueued elsewhere would not exist."""
    room = Room()
    room.wait("1", 0)
    room.wait("1", 3.0)
    assert [timer.delay for timer in room.timers] == [0.5, 0.5]
    room.enqueue("1")
    assert room.told == [["pending"]]
    assert [timer.delay for timer in room.active()] == [3.0]
    room.complete("1")
    assert room.told == [["pending"], ["succeeded", b"value"]]


def test_an_id_that_does_not_appear_is_no_job() -> None:
    """A caller with a wrong id would wait for ever."""
    room = Room()
    room.wait("nobody")
    room.timers[0].call()
    assert [type(ending) for ending in room.told] == [NoSuchJob]
    assert len(room.waiters) == 0


def test_a_job_whose_record_is_gone_is_told_at_once() -> None:
    """A caller who comes late would wait half a second for what cannot come."""
    room = Room()
    room.enqueue("failed")
    room.fail("failed", ["failed"])
    room.house.propose_nowait(commands.delete(room.pid()))
    room.wait("failed")
    assert [type(ending) for ending in room.told] == [NoSuchJob]
    assert room.timers == []


def test_a_dropped_waiter_hears_nothing() -> None:
    """What is known of a client that left would be kept for ever."""
    room = Room()
    room.enqueue("1")
    waiters = [room.wait("1", 5.0), room.wait("unknown", 5.0)]
    for waiter in waiters * 2:
        room.waiters.drop(waiter)
    room.complete("1")
    assert room.told == []
    assert room.active() == []
    assert len(room.waiters) == 0


def test_a_job_that_is_forgotten_in_the_entry_that_ends_it() -> None:
    """Where thousands end at once, those who wait for the first of them would be told nothing."""
    room = Room()
    names = [f"job-{number}" for number in range(1_500)]
    spec = Spec("app:work", "default")
    for at in (0, 750):
        ids = names[at : at + 750]
        room.house.propose_nowait(commands.enqueue(room.pid(), spec, ids, [b""] * 750))
    room.house.propose_nowait(commands.claim(room.pid(), [("n1", 1, names)]))
    room.wait(names[0])
    fence = room.machine.jobs[names[0]].fence
    room.house.propose_nowait(commands.complete(room.pid(), 1, names, [fence] * 1_500))
    assert names[0] not in room.machine.jobs
    assert room.told == [["succeeded", None]]


def test_a_snapshot_that_replaces_the_machine_wakes_everyone() -> None:
    """A job that ended in entries this node never applied would be waited for without end."""
    room, other = Room(), Room()
    for each in (room, other):
        each.enqueue("ended")
        each.enqueue("waits")
    for job_id in ("ended", "waits", "new", "unknown"):
        room.wait(job_id, 9.0)
    other.enqueue("new")
    other.complete("ended")
    other.complete("new")
    room.machine = other.house.machine
    room.waiters.machine_replaced()
    assert sorted(map(str, room.told)) == ["['succeeded', b'value']"] * 2
    assert [timer.delay for timer in room.active()] == [9.0, 0.5]  # as they were
    assert len(room.waiters) == 2


def test_a_waiter_that_waits_again_is_not_lost() -> None:
    """Asking anew from within the answer would end up between two lists."""
    room = Room()
    room.enqueue("1")
    endings: list[Ending] = []

    def again(_: Waiter, ending: Ending) -> None:
        endings.append(ending)
        if len(endings) < 3:
            room.waiters.wait("1", None, again)

    room.waiters.wait("1", None, again)
    room.complete("1")
    assert endings == [["succeeded", b"value"]] * 3


def test_a_step_that_has_not_its_turn_is_known_and_told_when_it_ends() -> None:
    """Who waits for it would be told after half a second that no such job exists."""
    room = Room()
    spec = Spec("app:Cart", "default", retries=0)
    room.house.propose_nowait(commands.session_start(room.pid(), spec, "cart", b""))
    room.house.propose_nowait(commands.session_post(room.pid(), "cart", "update", b""))
    (first, second) = room.machine.session_steps
    room.wait(second)
    room.waiters.machine_replaced()
    assert (room.told, room.timers) == ([], [])
    room.complete(first, b"state")
    assert room.told == []
    room.complete(second)
    assert room.told == [["succeeded", b"value"]]
