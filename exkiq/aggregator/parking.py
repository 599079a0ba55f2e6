"""Jobs that no node can run are put aside, until a node comes that can."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from exkiq.aggregator.demand import Room
from exkiq.clock import Clock
from exkiq.machine import Machine
from exkiq.telemetry import log

RELEASE_MAX = 1_000
"""Jobs of one task that are released at a time: about 2 ms of apply."""

SPACING_S = 0.05
"""Between two releases of one task: who gets jobs first says then whether it can run them."""

LOOKED_MAX = 100
"""Tasks, and jobs of a task, that one look goes through."""

REMEMBERED_MAX = 10_000
"""Tasks remembered at most: names come from clients, and may be any."""


class Parking:
    """Warns of each task that no node can run, and says when its jobs may come back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._warned: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._looked = 0

    def put_aside(self, tasks: Iterable[str]) -> None:
        """Jobs of these are put aside: say so, once for each."""
        for task in tasks:
            if task not in self._warned:
                if len(self._warned) >= REMEMBERED_MAX:
                    self._warned.clear()
                self._warned.add(task)
                log.warning(
                    "no node can run task %r: its jobs wait for one that can; no APP has it, or"
                    " the init of its worker fails",
                    task,
                )

    def releases(self, machine: Machine, rooms: Sequence[Room]) -> list[str]:
        """The tasks whose jobs may come back now: a node with room can run them again."""
        if not machine.parked:
            self._not_before.clear()
            return []
        with_room = [room for room in rooms if room.total]
        if not with_room:
            return []
        now = self._clock.monotonic()
        return [
            task
            for task in self._some_of(machine)
            if self._not_before.get(task, now) <= now and _is_wanted(machine, task, with_room)
        ]

    def released(self, task: str) -> None:
        """That task's jobs are on their way."""
        if len(self._not_before) >= REMEMBERED_MAX:
            self._not_before.clear()
        self._not_before[task] = self._clock.monotonic() + SPACING_S

    def _some_of(self, machine: Machine) -> list[str]:
        """At most LOOKED_MAX tasks, others at the next look."""
        tasks = list(machine.parked)
        if len(tasks) <= LOOKED_MAX:
            return tasks
        start = self._looked % len(tasks)
        self._looked = start + LOOKED_MAX
        return [*tasks, *tasks][start : start + LOOKED_MAX]


def _is_wanted(machine: Machine, task: str, rooms: Sequence[Room]) -> bool:
    """Whether one of these can run it, and serves a queue in which it stands."""
    served = {queue for room in rooms if task not in room.unable for queue in room.served()}
    if not served:
        return False
    first = islice(machine.parked[task].values(), LOOKED_MAX)
    queues = {record.spec.queue for record in first} & served
    return any(not machine.queues[queue].paused for queue in queues)
