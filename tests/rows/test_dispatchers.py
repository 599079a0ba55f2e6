"""Who gets a job: dispatchers alone, with a pretended cluster, and on real nodes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from exkiq import client as clients
from exkiq.aggregator import leadership
from exkiq.assembly import dispatchers_of
from exkiq.declarations import Declarations, QueueTerms
from exkiq.dispatchers import LRU, MRU, Dispatcher, LRUNode, Offer
from exkiq.errors import ConfigError
from exkiq.machine import Spec, State, commands
from exkiq.wire import encode_call
from tests.aggregator.pretend import PretendCluster, PretendNode
from tests.cluster.harness import until
from tests.rows.dispatch_app import Asleep, OnlyOn, There
from tests.rows.nodes import Group


def offer(*nodes: str) -> Offer:
    return Offer("job", "default", nodes)


def test_HL_14_LRU_hands_out_the_slot_free_longest_and_MRU_the_one_freed_last() -> None:
    for dispatcher, order in ((LRU(), ["b", "c", "a"]), (MRU(), ["a", "c", "b"])):
        assert dispatcher.check_out(offer("a", "b", "c")) is None
        for slot in "abc":
            dispatcher.check_in(slot)
        assert dispatcher.check_out(offer("a")) == "a"
        dispatcher.check_in("a")
        assert [dispatcher.check_out(offer("a", "b", "c")) for _ in range(4)] == [*order, None]
        assert not dispatcher.available()


def test_HL_15_LRUNode_takes_nodes_in_turn_and_leaves_out_full_ones() -> None:
    dispatcher = LRUNode()
    for slot in "aabbcc":
        dispatcher.check_in(slot)
    taken = [dispatcher.check_out(offer("a", "b", "c")) for _ in range(7)]
    assert taken == ["a", "b", "c", "a", "b", "c", None]
    dispatcher.check_in("b")
    dispatcher.check_in("c")
    assert [dispatcher.check_out(offer("a", "b", "c")) for _ in range(2)] == ["b", "c"]


def test_HL_15_it_is_the_default_over_nodes_with_two_slots_each() -> None:
    cluster = PretendCluster()
    for name in "abc":
        cluster.node(name, 2)
    jobs = cluster.enqueue(6)
    assert [cluster.record(job).node for job in jobs] == list("abcabc")


class Favourite(Dispatcher):
    """A user's own: what has a free slot on the node of its name, else nothing."""

    made = 0

    def __init__(self, node: str = "b") -> None:
        type(self).made += 1
        self.node = node
        self.slots: dict[str, int] = {}

    def available(self) -> bool:
        return self.slots.get(self.node, 0) > 0

    def check_in(self, slot: str) -> None:
        self.slots[slot] = self.slots.get(slot, 0) + 1

    def check_out(self, job: Offer) -> str | None:
        if not self.available() or self.node not in job.nodes:
            return None
        self.slots[self.node] -= 1
        return self.node

    def remove(self, slot: str) -> None:
        self.slots.pop(slot, None)

    def known(self, slot: str) -> bool:
        return slot in self.slots


def own_of_mails() -> tuple[PretendCluster, list[PretendNode]]:
    cluster = PretendCluster(dispatchers={"mails": Favourite})
    queues = {"mails": 1, "plain": 1}
    return cluster, [cluster.node(name, 2, queues) for name in "ab"]


def test_HD_23_a_queue_has_its_own_dispatcher_and_the_others_the_default() -> None:
    """A queue's dispatcher would decide for others, or give away a slot that is taken."""
    cluster, (a, b) = own_of_mails()
    mails = cluster.enqueue(3, "mails")
    assert (a.started, b.started) == ([], mails[:2])
    plain = cluster.enqueue(3, "plain")
    assert a.started == plain[:2]
    b.finish()
    assert sorted(b.started) == sorted([*mails, plain[2]])
    assert max(a.most_at_once, b.most_at_once) == 2


def test_HD_23_dispatchers_that_share_slots_keep_the_idle_node_first() -> None:
    """Of two queues in one entry the second would not see what the first has just taken."""
    cluster = PretendCluster(dispatchers={"mails": lambda: Favourite("a")})
    a, b = (cluster.node(name, 2, {"mails": 1, "plain": 1}) for name in "ab")
    with_both = [
        commands.enqueue(cluster.pid(), Spec("app:work", queue), [queue], [b""])
        for queue in ("mails", "plain")
    ]
    cluster.house._gathered.extend(with_both)
    cluster.house.turn()
    assert (a.started, b.started) == (["mails"], ["plain"])


def test_HD_23_it_is_made_anew_after_an_election_from_what_the_nodes_say() -> None:
    """It would know slots of a former leader, or none."""
    cluster, (a, b) = own_of_mails()
    cluster.enqueue(1, "mails")
    made = Favourite.made
    cluster.aggregator.end()
    cluster.aggregator.begin(2)
    assert Favourite.made == made + 1
    later = cluster.enqueue(2, "mails")
    assert len(b.started) == 1
    a.announce()
    b.announce()
    assert b.started[1:] == later[:1]


def test_HD_24_a_dispatcher_that_raises_stops_its_own_queues_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One queue's broken dispatcher would stop every queue of the cluster."""

    class Broken(LRU):
        def check_out(self, job: Offer) -> str | None:
            raise KeyError("oops")

    cluster = PretendCluster(dispatchers={"mails": Broken})
    node = cluster.node("n", 5, {"mails": 1, "default": 1})
    cluster.enqueue(1, "mails")
    assert "Broken raised and is made anew" in caplog.text
    plain = cluster.enqueue(2)
    assert node.started == plain
    wake = cluster.aggregator.next_wake()
    assert wake is not None
    tries = caplog.text.count("made anew")
    for _ in range(5):
        cluster.advance(100)
    assert caplog.text.count("made anew") == tries
    cluster.advance(1_000)
    assert caplog.text.count("made anew") == tries + 1


def test_HD_24_a_dispatcher_that_cannot_be_made_is_replaced_by_the_default(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def none() -> Dispatcher:
        raise ValueError("no such host")

    cluster = PretendCluster(dispatchers={"mails": none})
    node = cluster.node("n", 1, {"mails": 1})
    assert node.started == cluster.enqueue(1, "mails")
    assert "no such host" in caplog.text


def test_HD_24_an_aggregator_that_fails_starts_anew_and_the_node_goes_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in handing out work would stop the leader, or fill its log."""
    cluster = PretendCluster()
    node = cluster.node("n", 2)

    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(leadership, "plan", fail)
        jobs = cluster.enqueue(1) + cluster.enqueue(2)
    assert [cluster.state(job) for job in jobs] == [State.QUEUED] * 3
    assert caplog.text.count("the aggregator failed and starts anew") == 1
    assert cluster.aggregator.failures == 1
    assert cluster.aggregator.next_wake() == cluster.clock.monotonic() + 1
    node.announce()
    cluster.advance(1_000)
    assert node.started == jobs[:2]


# ---- on real nodes -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def duo(surroundings: Path) -> Iterator[Group]:
    """Two nodes whose APP declares queues; each has two slots."""
    app = "tests.rows.dispatch_app"
    group = Group(("d1", "d2"), app=app, concurrency=2, cluster="rows-dispatch").start()
    yield group
    group.stop()


@pytest.fixture
def two(duo: Group) -> Iterator[Group]:
    yield duo.use()
    clients.use(None)


def test_HD_23_on_nodes_it_runs_on_the_leader_and_decides(two: Group, tmp_path: Path) -> None:
    """What the APP declares would be lost on its way from the child to the leader."""
    gate = tmp_path / "gate"
    jobs = [There.perform_async(str(gate)) for _ in range(4)]
    until(lambda: sum(job.status().state == "running" for job in jobs) == 2)
    assert {job.status().by for job in jobs[:2]} == {"d2"}
    # HD-19: every node shows who runs it, and how far it is
    for told in two.each(lambda client: until(lambda: client.job(jobs[0].id).progress)):
        assert told == {"done": 1, "of": 2}
    for by in two.each(lambda client: client.job(jobs[0].id).status().by):
        assert by == "d2"
    for name, node in two.nodes.items():
        tree = node.tree()
        assert set(tree) >= {"raft", "discovery", "links", "children"}
        assert ("aggregator" in tree) == node.is_leader, name
        (child,) = tree["children"].values()
        assert sum(child["slots"].values()) == 2
    leading = two.nodes[two.leader].tree()["aggregator"]
    assert leading["dispatchers"] == {"": "LRUNode", "one-node": "OnlyOn"}
    assert sorted(leading["nodes"]) == ["d1", "d2"]
    assert sorted(two.nodes["d2"].tree()["children"].popitem()[1]["jobs"]) == sorted(
        job.id for job in jobs[:2]
    )
    gate.touch()
    assert [job.result(timeout=10) for job in jobs] == [str(gate)] * 4
    assert {job.status().by for job in jobs} == {"d2"}


def test_HD_23_one_that_cannot_be_made_is_told_at_the_start_by_name() -> None:
    """A node would come up, and fail when it is elected."""

    def declared(*rows: list[object]) -> Declarations:
        return Declarations({f"q{at}": QueueTerms(dispatcher=row) for at, row in enumerate(rows)})

    path = "tests.rows.dispatch_app:OnlyOn"
    makers = dispatchers_of(declared([path, ["d1"]], [path, ["d1"]], [path, {"node": "d2"}]))
    assert makers["q0"] is makers["q1"]
    made = makers["q2"]()
    assert isinstance(made, OnlyOn)
    assert made.node == "d2"
    assert made is not makers["q2"]()
    assert dispatchers_of(declared(["exkiq.dispatchers:LRUNode", []])) == {}
    for row in (["nowhere:Gone", []], [path, []], ["tests.rows.dispatch_app:There", []]):
        with pytest.raises(ConfigError, match="dispatcher of queue 'q0'"):
            dispatchers_of(declared(row))


def test_HD_T4_a_queue_declared_as_paused_begins_so_and_only_then(two: Group) -> None:
    """It would run before anybody looked, or stop again with each node that starts."""
    job = Asleep.perform_async()
    assert two.client.queue("asleep").stats().paused is True
    two.client.queue("asleep").resume()
    assert job.result(timeout=5) is None
    again = two.client.next_pid()
    two.client.propose(commands.declare(again, ["asleep"], ["asleep"]), "a queue")
    assert two.client.queue("asleep").stats().paused is False


def test_HA_04_on_nodes_an_unknown_task_waits_with_a_warning_and_shows(
    two: Group, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be handed from node to node for ever, or fail."""
    with caplog.at_level(logging.WARNING, "exkiq"):
        spec, pid = Spec("tests.rows.gone:Gone.perform", "default"), two.client.next_pid()
        op = commands.enqueue(pid, spec, ["gone"], [encode_call((), {})])
        two.client.propose(op, "a job of another release")
        until(lambda: two.client.stats()["unknown_task"] == 1)
    assert two.each(lambda client: until(lambda: client.stats()["unknown_task"])) == [1, 1]
    told = [line for line in caplog.messages if "no node can run task" in line]
    assert [spec.task in line for line in told] == [True]
    job = two.client.job("gone")
    status = job.status()
    assert (status.state, status.attempt) == ("queued", 1)
    assert job.cancel() == "ok"
    assert two.client.stats()["unknown_task"] == 0
