"""Which job goes to which slot: demand, reservation, dispatchers, and tasks that nobody knows."""

from __future__ import annotations

import logging

import pytest

from exkiq.aggregator.matching import ASIDE_MAX, PASSED_MAX
from exkiq.aggregator.parking import RELEASE_MAX
from exkiq.machine import State, check_invariants, commands
from tests.aggregator.pretend import PretendCluster, claims_of

GONE = "app:gone"


def unknown(cluster: PretendCluster) -> int:
    return cluster.house.machine.counts()["unknown_task"]


def ages(cluster: PretendCluster, ms: int) -> None:
    """Time passes in which every node says again what it has, as nodes do."""
    for _ in range(ms // 250):
        cluster.clock.advance(250)
        for node in cluster.nodes.values():
            node.announce()


# ---- HD-03, HD-18, HD-19: credit, at once, and reserved first ----------------------------------


def test_HD_03_no_more_jobs_than_free_slots_and_the_idle_node_first() -> None:
    """A pool would hold jobs that it cannot run, or a node would sit idle beside a busy one."""
    cluster = PretendCluster()
    nodes = [cluster.node(name, 3) for name in "abc"]
    cluster.enqueue(3)
    assert [len(node.running) for node in nodes] == [1, 1, 1]
    cluster.enqueue(50)
    for _ in range(20):
        for node in nodes:
            node.finish(list(node.running)[:2])
            assert len(node.running) == 3 or unstarted(cluster) == 0
    assert [node.most_at_once for node in nodes] == [3, 3, 3]


def unstarted(cluster: PretendCluster) -> int:
    return cluster.house.machine.waiting_count("default")


def test_HD_03_slots_of_a_pool_serve_its_queue_and_no_other() -> None:
    """The slots that a pool was given would run something else, or its queue take others'."""
    cluster = PretendCluster()
    queues = {"mails": 1, "default": 1}
    one = cluster.node("one", 2, queues, pools={"mails": 1})
    two = cluster.node("two", 1, queues, pools={"mails": 2})
    mails = cluster.enqueue(10, "mails")
    plain = cluster.enqueue(10)
    for node in (one, two):
        node.announce()
    for node, common, pool in ((one, 2, 1), (two, 1, 2)):
        groups = [node.group_of[job] for job in node.running]
        assert (groups.count(""), groups.count("mails")) == (common, pool)
    assert sorted(claims_of(cluster)) == sorted([*mails[:3], *plain[:3]])
    done = [job for job in one.running if job in mails]
    one.finish(done)
    assert sorted(one.started)[-1] == mails[3]


def test_HD_03_a_full_pool_holds_up_nobody_else() -> None:
    """A queue whose pool is full would keep the common slots empty."""
    cluster = PretendCluster()
    node = cluster.node("n", 2, {"mails": 1, "default": 1}, pools={"mails": 1})
    cluster.enqueue(5, "mails")
    plain = cluster.enqueue(2)
    node.announce()
    assert sorted(node.group_of[job] for job in node.running) == ["", "", "mails"]
    assert set(plain) <= set(node.running)
    assert not cluster.aggregator.wants_flush()


def test_HD_18_a_job_starts_in_the_entry_that_brings_it_and_in_the_turn_that_makes_room() -> None:
    """A job would wait for a poll although a slot was free."""
    cluster = PretendCluster()
    node = cluster.node("n", 1)
    entries = len(cluster.entries)
    first, second = cluster.enqueue() + cluster.enqueue()
    assert len(cluster.entries) == entries + 2
    assert cluster.entries[entries].claimed[0].records[0].id == first
    assert node.started == [first]
    node.finish()
    assert node.started == [first, second]
    assert cluster.clock.monotonic() == PretendCluster().clock.monotonic()  # no time has passed


def test_HD_19_a_claim_is_in_the_log_before_the_job_is_the_nodes() -> None:
    """Two nodes could start one job, or a running job would be shown nowhere."""
    cluster = PretendCluster()
    node = cluster.node("n", 1)
    seen: list[tuple[State, str | None, int]] = []

    def look(_: object) -> None:
        seen.extend(
            (record.state, record.node, record.fence)
            for record in (cluster.record(job) for job in node.running)
        )

    cluster.house.subscribe(look)
    cluster.enqueue()
    index = cluster.house.machine.index
    assert seen == [(State.RUNNING, "n", index)]
    assert list(node.running.values()) == [index]
    assert cluster.house.machine.sessions["n"].running.keys() == node.running.keys()


# ---- HA-04: a task that a node does not know ---------------------------------------------------


def test_HA_04_a_job_goes_to_a_node_that_knows_its_task() -> None:
    """A job of the new release would be handed to an old node again and again."""
    cluster = PretendCluster()
    old = cluster.node("old", 4, unable=[GONE])
    new = cluster.node("new", 2)
    jobs = cluster.enqueue(4, task=GONE)
    others = cluster.enqueue(3)
    assert sorted(new.started) == jobs[:2]
    assert old.started == others
    new.finish()
    assert new.started == jobs
    assert unknown(cluster) == 0
    assert not cluster.aggregator.wants_flush()


def test_HA_04_what_only_a_full_node_knows_is_overtaken_and_waits_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A queue would stand still behind a job whose only node is busy, or call it unknown."""
    cluster = PretendCluster()
    new = cluster.node("new", 1)
    old = cluster.node("old", 2, unable=[GONE])
    busy, waits = cluster.enqueue(2, task=GONE)
    others = cluster.enqueue(2)
    assert (new.started, old.started) == ([busy], others)
    old.finish()
    entries = len(cluster.entries)
    ages(cluster, 5_000)
    assert len(cluster.entries) == entries  # nothing to say is nothing in the log
    assert unknown(cluster) == 0
    assert "no node can run" not in caplog.text
    new.finish()
    assert new.started == [busy, waits]


def test_HA_04_what_nobody_knows_stands_aside_with_one_warning_a_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Unknown jobs would block their queue, vanish, or fill the log of every node."""
    cluster = PretendCluster()
    nodes = [cluster.node(name, 1, unable=[GONE, "app:other"]) for name in "ab"]
    with caplog.at_level(logging.WARNING, "exkiq"):
        jobs = cluster.enqueue(3, task=GONE) + cluster.enqueue(1, task="app:other")
        known = cluster.enqueue(4)
        for _ in range(2):
            for node in nodes:
                node.finish()
        jobs += cluster.enqueue(2, task=GONE)
        ages(cluster, 5_000)
    assert sorted(nodes[0].started + nodes[1].started) == known
    assert [cluster.state(job) for job in jobs] == [State.QUEUED] * 6
    assert unknown(cluster) == 6
    assert cluster.house.machine.counts()["queued"] == 6
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [sum(task in line for line in told) for task in (GONE, "app:other")] == [1, 1]
    check_invariants(cluster.house.machine)
    entries = len(cluster.entries)
    ages(cluster, 5_000)
    assert len(cluster.entries) == entries


def test_HA_04_a_node_that_knows_it_gets_what_stood_aside_in_order() -> None:
    """The jobs of a release would be lost when its first node came late."""
    cluster = PretendCluster()
    old = cluster.node("old", 4, unable=[GONE])
    cluster.house.propose_nowait(commands.pause(cluster.pid(), "default"))
    jobs = cluster.enqueue(2_500, task=GONE)
    cluster.house.propose_nowait(commands.resume(cluster.pid(), "default"))
    ages(cluster, 1_000)
    assert unknown(cluster) == 2_500
    aside = [
        answer
        for applied in cluster.entries
        for _, answer in applied.results
        if answer == ASIDE_MAX
    ]
    assert len(aside) >= 2  # a thousand an entry
    new = cluster.node("new", 100)
    assert len(new.running) == 100
    assert unknown(cluster) == 2_500 - RELEASE_MAX
    while len(new.started) < 2_500:
        cluster.advance(50)
        new.finish()
    assert new.started == jobs
    assert old.started == []
    assert unknown(cluster) == 0


def test_HA_04_a_node_that_learns_it_gets_its_jobs() -> None:
    """A node whose `init` works again would never be given what it could not run before."""
    cluster = PretendCluster()
    node = cluster.node("n", 2, unable=[GONE])
    jobs = cluster.enqueue(2, task=GONE)
    assert unknown(cluster) == 2
    node.unable = []
    cluster.advance(50)
    node.announce()
    assert node.started == jobs


def test_HA_04_a_node_of_another_queue_does_not_count(caplog: pytest.LogCaptureFixture) -> None:
    """A node that could run it, and does not serve its queue, would keep a job in the lane."""
    cluster = PretendCluster()
    cluster.node("other", 5, {"other": 1})
    cluster.node("n", 1, unable=[GONE])
    cluster.enqueue(2, task=GONE)
    assert unknown(cluster) == 2
    entries = len(cluster.entries)
    ages(cluster, 2_000)
    assert len(cluster.entries) == entries


def test_HA_04_a_leader_that_has_not_heard_all_nodes_calls_nothing_unknown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After each election a false alarm would go off for tasks that one node knows."""
    cluster = PretendCluster()
    new, old = cluster.node("new", 1), cluster.node("old", 1, unable=[GONE])
    cluster.aggregator.end()
    cluster.enqueue(1, task=GONE)
    cluster.aggregator.begin(2)
    old.announce()
    assert unknown(cluster) == 0
    assert caplog.text == ""
    new.announce()
    assert len(new.started) == 1


def test_HA_04_one_plan_passes_over_a_bounded_number_of_jobs() -> None:
    """A leader would walk a million jobs for each message it gets."""
    cluster = PretendCluster()
    new, old = cluster.node("new", 1), cluster.node("old", 1, unable=[GONE])
    cluster.enqueue(PASSED_MAX + 1, task=GONE)
    (behind,) = cluster.enqueue()
    assert cluster.state(behind) is State.QUEUED
    assert old.started == []
    new.finish()  # one less before it
    assert old.started == [behind]
