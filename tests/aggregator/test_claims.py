"""Which job goes to which node: order, bounds, and what a job costs."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exkiq.aggregator import claims
from exkiq.aggregator.claims import CLAIMS_MAX, has_claims, plan
from exkiq.aggregator.demand import NodeClaim, Room
from exkiq.aggregator.fairness import Fairness
from exkiq.aggregator.riders import RIDERS_MAX, find_riders
from exkiq.aggregator.seating import Seatings
from exkiq.clock import ManualClock
from exkiq.dispatchers import LRUNode
from exkiq.machine import Machine, Spec, commands
from exkiq.machine.commands import encode_entry
from tests.aggregator.pretend import Pids

NOW_MS = ManualClock().now_ms()
PID = Pids()


def enqueue(ids: list[str], queue: str = "default", priority: int = 0, **options: int) -> bytes:
    spec = Spec("app:work", queue, priority)
    return commands.enqueue(PID(), spec, ids, [b""] * len(ids), **options)  # type: ignore[arg-type]


def machine_with(*ops: bytes) -> Machine:
    machine = Machine()
    machine.apply(1, encode_entry(NOW_MS, 1, ops))
    return machine


def room(node: str, free: int, queues: str = "default") -> Room:
    return Room(node, 1, free, 0, dict.fromkeys(queues.split(), 1))


def planned(machine: Machine, rooms: list[Room], *ops: bytes) -> list[NodeClaim]:
    return plan(machine, ops, NOW_MS, rooms, seatings(), Fairness()).claims


def seatings() -> Seatings:
    return Seatings(LRUNode, {}, ManualClock())


def test_jobs_are_dealt_in_order_over_the_nodes() -> None:
    """Jobs would run out of order, or one node would get the first lot."""
    machine = machine_with(enqueue(list("123456789")))
    assert planned(machine, [room("a", 2), room("b", 2), room("c", 3)]) == [
        NodeClaim("a", 1, ["1", "4"]),
        NodeClaim("b", 1, ["2", "5"]),
        NodeClaim("c", 1, ["3", "6", "7"]),
    ]


def test_nothing_to_do_is_no_claim() -> None:
    """An entry would be made for nothing, again and again."""
    machine = machine_with(enqueue(["1"]))
    assert planned(machine, []) == []
    assert planned(machine, [room("a", 0)]) == []
    assert planned(machine, [room("a", 5, "other")]) == []
    assert planned(Machine(), [room("a", 5)]) == []
    assert not has_claims(machine, [room("a", 0), room("b", 5, "other")], seatings())
    assert has_claims(machine, [room("a", 1)], seatings())


def test_one_entry_claims_no_more_than_its_bound() -> None:
    """A turn of the leader would grow with the backlog."""
    machine = machine_with(
        *(enqueue([f"{lot}-{job}" for job in range(1_000)]) for lot in range(3)),
        *(enqueue([f"{lot}-b-{job}" for job in range(1_000)], "b") for lot in range(3)),
    )
    same = [room(f"n{number}", 500, "default b") for number in range(10)]
    other = [room(f"n{number}", 500, "default" if number % 2 else "b") for number in range(10)]
    for rooms in (same, other):
        assert sum(len(claim.ids) for claim in planned(machine, rooms)) == CLAIMS_MAX


def test_a_node_without_jobs_for_it_does_not_eat_credit() -> None:
    """Room on a node that serves something else would count for the queue that has jobs."""
    machine = machine_with(enqueue(list("123")), enqueue(list("xy"), "b"))
    rooms = [room("a", 2, "default"), room("z", 50, "idle"), room("b", 1, "b")]
    assert planned(machine, rooms) == [
        NodeClaim("b", 1, ["x"]),
        NodeClaim("a", 1, ["1", "2"]),
    ]


def test_what_is_not_handed_out_is_not_paid_for() -> None:
    """Room on nodes that serve something else would cost a queue its turns: here all of them."""
    machine = machine_with(
        *(enqueue([f"{queue}{number:02}" for number in range(60)], queue) for queue in "ab")
    )
    rooms = [room("n", 1, "a b"), room("idle", 39, "other")]
    seated, fairness = seatings(), Fairness()
    plans = [plan(machine, [], NOW_MS, rooms, seated, fairness).claims for _ in range(20)]
    queues = [claimed[0].ids[0][0] for claimed in plans]
    assert queues.count("a") == queues.count("b") == 10


def test_urgent_riders_go_first() -> None:
    """Of the jobs of one entry the urgent one would start last."""
    ops = [enqueue(["low"]), enqueue(["high"], priority=3), enqueue(["low too"])]
    assert planned(Machine(), [room("a", 2)], *ops) == [NodeClaim("a", 1, ["high", "low"])]


def test_an_id_that_is_only_a_tombstone_does_not_ride() -> None:
    """A claim of a job that will not be made would hold a slot for an entry."""
    failure = ["gone", 3, ["failed"], ["E", "m", "t"], 1]
    machine = machine_with(commands.session_begin(PID(), "n", "run", "a:1"), enqueue(["gone"]))
    machine.apply(3, encode_entry(NOW_MS, 1, [commands.claim(PID(), [("n", 1, ["gone"])])]))
    ops = [commands.fail(PID(), 1, [failure]), commands.delete(PID())]
    machine.apply(4, encode_entry(NOW_MS, 1, ops))
    assert "gone" not in machine.jobs
    assert planned(machine, [room("n", 2)], enqueue(["gone", "new"])) == [
        NodeClaim("n", 1, ["new"])
    ]


def test_riders_that_are_not_due_taken_or_odd_stay_behind() -> None:
    """A claim would name a job that is not there, or an odd operation would stop the leader."""
    machine = machine_with(enqueue(["taken"]))
    ops = [
        enqueue(["later"], delay_ms=1),
        enqueue(["at"], run_at_ms=NOW_MS + 1),
        enqueue(["past"], run_at_ms=NOW_MS - 1),
        enqueue(["taken", "new"]),
        enqueue(["new", "unique"], is_unique=True),
        enqueue(["alone"], is_unique=True),
        commands.due(PID()),
        b"\x98\x01",
        b"\x01",
        b"",
        enqueue([1, 2]),  # type: ignore[list-item]
        commands._pack(1, PID(), ["task"], [], [], 0, 0, 0),
        commands._pack(1, PID(), None, None, None, 0, 0, 0),
    ]
    found = find_riders(ops, machine, NOW_MS)
    assert {queue: [rider.id for rider in riders] for queue, riders in found.items()} == {
        "default": ["past", "new", "alone"]
    }


def test_no_more_riders_are_looked_at_than_can_ride() -> None:
    """A large entry would be decoded twice for nothing."""
    ops = [enqueue([f"{lot}-{job}" for job in range(1_000)]) for lot in range(5)]
    assert len(find_riders(ops, Machine(), NOW_MS)["default"]) == RIDERS_MAX


def test_riders_of_a_paused_queue_stay() -> None:
    """A paused queue would start what comes new."""
    machine = machine_with(commands.pause(PID(), "default"))
    assert planned(machine, [room("a", 5)], enqueue(["1"])) == []


def test_a_backlog_that_fills_every_slot_is_not_decoded_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under load each enqueue would be decoded a second time, for nothing."""
    machine = machine_with(enqueue(list("123")))

    def never(*_: object) -> dict[str, list[object]]:
        raise AssertionError("looked at the new jobs")

    monkeypatch.setattr(claims, "find_riders", never)
    assert planned(machine, [room("a", 3)], enqueue(["new"])) == [NodeClaim("a", 1, list("123"))]


queue_names = st.sampled_from("ABC")
backlogs = st.dictionaries(queue_names, st.integers(0, 12))
nodes = st.dictionaries(
    st.sampled_from("nopq"), st.tuples(st.integers(0, 6), st.sets(queue_names, min_size=1))
)


@given(backlogs, backlogs, nodes)
def test_every_plan_keeps_the_rules(
    waiting: dict[str, int], coming: dict[str, int], nodes: dict[str, tuple[int, set[str]]]
) -> None:
    """Some mixture of queues and nodes would break order, room, service, or leave work lying."""
    ids = {queue: [f"{queue}{job:02}" for job in range(count)] for queue, count in waiting.items()}
    machine = machine_with(*(enqueue(names, queue) for queue, names in ids.items() if names))
    new = {queue: [f"{queue}9{job:02}" for job in range(n)] for queue, n in coming.items()}
    ops = [enqueue(names, queue) for queue, names in new.items() if names]
    rooms = [room(node, free, " ".join(serves)) for node, (free, serves) in nodes.items()]
    claimed = planned(machine, rooms, *ops)
    given_out = [(claim.node, job_id) for claim in claimed for job_id in claim.ids]
    for queue in "ABC":
        all_ids = ids.get(queue, []) + new.get(queue, [])
        handed = sorted(job_id for _, job_id in given_out if job_id[0] == queue)
        assert handed == sorted(all_ids)[: len(handed)]  # a FIFO prefix: old before new
        left_room = [
            node
            for node, (free, serves) in nodes.items()
            if queue in serves and free > sum(at == node for at, _ in given_out)
        ]
        has_waiting_left = len(handed) < len(ids.get(queue, []))
        assert not (has_waiting_left and left_room)
    for node, (free, serves) in nodes.items():
        mine = [job_id for at, job_id in given_out if at == node]
        assert len(mine) <= free
        assert {job_id[0] for job_id in mine} <= serves


def _all_of(machine: Machine, rooms: list[Room]) -> Iterator[tuple[float, int]]:
    """Plan and apply until nothing waits; seconds and jobs of each plan."""
    seated, fairness = seatings(), Fairness()
    while True:
        started = perf_counter()
        claimed = plan(machine, [], NOW_MS, rooms, seated, fairness).claims
        took = perf_counter() - started
        if not claimed:
            return
        yield took, sum(len(claim.ids) for claim in claimed)
        machine.apply(machine.index + 1, encode_entry(NOW_MS, 1, [commands.claim(PID(), claimed)]))


@pytest.mark.parametrize("queues", ["default", "default b c d"])
def test_what_it_costs_to_plan_a_hundred_thousand_jobs(queues: str) -> None:
    """Not a bound, a figure: run with -s to see it."""
    names = queues.split()
    machine = machine_with(
        *(
            enqueue([f"{lot:03}-{job:03}" for job in range(1_000)], names[lot % len(names)])
            for lot in range(100)
        ),
        *(commands.session_begin(PID(), f"n{number}", "run", "a:1") for number in range(5)),
    )
    rooms = [
        Room(node, session.id, 400, 0, dict.fromkeys(names, 1))
        for node, session in machine.sessions.items()
    ]
    plans = list(_all_of(machine, rooms))
    jobs = sum(count for _, count in plans)
    assert jobs == 100_000
    took = sum(seconds for seconds, _ in plans)
    print(f"\n{queues!r}: {took / jobs * 1e6:.2f} us a job in {len(plans)} plans")
