"""One job after the other: pools, tasks that some nodes cannot run, dispatchers of queues."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exkiq.aggregator.claims import plan
from exkiq.aggregator.demand import Demand, Room
from exkiq.aggregator.fairness import Fairness
from exkiq.aggregator.seating import Seatings
from exkiq.clock import ManualClock
from exkiq.dispatchers import LRU, LRUNode
from exkiq.machine import Machine, Spec, check_invariants, commands
from exkiq.machine.commands import encode_entry
from tests.aggregator.pretend import Pids

NOW_MS = ManualClock().now_ms()
PID = Pids()
QUEUES = "ABC"
TASKS = "xy"


def machine_with(jobs: list[tuple[str, str]], nodes: list[str]) -> Machine:
    ops = [commands.session_begin(PID(), node, "run", "h:1") for node in nodes]
    for number, (queue, task) in enumerate(jobs):
        ops.append(commands.enqueue(PID(), Spec(task, queue), [f"{number:03}"], [b""]))
    machine = Machine()
    machine.apply(1, encode_entry(NOW_MS, 1, ops))
    return machine


queues = st.sets(st.sampled_from(QUEUES), min_size=1)
slots = st.integers(0, 3)
node = st.tuples(
    slots, queues, st.dictionaries(st.sampled_from(QUEUES), slots), st.sets(st.sampled_from(TASKS))
)
jobs = st.lists(st.tuples(st.sampled_from(QUEUES), st.sampled_from(TASKS)), max_size=25)


@given(jobs, st.dictionaries(st.sampled_from("nopq"), node), st.booleans())
def test_every_plan_keeps_the_rules(
    jobs: list[tuple[str, str]],
    nodes: dict[str, tuple[int, set[str], dict[str, int], set[str]]],
    has_own: bool,
) -> None:
    """Some mixture of pools and abilities would overfill a group of slots, give a node what it
    cannot run, put aside what somebody can, or leave work lying."""
    machine = machine_with(jobs, list(nodes))
    rooms = [
        Room(
            name,
            machine.sessions[name].id,
            free,
            0,
            dict.fromkeys(sorted(serves), 1),
            pools,
            frozenset(unable),
        )
        for name, (free, serves, pools, unable) in nodes.items()
    ]
    seatings = Seatings(LRUNode, {"B": LRU} if has_own else {}, ManualClock())
    planned = plan(machine, [], NOW_MS, rooms, seatings, Fairness())
    taken: dict[tuple[str, str], int] = {}
    for claim in planned.claims:
        _, serves, pools, unable = nodes[claim.node]
        for job_id in claim.ids:
            queue, task = jobs[int(job_id)]
            assert queue in serves
            assert task not in unable
            group = (claim.node, queue if queue in pools else "")
            taken[group] = taken.get(group, 0) + 1
    for (name, group), count in taken.items():
        free, _, pools, _ = nodes[name]
        assert count <= (pools[group] if group else free)
    claimed = [job_id for claim in planned.claims for job_id in claim.ids]
    aside = [job_id for ids in planned.unknown.values() for job_id in ids]
    assert len(set(claimed + aside)) == len(claimed) + len(aside)
    for number, (queue, task) in enumerate(jobs):
        job_id = f"{number:03}"
        serving = [name for name in nodes if queue in nodes[name][1]]
        if job_id in aside:
            assert job_id in planned.unknown[task]
            assert all(task in nodes[name][3] for name in serving)
        elif job_id not in claimed:
            for name in serving:
                free, _, pools, unable = nodes[name]
                group = queue if queue in pools else ""
                left = (pools[group] if group else free) - taken.get((name, group), 0)
                assert task in unable or left == 0
    ops = [commands.claim(PID(), planned.claims)]
    ops += [commands.park(PID(), task, ids) for task, ids in planned.unknown.items()]
    applied = machine.apply(2, encode_entry(NOW_MS, 1, ops))
    assert [answer for _, answer in applied.results] == [
        len(claimed),
        *(len(ids) for ids in planned.unknown.values()),
    ]
    check_invariants(machine)


@given(slots, st.dictionaries(st.sampled_from(QUEUES), slots), st.integers(0, 5))
def test_credit_of_no_group_is_overstated(free: int, pools: dict[str, int], unseen: int) -> None:
    """A claim on its way may be of any group: each is smaller by it, none grows by it."""
    machine = machine_with([], ["n"])
    machine.sessions["n"].claimed_total = unseen
    demand = Demand()
    demand.hear("n", machine.sessions["n"].id, 0, {"": free, **pools}, {"A": 1}, ["x"])
    (room,) = demand.rooms(machine)
    assert room.free == max(0, free - unseen)
    assert room.pools == {queue: max(0, count - unseen) for queue, count in pools.items()}
    assert room.total == room.free + sum(room.pools.values())
    assert room.unable == {"x"}
    assert set(room.served()) == ({"A"} if room.pools.get("A", room.free) else set())
