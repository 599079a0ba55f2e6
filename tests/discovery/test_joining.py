"""The rules of joining, and what a settled node still does, one by one."""

from __future__ import annotations

from exkiq.discovery.effects import Log, Save, Sight, Start, Warn
from exkiq.discovery.facts import Facts, rows_of
from exkiq.discovery.founding import Phase
from exkiq.wire.messages import Kind
from tests.discovery.nodes import (
    begun,
    kinds,
    member,
    members,
    node,
    peer,
    promise_of,
    sends,
)

LONG_MS = 3_600_000


# ---- joining -------------------------------------------------------------------------------------


def test_the_leader_is_asked_until_it_welcomes() -> None:
    """Broken: a joiner that asks only once, or only a node that does not lead."""
    founding = begun("d")
    own = member("d")
    join = [int(Kind.JOIN), "d", own.incarnation, own.address]
    assert sends(founding.link_up(peer("b", "x"), 0)) == [("b", join)]
    effects = founding.received("b", [int(Kind.NOT_LEADER), "a", "127.0.0.1:1"], 10)
    assert effects is not None
    assert Sight("127.0.0.1:1") in effects
    founding.link_up(peer("a", "x"), 50)
    assert sends(founding.tick(200)) == [("a", join)]
    assert len(sends(founding.tick(1_200))) == 1, "once a second"
    welcome = [int(Kind.WELCOME), "x", rows_of(members("a", "b", "d"))]
    effects = founding.received("a", welcome, 1_500)
    assert Save(Facts("x", members("a", "b", "d"))) in (effects or [])
    assert not any(isinstance(e, Start) and e.membership.is_founder for e in effects or [])


def test_a_welcome_for_another_life_is_not_ours() -> None:
    """Broken: a node with an empty disk takes the place of the voter it once was."""
    founding = begun("d")
    founding.link_up(peer("a", "x"), 0)
    stale = [int(Kind.WELCOME), "x", rows_of([member("a"), member("d", life=2)])]
    founding.received("a", stale, 10)
    assert founding.phase is Phase.LOOKING


def test_a_refusal_is_loud_and_not_the_end() -> None:
    """Broken: a node that is refused says nothing, gives up, or hammers the leader."""
    founding = begun("d")
    founding.link_up(peer("a", "x"), 0)
    effects = founding.received("a", [int(Kind.DENIED), "the cluster is full"], 10)
    assert any(isinstance(e, Warn) and "the cluster is full" in e.text for e in effects or [])
    assert sends(founding.tick(4_000)) == []
    assert kinds(founding.tick(5_100)) == [("a", Kind.JOIN)]


def test_of_two_clusters_the_larger_is_joined() -> None:
    """Broken: fresh nodes spread over two clusters."""
    founding = begun("d")
    founding._roster.link_up(peer("a", "x"))
    founding._roster.link_up(peer("b", "y"))
    founding._roster.link_up(peer("c", "y"))
    assert {name for name, _ in kinds(founding.tick(0))} <= {"b", "c"}


# ---- settled -------------------------------------------------------------------------------------


def test_a_saved_cluster_is_started_and_nothing_else_ever() -> None:
    """Broken: a used node founds or joins anew."""
    facts = Facts("x", members("a", "b", "c"), "a")
    founding = node("b", facts, expect=1)
    effects = founding.begin(0)
    assert [type(effect) for effect in effects] == [Start]
    founding.link_up(peer("a"), 0)
    founding.received("a", promise_of("a", "y", "a", "b", "c"), 10)
    founding.received("a", [int(Kind.FOUNDED), "y", rows_of(members("a", "b", "c"))], 20)
    founding.tick(LONG_MS)
    assert founding.facts == facts


def test_a_settled_node_tells_who_missed_it() -> None:
    """Broken: a member whose FOUNDED was lost, or an abandoned one, waits for ever."""
    founding = begun("a", Facts("x", members("a", "b", "c"), "a"))
    told = [int(Kind.FOUNDED), "x", rows_of(members("a", "b", "c"))]
    founding.link_up(peer("b"), 0)
    again = founding.received("b", [int(Kind.PROMISED), "a", True, "x"], 10)
    assert sends(again) == [("b", told)]
    own = member("b")
    join: list[object] = [int(Kind.JOIN), "b", own.incarnation, own.address]
    assert sends(founding.received("b", join, 20)) == [("b", told)]
    founding.link_up(peer("d"), 0)
    let_go = founding.received("d", [int(Kind.PROMISED), "a", True, "earlier"], 10)
    assert ("d", [int(Kind.PROMISE), "a", "earlier", []]) in sends(let_go)


def test_a_join_of_a_new_node_is_for_the_leader() -> None:
    """Broken: a node that lost its disk is told that it is a founding member."""
    founding = begun("a", Facts("x", members("a", "b", "c"), "a"))
    founding.link_up(peer("b", life=2), 0)
    founding.link_up(peer("d"), 0)
    for joiner in (member("b", life=2), member("d")):
        join: list[object] = [int(Kind.JOIN), joiner.name, joiner.incarnation, joiner.address]
        assert founding.received(joiner.name, join, 10) is None


def test_other_messages_are_not_for_this_room() -> None:
    """Broken: discovery swallows what the rest of the node waits for."""
    founding = begun("a", Facts("x", members("a"), "a"))
    founding.link_up(peer("b"), 0)
    for message in ([int(Kind.RAFT), {}], [int(Kind.LEAVE), "b"], [int(Kind.DENIED), "no"]):
        assert founding.received("b", message, 10) is None


def test_a_waiting_node_says_for_what() -> None:
    """Broken: a node that waits for others looks as if it hung."""
    founding = begun("b")
    founding.link_up(peer("c"), 0)
    lines = [e.text for t in range(0, 40_000, 100) for e in founding.tick(t) if isinstance(e, Log)]
    assert len(lines) == 3
    wanted = "waits for 3 fresh nodes to found cluster 'default': 2 here (b, c)"
    assert lines[0] == wanted


def test_odd_messages_change_nothing() -> None:
    """Broken: a message of the right shape with senseless content raises or binds."""
    founding = begun("b")
    founding.link_up(peer("a"), 0)
    twice = [["a", "x:1", "1"], ["a", "x:2", "1"]]
    for message in (
        [int(Kind.PROMISE), "a", "x", twice],
        [int(Kind.PROMISE), "c", "x", rows_of(members("a", "b", "c"))],
        [int(Kind.PROMISE), "a", "", rows_of(members("a", "b", "c"))],
        [int(Kind.WELCOME), "x", rows_of(members("a", "b"))],
        [int(Kind.FOUNDED), "", rows_of(members("a", "b"))],
        [int(Kind.PROMISED), "b", True, "x", "too", "long"],
    ):
        founding.received("a", message, 10)
        assert founding.facts == Facts(), message
