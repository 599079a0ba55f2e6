"""Which waiting job goes to which node, for one log entry.

Jobs come in the machine's hand-out order within a queue, over the queues by weight, over the
nodes by the dispatcher. Where all queues that have jobs are served by the same nodes, which is
how nearly every cluster is set up, the order of the jobs does not depend on the nodes, and the
whole lot is dealt at once. Else one job after the other looks for its node, see `matching`.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice, takewhile
from operator import attrgetter
from typing import NamedTuple

from exkiq.aggregator.demand import NodeClaim, Room
from exkiq.aggregator.fairness import Fairness
from exkiq.aggregator.matching import Line, Matching
from exkiq.aggregator.riders import Rider, find_riders
from exkiq.aggregator.seating import Seating, Seatings
from exkiq.machine import Machine, Record

CLAIMS_MAX = 2_000
"""Jobs claimed by one entry: about 5 ms of apply; the next entry goes on."""

_id_of = attrgetter("id")


class Plan(NamedTuple):
    """What one entry does with jobs that wait.

    Shapes: one claim for each node that gets jobs, at most CLAIMS_MAX jobs in all; `unknown`
            has the ids of jobs that no node can run, by task.
    """

    claims: list[NodeClaim]
    unknown: Mapping[str, list[str]]


_NOTHING = Plan([], {})


def plan(
    machine: Machine,
    ops: Sequence[bytes],
    now_ms: int,
    rooms: Sequence[Room],
    seatings: Seatings,
    fairness: Fairness,
    moves: Collection[tuple[str, str]] = (),
) -> Plan:
    """Choose jobs for the free slots of `rooms`; `ops` are the entry they will ride in, and
    `moves` the jobs that are to go to another queue in it: nobody is given those, nor what stands
    behind them, since the machine may have an answer to a move that came before."""
    rooms_of = {room.node: room for room in rooms if room.total}
    lines = _lines(machine, ops, now_ms, rooms_of, seatings) if rooms_of else {}
    if not lines:
        return _NOTHING
    if moves:
        for queue, line in lines.items():
            line.jobs = _before({job_id for job_id, to in moves if to != queue}, line.jobs)
    seatings.settle(rooms)
    nodes = next(iter(lines.values())).nodes
    seating = seatings.default
    unknown: Mapping[str, list[str]] = {}
    if (
        seating.is_dealer
        and all(line.nodes == nodes and line.seating is seating for line in lines.values())
        and not any(room.pools or room.unable for room in rooms_of.values())
    ):
        free = sum(rooms_of[node].free for node in nodes)
        shares = _dealt(lines, frozenset(nodes), min(free, CLAIMS_MAX), seating, fairness)
    else:
        matching = Matching(machine, rooms, seatings)
        shares, unknown = _placed(lines, matching, fairness), matching.unknown
    claims = [NodeClaim(node, rooms_of[node].session, ids) for node, ids in shares.items()]
    return Plan(claims, unknown)


def has_claims(machine: Machine, rooms: Sequence[Room], seatings: Seatings) -> bool:
    """Is there a job that waits and a node with room for it?"""
    queues = {queue for room in rooms for queue in room.served()}
    return any(
        machine.waiting_count(queue) and not seatings.of(queue).is_resting for queue in queues
    )


def _lines(
    machine: Machine,
    ops: Sequence[bytes],
    now_ms: int,
    rooms: Mapping[str, Room],
    seatings: Seatings,
) -> dict[str, Line]:
    """The queues of these rooms that have jobs, waiting or coming with `ops`."""
    served = {queue for room in rooms.values() for queue in room.served()}
    served = {queue for queue in served if _is_open(machine, queue)}
    if seatings.is_resting:
        served = {queue for queue in served if not seatings.of(queue).is_resting}
    waiting = {queue: machine.waiting_count(queue) for queue in served}
    # With jobs enough for every slot the new ones are not even looked at: they would not be
    # reached, or by their priority one entry sooner at most.
    is_short = sum(waiting.values()) < sum(room.total for room in rooms.values())
    riders = find_riders(ops, machine, now_ms) if is_short and ops else {}
    return {
        queue: _line(machine, queue, rooms, riders.get(queue, []), seatings.of(queue))
        for queue in sorted(served)
        if waiting[queue] or queue in riders
    }


def _line(
    machine: Machine,
    queue: str,
    rooms: Mapping[str, Room],
    riders: list[Rider],
    seating: Seating,
) -> Line:
    weights = {node: room.queues[queue] for node, room in rooms.items() if queue in room.queues}
    jobs = _in_order(machine, queue, riders)
    return Line(list(weights), max(weights.values()), jobs, seating)


def _is_open(machine: Machine, queue: str) -> bool:
    state = machine.queues.get(queue)
    return state is None or not state.paused


def _in_order(machine: Machine, queue: str, riders: list[Rider]) -> Iterator[Record | Rider]:
    """What waits and what comes now, in hand-out order."""
    if not riders:
        return machine.waiting(queue)
    riders = sorted(riders, key=_rider_place)
    if not machine.waiting_count(queue):
        return iter(riders)
    waiting: Iterator[Record | Rider] = iter(machine.waiting(queue))
    return merge(waiting, riders, key=_place)  # equal priority: the older first


def _before(moved: Collection[str], jobs: Iterator[Record | Rider]) -> Iterator[Record | Rider]:
    return takewhile(lambda job: job.id not in moved, jobs)


def _rider_place(rider: Rider) -> int:
    return -rider.priority


def _place(job: Record | Rider) -> int:
    return -(job.priority if isinstance(job, Rider) else job.spec.priority)


def _dealt(
    lines: dict[str, Line], nodes: Container[str], free: int, seating: Seating, fairness: Fairness
) -> dict[str, list[str]]:
    """All at once: the jobs in order, cut into slices over the nodes."""
    sources = {queue: map(_id_of, line.jobs) for queue, line in lines.items()}
    weights = {queue: line.weight for queue, line in lines.items()}
    only = next(iter(sources.values())) if len(sources) == 1 else None
    ids = list(islice(only or fairness.turns(sources, weights), free))
    shares: dict[str, list[str]] = {}
    for node, part in seating.deal(len(ids), nodes):
        shares.setdefault(node, []).extend(ids[part])
    return shares


def _placed(lines: dict[str, Line], matching: Matching, fairness: Fairness) -> dict[str, list[str]]:
    """One by one, each job looking for its node."""
    sources = {queue: matching.places(queue, line) for queue, line in lines.items()}
    weights = {queue: line.weight for queue, line in lines.items()}
    shares: dict[str, list[str]] = {}
    for node, job_id in islice(fairness.turns(sources, weights), CLAIMS_MAX):
        shares.setdefault(node, []).append(job_id)
    return shares
