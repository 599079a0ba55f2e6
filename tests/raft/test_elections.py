"""Who leads, how soon, and who may not ask to."""

from __future__ import annotations

import pytest
from pysyncobj import syncobj

from exkiq.raft import JournalError
from tests.raft.world import many, three, world


def test_a_new_leader_within_two_seconds() -> None:
    with world() as w:
        three(w)
        w.kill(w.leader().name)
        start = w.clock.seconds
        w.leader()
        assert w.clock.seconds - start < 2.0


def test_votes_of_strangers_and_second_votes_do_not_count() -> None:
    """Two votes of one node would be a majority of three."""
    with world() as w:
        five = ("n1", "n2", "n3", "n4", "n5")
        member = w.start("n1", five)
        for peer in ("n2", "n3"):
            member.replica.peer_up(peer)
        w.run_until(lambda: len(w.sent) >= 2, 3.0)
        number = w.sent[-1][2][1]["round"]
        for peer in ("n2", "n3"):
            yes = {"type": "pre_vote_answer", "term": 0, "round": number, "granted": True}
            member.replica.receive(peer, [1, yes])
        w.run_until(lambda: member.replica.term > 0, 0.1)
        for sender in ("n2", "n2", "n2", "stranger", "other"):
            vote = {"type": "response_vote", "term": member.replica.term}
            member.replica.receive(sender, [1, vote])
        assert not member.replica._engine.is_leader


def test_a_follower_that_comes_back_does_not_depose_the_leader() -> None:
    """Without pre-vote its term would be higher by dozens, and the leader would step down."""
    with world() as w:
        three(w)
        leader = w.leader()
        term = leader.replica.term
        cut = next(m for m in w.members.values() if m is not leader)
        w.isolate(cut.name)
        w.run(5.0)
        w.heal()
        w.run(2.0)
        assert (leader.replica.is_leader, leader.replica.term) == (True, term)
        assert w.settled()


def test_a_long_divergent_tail_heals_at_once() -> None:
    """The engine walks back one entry a heartbeat, or for ever in circles."""
    with world() as w:
        three(w)
        old = w.leader()
        w.isolate(old.name)
        for number in range(200):
            term = old.replica.term
            old.journal.add(b"\x00" + bytes([number]), old.journal.last_index + 1, term)
        new = w.leader()
        while new is old:
            w.run(0.1)
            new = w.leader()
        many(w, new, range(150))
        w.heal()
        w.run_until(w.settled, 2.0)


def test_killed_leaders_are_followed_quickly() -> None:
    """A closed link is news enough: nobody has to wait for a full election timeout."""
    gaps = []
    for seed in range(20):
        with world(seed) as w:
            three(w)
            w.leader()
            w.run(0.5)
            w.kill(w.leader().name)
            start = w.clock.seconds
            w.leader()
            gaps.append(w.clock.seconds - start)
    assert sorted(gaps)[10] < 0.3, gaps
    assert max(gaps) < 1.5, gaps


def test_a_leader_that_was_cut_off_neither_campaigns_nor_deposes_anybody() -> None:
    """Its patience is long over when it steps down: it would raise the term all the time."""
    with world() as w:
        three(w)
        old = w.leader()
        w.isolate(old.name)
        term = old.replica.term
        w.run(4.0)
        assert (old.replica.is_leader, old.replica.term) == (False, term)
        new = w.leader()
        w.heal()
        w.run(1.0)
        assert (new.replica.is_leader, old.replica.term) == (True, new.replica.term)
        assert new.replica.term == term + 1


def test_a_member_that_was_stopped_reads_before_it_asks_for_votes() -> None:
    """After each pause of a process, or of its machine, there would be an election."""
    with world() as w:
        three(w)
        leader = w.leader()
        paused = next(m for m in w.members.values() if m is not leader)
        w.run(0.5)
        w.sent.clear()
        paused.replica._last_turn -= 2.0  # so long it had no turn, and now it has one
        paused.replica._engine.set_election_in(-1.5)
        paused.replica._turn()
        w.run(1.0)
        assert not [m for _, _, m in w.sent if m[0] == 1 and m[1]["type"] == "pre_vote"]
        assert leader.replica.is_leader


def test_how_old_an_answer_may_be() -> None:
    """Who reads from a node that is cut off would take old news for new."""
    with world() as w:
        lonely = w.start("n0", ("n0", "n9"))
        w.run(1.0)
        assert lonely.replica.standing.age_ms is None
        w.kill("n0")
        three(w)
        leader = w.leader()
        w.run(0.5)
        follower = next(m for m in w.members.values() if m is not leader)
        assert leader.replica.standing.age_ms < 100
        assert follower.replica.standing.age_ms < 100
        w.isolate(follower.name)
        w.isolate(leader.name)
        w.run(2.0)
        assert 1900 < follower.replica.standing.age_ms < 2100
        assert 1100 < leader.replica.standing.age_ms < 2000  # it takes a while to notice


@pytest.mark.parametrize("apart", [-3600.0, 0.0, 3600.0])
def test_a_dead_leader_is_replaced_at_once(apart: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's clock is another than ours, and with time the two drift apart: mixed up, nobody
    asks for votes for as long as they differ. And who asks with another splits the votes."""
    for seed in range(10):
        with world(seed) as w:
            monkeypatch.setattr(syncobj, "monotonicTime", lambda w=w: w.clock.monotonic() + apart)
            three(w)
            leader = w.leader()
            w.run(1.0)
            killed_at = w.clock.seconds
            w.kill(leader.name)
            w.leader()
            assert w.clock.seconds - killed_at < 0.1, seed


def test_patience_is_forgiven_by_the_engine_s_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that slept would not look for a leader for hours."""
    with world() as w:
        monkeypatch.setattr(syncobj, "monotonicTime", lambda: w.clock.monotonic() - 3600.0)
        three(w)
        leader = w.leader()
        others = [m for m in w.members.values() if m is not leader]
        for other in others:
            other.replica._last_turn -= 2.0
            other.replica._turn()
            assert 0.2 < other.replica._engine.election_in < 0.6


def test_a_leader_whose_disk_fails_leads_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails while it takes over a newer term, and would be a second leader of that term."""
    with world() as w:
        three(w)
        leader = w.leader()
        other = next(name for name in w.members if name != leader.name)

        monkeypatch.setattr(leader.journal, "_failure", "no space left")
        vote = {"type": "request_vote", "last_log_index": 99, "last_log_term": 9}
        leader.replica.receive(other, [1, {**vote, "term": leader.replica.term + 1}])
        assert [type(error) for error in leader.failures] == [JournalError]
        assert (leader.replica.is_leader, leader.replica.leader) == (False, None)
