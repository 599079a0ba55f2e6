"""Which waiting job goes to which node, for one log entry.

Jobs come in the machine's hand-out order within a queue, over the queues by weight, over the
nodes by the dispatcher. Where all queues that have jobs are served by the same nodes, which is
how nearly every cluster is set up, the order of the jobs does not depend on the nodes, and the
whole lot is dealt at once. Else one job after the other looks for its node.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from operator import attrgetter

from exkiq.aggregator.demand import NodeClaim, Room
from exkiq.aggregator.fairness import Fairness
from exkiq.aggregator.riders import Rider, find_riders
from exkiq.aggregator.seating import Seating
from exkiq.dispatchers import Offer
from exkiq.machine import Machine, Record

CLAIMS_MAX = 2_000
"""Jobs claimed by one entry: about 5 ms of apply; the next entry goes on."""

_id_of = attrgetter("id")


@dataclass(slots=True)
class Line:
    """A queue that has jobs, and the nodes with room that serve it."""

    nodes: list[str]
    weight: int
    ids: Iterator[str]


def plan(
    machine: Machine,
    ops: Sequence[bytes],
    now_ms: int,
    rooms: Sequence[Room],
    seating: Seating,
    fairness: Fairness,
) -> list[NodeClaim]:
    """Choose jobs for the free slots of `rooms`; `ops` are the entry they will ride in.

    Shapes: one NodeClaim for each node that gets jobs, at most CLAIMS_MAX jobs in all.
    """
    rooms_of = {room.node: room for room in rooms if room.free}
    lines = _lines(machine, ops, now_ms, rooms_of) if rooms_of else {}
    if not lines:
        return []
    seating.settle(rooms)
    nodes = next(iter(lines.values())).nodes
    if seating.is_dealer and all(line.nodes == nodes for line in lines.values()):
        free = sum(rooms_of[node].free for node in nodes)
        shares = _dealt(lines, frozenset(nodes), min(free, CLAIMS_MAX), seating, fairness)
    else:
        shares = _placed(lines, seating, fairness)
    return [NodeClaim(node, rooms_of[node].session, ids) for node, ids in shares.items()]


def has_claims(machine: Machine, rooms: Sequence[Room]) -> bool:
    """Is there a job that waits and a node with room for it?"""
    queues = {queue for room in rooms if room.free for queue in room.queues}
    return any(machine.waiting_count(queue) for queue in queues)


def _lines(
    machine: Machine, ops: Sequence[bytes], now_ms: int, rooms: Mapping[str, Room]
) -> dict[str, Line]:
    """The queues of these rooms that have jobs, waiting or coming with `ops`."""
    served = {queue for room in rooms.values() for queue in room.queues}
    served = {queue for queue in served if _is_open(machine, queue)}
    waiting = {queue: machine.waiting_count(queue) for queue in served}
    # With jobs enough for every slot the new ones are not even looked at: they would not be
    # reached, or by their priority one entry sooner at most.
    is_short = sum(waiting.values()) < sum(room.free for room in rooms.values())
    riders = find_riders(ops, machine, now_ms) if is_short and ops else {}
    return {
        queue: _line(machine, queue, rooms, riders.get(queue, []))
        for queue in sorted(served)
        if waiting[queue] or queue in riders
    }


def _line(machine: Machine, queue: str, rooms: Mapping[str, Room], riders: list[Rider]) -> Line:
    weights = {node: room.queues[queue] for node, room in rooms.items() if queue in room.queues}
    return Line(list(weights), max(weights.values()), _in_order(machine, queue, riders))


def _is_open(machine: Machine, queue: str) -> bool:
    state = machine.queues.get(queue)
    return state is None or not state.paused


def _in_order(machine: Machine, queue: str, riders: list[Rider]) -> Iterator[str]:
    """Ids of what waits and of what comes now, in hand-out order."""
    if not riders:
        return map(_id_of, machine.waiting(queue))
    riders = sorted(riders, key=_rider_place)
    if not machine.waiting_count(queue):
        return map(_id_of, riders)
    waiting: Iterator[Record | Rider] = iter(machine.waiting(queue))
    return map(_id_of, merge(waiting, riders, key=_place))  # equal priority: the older first


def _rider_place(rider: Rider) -> int:
    return -rider.priority


def _place(job: Record | Rider) -> int:
    return -(job.priority if isinstance(job, Rider) else job.spec.priority)


def _dealt(
    lines: dict[str, Line], nodes: Container[str], free: int, seating: Seating, fairness: Fairness
) -> dict[str, list[str]]:
    """All at once: the jobs in order, cut into slices over the nodes."""
    sources = {queue: line.ids for queue, line in lines.items()}
    weights = {queue: line.weight for queue, line in lines.items()}
    only = next(iter(sources.values())) if len(sources) == 1 else None
    ids = list(islice(only or fairness.turns(sources, weights), free))
    shares: dict[str, list[str]] = {}
    for node, part in seating.deal(len(ids), nodes):
        shares.setdefault(node, []).extend(ids[part])
    return shares


def _placed(lines: dict[str, Line], seating: Seating, fairness: Fairness) -> dict[str, list[str]]:
    """One by one, each job looking for its node."""
    sources = {queue: _places(queue, line, seating) for queue, line in lines.items()}
    weights = {queue: line.weight for queue, line in lines.items()}
    shares: dict[str, list[str]] = {}
    for node, job_id in islice(fairness.turns(sources, weights), CLAIMS_MAX):
        shares.setdefault(node, []).append(job_id)
    return shares


def _places(queue: str, line: Line, seating: Seating) -> Iterator[tuple[str, str]]:
    """Node and job, until a job finds no node: those behind it do not overtake it."""
    for job_id in line.ids:
        node = seating.check_out(Offer(job_id, queue, line.nodes))
        if node is None:
            return
        yield node, job_id
