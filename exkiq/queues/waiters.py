"""Those who wait for a job's final outcome, told by the log and never by polling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from exkiq.errors import ExkiqError, NoSuchJob
from exkiq.machine import Applied, Machine, State
from exkiq.queues.views import outcome_of
from exkiq.wire import Value

Ending: TypeAlias = "list[Value] | ExkiqError"
Tell: TypeAlias = Callable[["Waiter", Ending], None]

APPEAR_S = 0.5
"""How long an unknown id may take to appear: a follower is behind the node that was asked to
enqueue it. A waiter's own limit counts only from then on."""

PENDING: list[Value] = ["pending"]


class Timer(Protocol):
    """What `call_later` gives."""

    def cancel(self) -> None:
        """Do not call."""


CallLater: TypeAlias = Callable[[float, Callable[[], None]], Timer]


class Waiter:
    """One who waits for one job; `timeout` in seconds, None for ever."""

    __slots__ = ("is_told", "job_id", "tell", "timeout", "timer")

    def __init__(self, job_id: str, timeout: float | None, tell: Tell) -> None:
        self.job_id = job_id
        self.timeout = timeout
        self.tell = tell
        self.is_told = False
        self.timer: Timer | None = None


class Waiters:
    """All who wait on this node. Each is told exactly once, unless it was dropped.

    An answer is [state, ...] as in `outcome_of`, ["pending"] when time ran out, or the error.
    """

    def __init__(self, machine: Callable[[], Machine], call_later: CallLater) -> None:
        self._machine = machine
        self._call_later = call_later
        self._waiting: dict[str, list[Waiter]] = {}
        self._unknown: dict[str, list[Waiter]] = {}

    def __len__(self) -> int:
        places = (self._waiting, self._unknown)
        return sum(len(waiters) for place in places for waiters in place.values())

    def wait(self, job_id: str, timeout: float | None, tell: Tell) -> Waiter:
        """Have `tell` called with the outcome; before this returns, if it is there."""
        waiter = Waiter(job_id, timeout, tell)
        machine = self._machine()
        if job_id in machine.jobs:
            self._look(waiter)
        elif machine.tombstone(job_id) is not None:
            _tell(waiter, _gone(machine, job_id))
        else:
            self._unknown.setdefault(job_id, []).append(waiter)
            self._start(waiter, APPEAR_S, NoSuchJob(f"no job has the id {job_id!r}"))
        return waiter

    def drop(self, waiter: Waiter) -> None:
        """It is not to be told any more; harmless when it was."""
        for place in (self._waiting, self._unknown):
            waiters = place.get(waiter.job_id, [])
            if waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del place[waiter.job_id]
        _stop(waiter)

    def applied(self, applied: Applied) -> None:
        """An entry was applied: tell those whose job ended in it."""
        if self._unknown:
            jobs = self._machine().jobs
            self._look_again(self._unknown, [job_id for job_id in self._unknown if job_id in jobs])
        if self._waiting:
            waiting = self._waiting
            self._look_again(waiting, [job.id for job in applied.ended if job.id in waiting])

    def machine_replaced(self) -> None:
        """A snapshot took the machine's place: what ended meanwhile was never applied here."""
        self._look_again(self._unknown, list(self._unknown))
        self._look_again(self._waiting, list(self._waiting))

    def _look_again(self, place: dict[str, list[Waiter]], job_ids: list[str]) -> None:
        for job_id in job_ids:
            for waiter in place.pop(job_id, []):
                _stop(waiter)
                self._look(waiter)

    def _look(self, waiter: Waiter) -> None:
        """Tell the outcome, or wait for it from now on."""
        machine = self._machine()
        record = machine.jobs.get(waiter.job_id)
        outcome = _gone(machine, waiter.job_id) if record is None else outcome_of(record)
        if outcome is None and waiter.timeout != 0:
            self._waiting.setdefault(waiter.job_id, []).append(waiter)
            if waiter.timeout is not None:
                self._start(waiter, waiter.timeout, PENDING)
        else:
            _tell(waiter, PENDING if outcome is None else outcome)

    def _start(self, waiter: Waiter, after: float, answer: Ending) -> None:
        waiter.timer = self._call_later(after, lambda: self._out_of_time(waiter, answer))

    def _out_of_time(self, waiter: Waiter, answer: Ending) -> None:
        self.drop(waiter)
        _tell(waiter, answer)


def _tell(waiter: Waiter, ending: Ending) -> None:
    waiter.is_told = True
    waiter.tell(waiter, ending)


def _stop(waiter: Waiter) -> None:
    if waiter.timer is not None:
        waiter.timer.cancel()
        waiter.timer = None


def _gone(machine: Machine, job_id: str) -> Ending:
    """What can be said of a job whose record is gone."""
    tombstone = machine.tombstone(job_id)
    if tombstone is not None and tombstone.state is State.CANCELLED:
        return ["cancelled"]
    return NoSuchJob(f"no job has the id {job_id!r}, or its record is gone")
