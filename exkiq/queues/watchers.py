"""Those who watch a job: told each of its steps, as the log makes them, up to the last."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from exkiq.errors import ExkiqError, NoSuchJob
from exkiq.machine import Applied, Machine, Record, State
from exkiq.machine.transitions import ENDED
from exkiq.queues.views import Map, attempt_of, last_error_of
from exkiq.queues.waiters import APPEAR_S, CallLater, Timer

BEAT_S = 5.0
"""How often each is told that it is still served: then it looks for another node if that one
falls silent."""

PRESENT = {State.RUNNING: "started", State.RETRY: "retrying"}
"""What the present state is called as a step, where that is not its own name."""

Told: TypeAlias = "Map | ExkiqError | None"


class Watch:
    """One who watches one job; `seen` is the entry of the last step that it knows of.

    `tell` gets each step, None as a beat, and in the end (with True) the last step or an error.
    """

    __slots__ = ("is_over", "job_id", "seen", "tell", "timer")

    def __init__(self, job_id: str, seen: int, tell: Callable[[Watch, Told, bool], None]) -> None:
        self.job_id = job_id
        self.seen = seen
        self.tell = tell
        self.is_over = False
        self.timer: Timer | None = None


class Watchers:
    """All who watch on this node.

    Duties: 1 say the present state first, once this node has applied what the watcher has seen
    elsewhere; 2 then say each step, in order; 3 end with the job; 4 beat.

    A step is a map: its name, the index of its entry, where the job stands after it, and
    `is_present` for a state that is said and not a step that is made.
    """

    def __init__(self, machine: Callable[[], Machine], call_later: CallLater) -> None:
        self._machine = machine
        self._call_later = call_later
        self._watching: dict[str, list[Watch]] = {}
        self._early: dict[Watch, None] = {}
        self._beat: Timer | None = None

    def __len__(self) -> int:
        return len(self._early) + sum(map(len, self._watching.values()))

    def watch(self, job_id: str, seen: int, tell: Callable[[Watch, Told, bool], None]) -> Watch:
        """Have `tell` called with the steps; with the first before this returns, if it is there."""
        watch = Watch(job_id, seen, tell)
        if self._is_early(watch):
            self._early[watch] = None
            watch.timer = self._call_later(APPEAR_S, lambda: self._begin(watch))
        else:
            self._begin(watch)
        if self._beat is None and not watch.is_over:
            self._beat = self._call_later(BEAT_S, self._tell_all)
        return watch

    def drop(self, watch: Watch) -> None:
        """It is not to be told any more; harmless when it is over."""
        watch.is_over = True
        self._early.pop(watch, None)
        _stop(watch)
        watches = self._watching.get(watch.job_id, [])
        if watch in watches:
            watches.remove(watch)
            if not watches:
                del self._watching[watch.job_id]

    def applied(self, applied: Applied) -> None:
        """An entry was applied: tell its steps to those who watch these jobs."""
        if self._watching:
            self._tell_steps(applied)
        if self._early:
            for watch in [watch for watch in self._early if not self._is_early(watch)]:
                self._begin(watch)

    def machine_replaced(self) -> None:
        """A snapshot took the machine's place: the steps until then were never applied here."""
        watches = [watch for each in self._watching.values() for watch in each]
        watches += [watch for watch in self._early if not self._is_early(watch)]
        for watch in watches:
            self._begin(watch)

    def _tell_steps(self, applied: Applied) -> None:
        # In the order in which one entry can hold them: claims are the last of its operations.
        self._tell_each(applied.retried, "retrying")
        self._tell_each(applied.returned, "handed_back")
        self._tell_each(applied.lost, "lost")
        self._tell_each(applied.moved, "moved")
        for claimed in applied.claimed:
            self._tell_each(claimed.records, "started")
        for record in applied.ended:
            if record.id in self._watching:
                self._tell_end(record)

    def _tell_each(self, records: Iterable[Record], name: str) -> None:
        watching, index = self._watching, self._machine().index
        for record in records:
            for watch in watching.get(record.id, ()):
                watch.tell(watch, step_map(record, name, index), False)

    def _tell_end(self, record: Record) -> None:
        # Its record tells, and not the machine, which may have dropped it already.
        last = step_map(record, record.state.value, self._machine().index)
        for watch in self._watching.pop(record.id, []):
            self._end(watch, last)

    def _begin(self, watch: Watch) -> None:
        """Say the present state; from now on the steps follow."""
        self.drop(watch)
        watch.is_over = False
        machine = self._machine()
        record = machine.jobs.get(watch.job_id)
        if record is None:
            self._end(watch, _gone(machine, watch.job_id))
            return
        name = PRESENT.get(record.state, record.state.value)
        present = step_map(record, name, machine.index) | {"is_present": True}
        if record.state in ENDED:
            self._end(watch, present)
            return
        self._watching.setdefault(watch.job_id, []).append(watch)
        watch.tell(watch, present, False)

    def _end(self, watch: Watch, last: Told) -> None:
        watch.is_over = True
        watch.tell(watch, last, True)

    def _is_early(self, watch: Watch) -> bool:
        """Whether this node is behind the one that told the watcher of the job."""
        machine = self._machine()
        is_known = watch.job_id in machine.jobs or machine.tombstone(watch.job_id) is not None
        return machine.index < watch.seen or not is_known

    def _tell_all(self) -> None:
        self._beat = None
        watches = [watch for each in self._watching.values() for watch in each]
        for watch in (*watches, *self._early):
            watch.tell(watch, None, False)
        if len(self):
            self._beat = self._call_later(BEAT_S, self._tell_all)


def step_map(record: Record, name: str, index: int) -> Map:
    """One step as a map. `delay_ms` is from the failure until the next attempt."""
    error = last_error_of(record)
    is_retry = name == "retrying" and bool(record.errors)
    return {
        "name": name,
        "index": index,
        "is_present": False,
        "state": record.state.value,
        "queue": record.spec.queue,
        "attempt": attempt_of(record),
        "lost": record.lost,
        "fence": record.fence,
        "by": record.node,
        "error": error if name in ("retrying", State.FAILED) else None,
        "delay_ms": max(0, record.run_at_ms - record.errors[-1][3]) if is_retry else None,
    }


def _gone(machine: Machine, job_id: str) -> Told:
    """What can be said of a job whose record is gone."""
    tombstone = machine.tombstone(job_id)
    if tombstone is None:
        return NoSuchJob(f"no job has the id {job_id!r}, or its record is gone")
    return {
        "name": tombstone.state.value,
        "index": machine.index,
        "is_present": True,
        "state": tombstone.state.value,
        "queue": "",
        "attempt": 1,
        "lost": 0,
        "fence": 0,
        "by": None,
        "error": None,
        "delay_ms": None,
    }


def _stop(watch: Watch) -> None:
    if watch.timer is not None:
        watch.timer.cancel()
        watch.timer = None
