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
        if self._is_known(job_id):
            self._look(waiter)
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
            self._look_again(self._unknown, self._is_known)
        if self._waiting:
            for record in applied.ended:
                # Its record tells, and not the machine, which may have dropped it already.
                for waiter in self._waiting.pop(record.id, ()):
                    _stop(waiter)
                    _tell(waiter, outcome_of(record) or PENDING)

    def machine_replaced(self) -> None:
        """A snapshot took the machine's place: what ended meanwhile was never applied here."""
        self._look_again(self._unknown, self._is_known)
        self._look_again(self._waiting, self._is_ended)

    def _is_known(self, job_id: str) -> bool:
        machine = self._machine()
        if job_id in machine.session_steps:
            return True  # though it is no job before it has its turn
        return job_id in machine.jobs or machine.tombstone(job_id) is not None

    def _is_ended(self, job_id: str) -> bool:
        return _ending(self._machine(), job_id) is not None

    def _look_again(
        self, place: dict[str, list[Waiter]], is_changed: Callable[[str], bool]
    ) -> None:
        for job_id in [job_id for job_id in place if is_changed(job_id)]:
            for waiter in place.pop(job_id, []):
                _stop(waiter)
                self._look(waiter)

    def _look(self, waiter: Waiter) -> None:
        """Tell the outcome, or wait for it from now on."""
        outcome = _ending(self._machine(), waiter.job_id)
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


def _ending(machine: Machine, job_id: str) -> Ending | None:
    """How a job ended, None while it has not."""
    record = machine.jobs.get(job_id)
    if record is not None:
        return outcome_of(record)
    return None if job_id in machine.session_steps else _gone(machine, job_id)


def _gone(machine: Machine, job_id: str) -> Ending:
    """What can be said of a job whose record is gone."""
    tombstone = machine.tombstone(job_id)
    if tombstone is not None and tombstone.state is State.CANCELLED:
        return ["cancelled"]
    return NoSuchJob(f"no job has the id {job_id!r}, or its record is gone")
