"""Credit is never overstated, whatever happens to the messages on their way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from exkiq.aggregator.demand import Demand, NodeClaim
from exkiq.machine import Machine


class Log:
    """A machine that has one session; claims are applied when told to."""

    def __init__(self, session: int = 5) -> None:
        self.session = SimpleNamespace(id=session, claimed_total=0, running={})
        self.machine = cast("Machine", SimpleNamespace(sessions={"n1": self.session}))

    def claim(self, count: int) -> None:
        for _ in range(count):
            self.session.claimed_total += 1
            self.session.running[str(self.session.claimed_total)] = None


def free(demand: Demand, log: Log) -> int:
    rooms = demand.rooms(log.machine)
    return rooms[0].free if rooms else 0


def in_flight(demand: Demand, pid: bytes, count: int) -> None:
    demand.proposed(pid, [NodeClaim("n1", 5, [str(number) for number in range(count)])])


def test_claims_not_seen_yet_are_subtracted() -> None:
    """A claim on its way would be given a second slot."""
    demand, log = Demand(), Log()
    demand.hear("n1", 5, 0, {"": 4}, {"q": 1})
    assert free(demand, log) == 4
    in_flight(demand, b"1", 3)
    assert free(demand, log) == 1
    log.claim(3)
    assert demand.applied(b"1")
    assert not demand.applied(b"1")
    assert free(demand, log) == 1
    demand.hear("n1", 5, 3, {"": 1}, {"q": 1})
    assert free(demand, log) == 1
    demand.hear("n1", 5, 3, {"": 3}, {"q": 1})
    assert free(demand, log) == 3


def test_a_refused_claim_gives_its_slots_back() -> None:
    """Every claim that came to nothing would cost a slot until the next election."""
    demand, log = Demand(), Log()
    demand.hear("n1", 5, 0, {"": 4}, {"q": 1})
    in_flight(demand, b"1", 4)
    log.claim(1)  # the other three jobs were cancelled meanwhile
    demand.applied(b"1")
    assert free(demand, log) == 3


def test_older_news_is_dropped() -> None:
    """A delayed message would put the credit back, or bring a former session to life."""
    demand, log = Demand(), Log()
    log.claim(4)
    demand.hear("n1", 5, 4, {"": 2}, {"q": 1})
    demand.hear("n1", 5, 1, {"": 3}, {"q": 1})
    assert free(demand, log) == 2
    demand.hear("n1", 3, 9, {"": 9}, {"q": 1})
    assert free(demand, log) == 2


def test_only_the_running_session_counts() -> None:
    """Jobs would be claimed for a run of the node that is over."""
    demand, log = Demand(), Log(session=7)
    demand.hear("n1", 5, 0, {"": 4}, {"q": 1})
    assert demand.rooms(log.machine) == []
    demand.hear("n1", 7, 0, {"": 2}, {"q": 1})
    assert free(demand, log) == 2
    demand.forget("n1", 5)
    assert free(demand, log) == 2
    demand.forget("n1", 7)
    assert demand.rooms(log.machine) == []


def test_a_leader_behind_its_node_does_not_overstate() -> None:
    """A new leader that has not applied all yet would give more than there are slots."""
    demand, log = Demand(), Log()
    demand.hear("n1", 5, 6, {"": 2}, {"q": 1})
    assert free(demand, log) == 2


def test_what_is_in_flight_counts_as_running() -> None:
    """A node that is about to get a job would be taken for an idle one."""
    demand, log = Demand(), Log()
    demand.hear("n1", 5, 0, {"": 4}, {"q": 1})
    in_flight(demand, b"1", 2)
    assert demand.rooms(log.machine)[0].running == 2


step = st.one_of(
    st.tuples(st.just("hear"), st.integers(0, 30)),
    st.tuples(st.just("say"), st.just(0)),
    st.tuples(st.just("propose"), st.integers(1, 3)),
    st.tuples(st.just("apply"), st.integers(0, 3)),
    st.tuples(st.just("finish"), st.integers(1, 3)),
)


@given(st.integers(1, 6), st.lists(step, max_size=60))
def test_no_order_of_messages_gives_more_jobs_than_slots(
    slots: int, steps: list[tuple[str, int]]
) -> None:
    """Late, doubled, lost or reordered messages would overfill a pool."""
    demand, log = Demand(), Log()
    said = [(0, slots)]
    proposed: list[tuple[bytes, int]] = []
    for number, (what, amount) in enumerate(steps):
        if what == "say":
            said.append((log.session.claimed_total, slots - len(log.session.running)))
        elif what == "hear":
            seen, room = said[amount % len(said)]
            demand.hear("n1", 5, seen, {"": room}, {"q": 1})
        elif what == "propose":
            count = min(amount, free(demand, log))
            pid = str(number).encode()
            in_flight(demand, pid, count)
            proposed.append((pid, count))
        elif what == "apply" and proposed:
            pid, count = proposed.pop(0)
            log.claim(min(count, amount))  # some are passed over
            demand.applied(pid)
        elif what == "finish":
            for job_id in list(log.session.running)[:amount]:
                del log.session.running[job_id]
        assert len(log.session.running) <= slots
