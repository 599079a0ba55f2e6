"""One job after the other looks for its node, where the quick way does not do.

The slots of a pool serve its queue alone, and no other slot of that node does. A task that some
nodes cannot run goes to the others. While none of the others has room its jobs are passed over,
and those behind them overtake; where no node at all can run it they are to be put aside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exkiq.aggregator.demand import Room
from exkiq.aggregator.riders import Rider
from exkiq.aggregator.seating import Seating, Seatings
from exkiq.dispatchers import Offer
from exkiq.machine import Machine, Record
from exkiq.wire.messages import COMMON

PASSED_MAX = 2_000
"""Jobs of one queue that are passed over by one plan: about a millisecond."""

ASIDE_MAX = 1_000
"""Jobs of one task put aside by one entry: about 2 ms of apply; the next entry goes on."""


@dataclass(slots=True)
class Line:
    """A queue that has jobs, and the nodes with free slots that serve it."""

    nodes: list[str]
    weight: int
    jobs: Iterator[Record | Rider]
    seating: Seating


class Matching:
    """One plan. `unknown` has, by task, the ids of jobs that no node can run."""

    def __init__(self, machine: Machine, rooms: Sequence[Room], seatings: Seatings) -> None:
        self.unknown: dict[str, list[str]] = {}
        self._rooms = rooms
        self._seatings = seatings
        self._left = {  # a list of one number, which several queues may share
            (room.node, group): [slots]
            for room in rooms
            for group, slots in [(COMMON, room.free), *room.pools.items()]
        }
        self._unable = _unable(rooms)
        # Of a node that has not said yet what it can run the best is hoped for.
        self._is_all_known = machine.sessions.keys() <= {room.node for room in rooms}

    def places(self, queue: str, line: Line) -> Iterator[tuple[str, str]]:
        """Node and job, until a job finds no slot: those behind it do not overtake it."""
        left = self._left_for(queue, line)
        unable, check_out = self._unable, line.seating.check_out
        passed = 0
        for job in line.jobs:
            nodes = [node for node, slots in left.items() if slots[0]]
            if not nodes or passed >= PASSED_MAX:
                return
            without = unable.get(_task_of(job)) if unable else None
            able = [node for node in nodes if node not in without] if without else nodes
            node = check_out(Offer(job.id, queue, able)) if able else None
            if node is not None:
                left[node][0] -= 1
                self._seatings.taken(node, line.seating)
                yield node, job.id
            elif not without:
                return
            else:
                passed += 1
                self._put_aside(job, queue, without)

    def _left_for(self, queue: str, line: Line) -> dict[str, list[int]]:
        """How many of its slots each node has left for this queue."""
        left = self._left
        return {node: left.get((node, queue)) or left[node, COMMON] for node in line.nodes}

    def _put_aside(self, job: Record | Rider, queue: str, without: set[str]) -> None:
        if isinstance(job, Rider) or not self._is_all_known:
            return
        ids = self.unknown.get(job.spec.task, [])
        serving = {room.node for room in self._rooms if queue in room.queues}
        if serving <= without and len(ids) < ASIDE_MAX:
            self.unknown.setdefault(job.spec.task, ids).append(job.id)


def _unable(rooms: Sequence[Room]) -> dict[str, set[str]]:
    """By task, the nodes that cannot run it."""
    nodes: dict[str, set[str]] = {}
    for room in rooms:
        for task in room.unable:
            nodes.setdefault(task, set()).add(room.node)
    return nodes


def _task_of(job: Record | Rider) -> str:
    return job.task if isinstance(job, Rider) else job.spec.task
