"""Jobs meet slots: at once, in order, on every node, and never more than there are slots."""

import logging

import pytest

from exkiq.aggregator.leadership import changes_by
from exkiq.machine import Spec, State, check_invariants, commands
from tests.aggregator.pretend import PretendCluster


def test_a_claim_rides_in_the_entry_of_its_enqueue() -> None:
    """A job would cost two commits although a slot was free."""
    cluster = PretendCluster()
    node = cluster.node("n1", 2)
    entries = len(cluster.entries)
    (job,) = cluster.enqueue()
    assert len(cluster.entries) == entries + 1
    assert node.started == [job]
    assert cluster.state(job) is State.RUNNING
    assert cluster.record(job).node == "n1"


def test_a_job_that_waits_starts_when_there_is_room() -> None:
    """A job that found no slot would wait for ever, or for a poll."""
    cluster = PretendCluster()
    jobs = cluster.enqueue(3)
    node = cluster.node("n1", 1)
    assert node.started == jobs[:1]
    node.finish()
    assert node.started == jobs[:2]
    node.finish()
    node.finish()
    assert [cluster.state(job) for job in jobs] == [State.SUCCEEDED] * 3


def test_riding_respects_the_order() -> None:
    """A new job would overtake one that waits."""
    cluster = PretendCluster()
    node = cluster.node("n1", 1)
    jobs = cluster.enqueue(3) + cluster.enqueue(2)
    node.slots = 3
    cluster.aggregator.demand("n1", node.demand())  # type: ignore[arg-type]
    jobs += cluster.enqueue(1)  # flushed with room for two: the older ones have it
    assert node.started == jobs[:3]
    while node.running:
        node.finish()
    assert node.started == jobs


def test_higher_priority_goes_first_also_when_it_rides() -> None:
    """An urgent job would wait behind the backlog it arrived after."""
    cluster = PretendCluster()
    node = cluster.node("n1", 1)
    low = cluster.enqueue(3)
    node.slots = 4
    cluster.aggregator.demand("n1", node.demand())  # type: ignore[arg-type]
    high = cluster.enqueue(2, priority=5)
    assert node.started == [low[0], *high, low[1]]


def test_a_doubled_or_taken_id_is_claimed_once() -> None:
    """A repeated enqueue would use up two slots, or start a job twice."""
    cluster = PretendCluster()
    node = cluster.node("n1", 10)
    cluster.enqueue(ids=["same", "same"])
    cluster.enqueue(ids=["same", "other"])
    assert node.started == ["same", "other"]
    node.finish()
    cluster.enqueue(ids=["same"])  # ended, its id is still taken
    assert node.started == ["same", "other"]
    assert cluster.aggregator.wants_flush() is False
    cluster.enqueue(10)
    assert len(node.running) == 10


def test_scheduled_jobs_do_not_ride_and_start_when_due() -> None:
    """A delayed job would start early, or never."""
    cluster = PretendCluster()
    node = cluster.node("n1", 5)
    (job,) = cluster.enqueue(delay_ms=10_000)
    assert node.started == []
    wake = cluster.aggregator.next_wake()
    assert wake is not None
    cluster.advance(9_999)
    assert node.started == []
    cluster.advance(1)
    assert node.started == [job]


def test_never_more_than_the_free_slots() -> None:
    """A pool would be given more than it can run: jobs would wait where nobody sees them."""
    cluster = PretendCluster()
    nodes = [cluster.node(f"n{number}", slots) for number, slots in enumerate((1, 3, 7))]
    cluster.enqueue(200)
    for _ in range(200):
        for node in nodes:
            node.announce()
            node.finish(list(node.running)[:2])
    assert [node.most_at_once for node in nodes] == [1, 3, 7]
    assert cluster.house.machine.counts()["succeeded"] == 200
    check_invariants(cluster.house.machine)


def test_work_is_spread_over_idle_nodes_first() -> None:
    """One node would get a second job while another that serves the queue sits idle."""
    cluster = PretendCluster()
    nodes = [cluster.node(name, 4) for name in "abc"]
    for _ in range(3):
        cluster.enqueue()
    assert [len(node.running) for node in nodes] == [1, 1, 1]
    nodes[1].finish()
    cluster.enqueue()
    assert [len(node.running) for node in nodes] == [1, 1, 1]
    cluster.enqueue(6)
    assert [len(node.running) for node in nodes] == [3, 3, 3]


def test_a_job_goes_only_to_nodes_that_serve_its_queue() -> None:
    """A job would be sent to a node that does not know its task."""
    cluster = PretendCluster()
    mails = cluster.node("mails", 1, {"emails": 1})
    both = cluster.node("both", 2, {"emails": 1, "reports": 1})
    reports = cluster.enqueue(2, "reports")
    emails = cluster.enqueue(3, "emails")
    assert both.started == reports
    assert mails.started == emails[:1]
    both.finish(reports[:1])
    assert both.started == [*reports, emails[1]]


def test_weights_share_the_slots() -> None:
    """Queues of weight 3 and 1 would not share 3:1, whether slots come singly or in lots."""
    for slots in (1, 8):
        cluster = PretendCluster()
        cluster.enqueue(500, "heavy")
        cluster.enqueue(500, "light")
        node = cluster.node("n1", slots, {"heavy": 3, "light": 1})
        while len(node.started) < 400:
            node.finish()
        first = [job.split("-")[0] for job in node.started[:400]]
        assert first.count("heavy") == 300


def test_a_full_queue_never_starves_a_small_one() -> None:
    """A single job of a small queue would wait behind a backlog of thousands."""
    cluster = PretendCluster()
    cluster.enqueue(3_000, "full")
    node = cluster.node("n1", 1, {"full": 10, "small": 1})
    other = cluster.node("n2", 1, {"full": 10})
    for _ in range(20):
        node.finish()
        other.finish()
    (job,) = cluster.enqueue(1, "small")
    for _ in range(2):
        node.finish()
        other.finish()
    assert job in node.started


def test_a_paused_queue_starts_nothing_and_others_go_on() -> None:
    """A paused queue would run, or block the slots it does not use."""
    cluster = PretendCluster()
    node = cluster.node("n1", 2, {"a": 1, "b": 1})
    cluster.house.propose_nowait(commands.pause(cluster.pid(), "a"))
    paused = cluster.enqueue(2, "a")
    running = cluster.enqueue(2, "b")
    assert node.started == running
    node.finish()
    assert cluster.aggregator.wants_flush() is False
    cluster.house.propose_nowait(commands.resume(cluster.pid(), "a"))
    assert node.started == running + paused


def test_cancelled_in_the_same_entry_costs_no_slot() -> None:
    """A claim that comes to nothing would keep its slot until the next election."""
    cluster = PretendCluster()
    node = cluster.node("n1", 1)
    ops = [
        commands.enqueue(cluster.pid(), cluster.record(job).spec, ["gone"], [b""])
        for job in cluster.enqueue()
    ]
    node.finish()
    ops.append(commands.cancel(cluster.pid(), "gone"))
    house = cluster.house
    house._gathered.extend(ops)  # both in one entry, as a leader under load would have them
    house.turn()
    assert cluster.state("gone") is State.CANCELLED
    (job,) = cluster.enqueue()
    assert node.started[-1] == job


def test_a_silent_node_is_over_once_and_its_jobs_go_elsewhere() -> None:
    """The jobs of a dead node would stay with it."""
    cluster = PretendCluster()
    lost, alive = cluster.node("lost", 1), cluster.node("alive", 2)
    jobs = cluster.enqueue(2)
    assert len(lost.running) == len(alive.running) == 1
    for _ in range(8):
        cluster.advance(250)
        cluster.aggregator.heard("alive")
    assert [applied.over for applied in cluster.entries if applied.over] == [[("lost", 1)]]
    assert sorted(alive.running) == jobs
    assert cluster.record(lost.started[0]).lost == 1


def test_the_entry_that_ends_a_session_gives_it_nothing() -> None:
    """Jobs would be claimed for a node in the very entry that declares it lost."""
    cluster = PretendCluster()
    cluster.node("lost", 5)
    cluster.clock.advance(250)
    assert not cluster.aggregator.wants_flush()
    for _ in range(8):
        cluster.clock.advance(250)
        cluster.aggregator.wants_flush()
    spec = Spec("app:work", "default")
    extra = cluster.aggregator.before_flush([commands.enqueue(cluster.pid(), spec, ["job"], [b""])])
    assert [commands.peek_code(op) for op in extra] == [commands.Op.SESSION_OVER]


def test_a_session_that_begins_has_a_full_timeout() -> None:
    """A node heard long ago, and not since, would be over as soon as it begins."""
    cluster = PretendCluster()
    cluster.aggregator.heard("n1")
    for _ in range(40):
        cluster.advance(250)
    op = commands.session_begin(cluster.pid(), "n1", "run", "a:1")
    cluster.house.propose_nowait(op)
    cluster.advance(250)
    cluster.advance(250)
    assert "n1" in cluster.house.machine.sessions


def test_nothing_is_kept_of_nodes_that_are_gone() -> None:
    """The leader would remember every node that ever was."""
    cluster = PretendCluster()
    cluster.node("n1", 1)
    op = commands.session_over(cluster.pid(), "n1", 1, is_orderly=True)
    cluster.house.propose_nowait(op)
    leadership = cluster.aggregator._leadership
    assert leadership is not None
    assert leadership._demand._announced == {}
    assert leadership._reaper._heard == {}


def test_a_claim_that_is_refused_is_not_repeated_without_pause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A leader whose claims are refused would fill its log with them as fast as it can."""
    cluster = PretendCluster()
    (job,) = cluster.enqueue()
    cluster.house.machine.term = 9  # a later leader spoke: ours are stale
    cluster.node("n1", 1)
    entries = len(cluster.entries)
    cluster.house.turn()
    assert len(cluster.entries) == entries
    assert "came to nothing" in caplog.text
    wake = cluster.aggregator.next_wake()
    assert wake == cluster.clock.monotonic() + 0.05
    cluster.advance(50)
    assert len(cluster.entries) == entries + 1
    cluster.house.machine.term = 1
    cluster.advance(50)
    assert cluster.state(job) is State.RUNNING


def test_a_new_leader_hands_out_nothing_before_it_was_told_of_room() -> None:
    """After an election slots that are taken would be given away again."""
    cluster = PretendCluster()
    node = cluster.node("n1", 2)
    cluster.enqueue(2)
    cluster.aggregator.end()
    assert cluster.aggregator.before_flush([]) == []
    assert cluster.aggregator.wants_flush() is False
    assert cluster.aggregator.next_wake() is None
    cluster.enqueue(2)
    cluster.aggregator.begin(2)
    cluster.house.turn()
    assert len(node.started) == 2
    node.announce()
    assert len(node.started) == 2
    node.finish()
    assert len(node.started) == 4


def test_demand_of_a_former_session_is_not_used() -> None:
    """A restarted node would be handed jobs for slots of its earlier run."""
    cluster = PretendCluster()
    node = cluster.node("n1", 5)
    old = node.demand()
    node.begin("run-2")
    cluster.enqueue(3)
    assert node.started == []
    cluster.aggregator.demand("n1", old)  # type: ignore[arg-type]
    cluster.house.turn()
    assert node.started == []
    node.announce()
    assert len(node.started) == 3


def test_one_warning_for_a_queue_that_nobody_serves(caplog: pytest.LogCaptureFixture) -> None:
    """Jobs that nobody can run would wait in silence, or fill the log."""
    cluster = PretendCluster()
    cluster.node("n1", 1)
    with caplog.at_level(logging.WARNING, "exkiq"):
        for _ in range(10):
            cluster.enqueue(1, "orphans")
            cluster.aggregator.heard("n1")
            cluster.advance(1_000)
    warnings = [record for record in caplog.records if "orphans" in record.getMessage()]
    assert len(warnings) == 1


def test_a_session_that_begins_in_the_entry_is_claimed_nothing_for() -> None:
    """Its share would be refused, and the jobs of the other nodes would overtake."""
    begin = commands.session_begin(b"p" * 12, "n1", "run-2", "h:1")
    over = commands.session_over(b"q" * 12, "n2", 7, is_orderly=True)
    move = commands.move(b"r" * 12, "job", "other")
    assert changes_by([begin, over, move, b"\x93\x08", b"junk"]) == (
        {"n1", "n2"},
        {("job", "other")},
    )


def test_a_job_that_is_told_to_move_where_it_is_keeps_its_turn() -> None:
    """A move that is refused would let others overtake."""
    cluster = PretendCluster()
    node = cluster.node("n", 1)
    (first, second), node.slots = cluster.enqueue(2), 1
    node.finish([first])
    cluster.enqueue(2)
    ops = [commands.move(cluster.pid(), "default-0003", "default")]
    node.running.pop(second)
    cluster.aggregator.demand("n", node.demand())  # type: ignore[arg-type]
    cluster.house._gathered.extend(ops)
    cluster.house.turn()
    assert node.started == [first, second, "default-0003"]


def test_a_job_that_moves_in_the_entry_is_neither_claimed_nor_overtaken() -> None:
    """A node would get a job of a queue that it does not serve, or a later one be first."""
    cluster = PretendCluster()
    old, new = cluster.node("old", 2), cluster.node("new", 2, {"other": 1})
    spec = Spec("app:work", "default")
    ops = [
        commands.enqueue(cluster.pid(), spec, ["first"], [b""]),
        commands.move(cluster.pid(), "first", "other"),
        commands.enqueue(cluster.pid(), spec._replace(queue="other"), ["second"], [b""]),
    ]
    cluster.house._gathered.extend(ops)
    cluster.house.turn()
    assert (old.started, new.started) == ([], ["first", "second"])


def test_a_job_whose_move_was_answered_before_it_came_keeps_its_turn() -> None:
    """The same request again moves nothing, and others would overtake."""
    cluster = PretendCluster()
    node = cluster.node("n", 1)
    move = commands.move(cluster.pid(), "default-0002", "other")
    cluster.house._gathered.append(move)
    cluster.house.turn()
    running, first, _ = cluster.enqueue(3)
    assert (node.started, first) == ([running], "default-0002")
    node.running.pop(running)
    cluster.aggregator.demand("n", node.demand())  # type: ignore[arg-type]
    cluster.house._gathered.append(move)
    cluster.house.turn()
    assert node.started == [running, first]
