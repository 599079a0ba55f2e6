"""The rules of founding, one by one."""

from __future__ import annotations

from exkiq.discovery.effects import Log, Save, Send, Start
from exkiq.discovery.facts import Facts, Promise, rows_of
from exkiq.discovery.founding import FOUNDER_GONE_MS, Phase
from exkiq.wire.messages import Kind
from tests.discovery.nodes import (
    begun,
    kinds,
    member,
    members,
    node,
    peer,
    promise_of,
    promised_to_a,
    sends,
)

LONG_MS = 3_600_000


# ---- founding ------------------------------------------------------------------------------------


def test_the_smallest_name_asks_for_promises_once_enough_are_there() -> None:
    """Broken: too few nodes found a cluster, or the wrong one does."""
    founding = begun("a")
    founding.link_up(peer("c"), 500)
    assert founding.tick(2_000) == []
    effects = founding.link_up(peer("b"), 2_000)
    asked = promise_of("a", "id-of-a-1", "a", "b", "c")
    assert [("b", asked), ("c", asked)] == sends(effects)
    assert isinstance(effects[0], Save), "the promise to itself must be durable first"
    larger = begun("b")
    larger.link_up(peer("a"), 2_000)
    assert larger.link_up(peer("c"), 2_000) == []


def test_the_founder_writes_it_down_before_it_tells() -> None:
    """Broken: a founder that crashes after telling and forgets its own cluster."""
    founding = begun("a")
    founding.link_up(peer("b"), 500)
    founding.link_up(peer("c"), 1_500)
    founding.received("b", [int(Kind.PROMISED), "a", True, "id-of-a-1"], 1_600)
    effects = founding.received("c", [int(Kind.PROMISED), "a", True, "id-of-a-1"], 1_700)
    assert effects is not None
    wanted = Facts("id-of-a-1", members("a", "b", "c"), "a")
    order = [type(effect) for effect in effects if not isinstance(effect, Log)]
    assert [Save, Start, Send, Send] == order
    assert Save(wanted) in effects
    assert founding.phase is Phase.SETTLED


def test_a_grant_for_another_attempt_is_not_counted() -> None:
    """Broken: a node that has been let go since is counted as bound."""
    founding = begun("a")
    founding.link_up(peer("b"), 500)
    founding.link_up(peer("c"), 1_500)
    founding.received("b", [int(Kind.PROMISED), "a", True, "id-of-a-1"], 1_600)
    effects = founding.received("c", [int(Kind.PROMISED), "a", True, "earlier"], 1_700)
    assert founding.phase is Phase.STANDING
    assert ("c", [int(Kind.PROMISE), "a", "earlier", []]) in sends(effects), "it must be let go"


def test_a_founder_yields_to_a_smaller_name() -> None:
    """Broken: two founders that each hold some promises wait for each other for ever."""
    founding = begun("b")
    founding.link_up(peer("c"), 500)
    founding.link_up(peer("d"), 1_500)
    effects = founding.link_up(peer("a"), 1_600)
    assert Save(Facts()) in effects
    let_go = [int(Kind.PROMISE), "b", "id-of-b-1", []]
    assert [("c", let_go), ("d", let_go)] == sends(effects)


def test_a_founder_asked_by_a_smaller_name_promises_in_one_step() -> None:
    """Broken: a founder that keeps its own attempt while promising to help another."""
    founding = begun("b")
    founding.link_up(peer("c"), 500)
    founding.link_up(peer("d"), 1_500)
    founding._roster.link_up(peer("a"))
    effects = founding.received("a", promise_of("a", "x", "a", "b", "c"), 1_600)
    assert [e for e in effects or [] if isinstance(e, Save)] == [
        Save(Facts(promise=Promise("a", "x", members("a", "b", "c"))))
    ]
    assert ("a", [int(Kind.PROMISED), "a", True, "x"]) in sends(effects)
    assert founding.phase is Phase.PROMISED


def test_a_member_that_stays_away_is_replaced() -> None:
    """Broken: one node that dies while promises are gathered stops the founding for ever."""
    founding = begun("a")
    founding.link_up(peer("b"), 500)
    founding.link_up(peer("c"), 1_500)
    founding.link_up(peer("d"), 1_600)
    founding.link_down("c", 1_700)
    assert sends(founding.tick(3_000)) == [("b", promise_of("a", "id-of-a-1", "a", "b", "c"))]
    assert Save(Facts()) in founding.tick(4_700)
    effects = founding.tick(6_000)
    asked = promise_of("a", "id-of-a-2", "a", "b", "d")
    assert sends(effects) == [("b", asked), ("d", asked)]


def test_a_refusal_in_favour_of_a_smaller_name_is_obeyed() -> None:
    """Broken: two founders that do not see each other hold some promises each, for ever."""
    founding = begun("b")
    founding.link_up(peer("c"), 500)
    founding.link_up(peer("d"), 1_500)
    effects = founding.received("c", [int(Kind.PROMISED), "b", False, "a"], 1_600)
    assert Save(Facts()) in (effects or [])
    assert ("d", [int(Kind.PROMISE), "b", "id-of-b-1", []]) in sends(effects)
    assert kinds(founding.tick(1_700)) == [], "it must not stand again at once"
    larger = begun("b")
    larger.link_up(peer("c"), 500)
    larger.link_up(peer("d"), 1_500)
    larger.received("c", [int(Kind.PROMISED), "b", False, "bb"], 1_600)
    assert larger.phase is Phase.STANDING


def test_a_member_that_lost_its_disk_is_listed_anew() -> None:
    """Broken: the cluster is founded with a voter that will never come back."""
    founding = begun("a")
    founding.link_up(peer("b"), 500)
    founding.link_up(peer("c"), 1_500)
    effects = founding.link_up(peer("c", life=2), 1_600)
    assert Save(Facts()) in effects
    again = founding.tick(3_000)
    listed = [member("a"), member("b"), member("c", life=2)]
    assert ("c", [int(Kind.PROMISE), "a", "id-of-a-2", rows_of(listed)]) in sends(again)


def test_a_restarted_founder_starts_over() -> None:
    """Broken: a list with the founder's old address is founded."""
    own = Facts(promise=Promise("a", "x", members("a", "b", "c")))
    founding = node("a", own)
    assert founding.begin(0) == [Save(Facts())]
    founding.link_up(peer("b"), 0)
    effects = founding.received("b", [int(Kind.PROMISED), "a", True, "x"], 10)
    assert sends(effects) == [("b", [int(Kind.PROMISE), "a", "x", []])]


def test_alone_and_nobody_to_look_for() -> None:
    """Broken: a single node waits for nobody."""
    founding = node("a", expect=1, join_wait_ms=0)
    effects = founding.begin(0)
    assert founding.facts == Facts("id-of-a-1", members("a"), "a")
    assert any(isinstance(e, Start) and e.membership.is_founder for e in effects)


def test_nobody_founds_alone_without_having_been_heard() -> None:
    """Broken: two nodes found alone while the link between them comes up."""
    founding = begun("a", expect=1)
    founding.link_up(peer("b"), 2_900)
    assert kinds(founding.tick(3_000)) == [("b", Kind.PROMISE)]
    assert founding.phase is Phase.LOOKING
    founding.received("b", [int(Kind.PROMISED), "a", True, "id-of-a-1"], 3_050)
    assert founding.phase is Phase.SETTLED
    mute = begun("a", expect=1)
    mute.link_up(peer("b"), 2_900)
    mute.tick(3_000)
    mute.tick(4_000)
    assert mute.phase is Phase.SETTLED, "a peer that never answers must not stop it"


def test_a_larger_name_waits_while_the_smaller_is_there() -> None:
    """Broken: everybody founds alone; or a smaller name that went away is waited for."""
    founding = begun("b", expect=1)
    founding.link_up(peer("a"), 100)
    founding.tick(60_000)
    assert founding.phase is Phase.LOOKING
    founding.link_down("a", 60_000)
    founding.tick(62_900)
    assert founding.phase is Phase.LOOKING
    founding.tick(63_000)
    assert founding.phase is Phase.SETTLED


# ---- promising -----------------------------------------------------------------------------------


def test_a_promise_is_exclusive() -> None:
    """Broken: one node counts for two founders."""
    founding = begun("c")
    founding.link_up(peer("b"), 0)
    first = founding.received("b", promise_of("b", "y", "b", "c", "d"), 10)
    assert first is not None
    assert isinstance(first[0], Save), "the promise must be durable before it is given"
    founding.link_up(peer("a"), 20)
    second = founding.received("a", promise_of("a", "x", "a", "c", "d"), 30)
    assert sends(second) == [("a", [int(Kind.PROMISED), "a", False, "b"])]
    assert founding.facts.promise == Promise("b", "y", members("b", "c", "d"))


def test_no_promise_to_a_larger_name() -> None:
    """Broken: of two candidates the wrong one wins."""
    founding = begun("c")
    founding.link_up(peer("a"), 0)
    founding.link_up(peer("b"), 0)
    effects = founding.received("b", promise_of("b", "y", "b", "c", "d"), 10)
    assert sends(effects) == [("b", [int(Kind.PROMISED), "b", False, "a"])]


def test_no_promise_beside_a_founded_cluster() -> None:
    """Broken: a second cluster is founded although the first is in sight or just restarting."""
    founding = begun("c")
    founding.link_up(peer("z", "old"), 0)
    founding.link_up(peer("a"), 0)
    effects = founding.received("a", promise_of("a", "x", "a", "b", "c"), 10)
    shown = member("z")
    assert ("a", [int(Kind.NOT_LEADER), "z", shown.address]) in sends(effects)
    assert ("a", [int(Kind.PROMISED), "a", False, "z"]) in sends(effects)
    founding.link_down("z", 20)
    effects = founding.received("a", promise_of("a", "x", "a", "b", "c"), 1_010)
    assert sends(effects) == [("a", [int(Kind.PROMISED), "a", False, ""])]


def test_time_does_not_release_a_promise() -> None:
    """Broken: the founder completed the list before it died, and a second cluster is founded."""
    founding = begun("b", promised_to_a("a", "b", "c"))
    founding.link_up(peer("c"), 0)
    founding.link_up(peer("d"), 0)
    founding.tick(LONG_MS)
    assert founding.phase is Phase.PROMISED
    effects = founding.received("c", [int(Kind.PROMISE), "c", "x", []], LONG_MS)
    assert founding.phase is Phase.PROMISED, f"only the founder may say so: {effects}"


def test_the_founder_releases_what_it_will_never_found() -> None:
    """Broken: nodes stay bound to an attempt that was given up; or a late word frees too much."""
    founding = begun("b", promised_to_a("a", "b", "c"))
    founding.link_up(peer("a"), 0)
    founding.received("a", [int(Kind.PROMISE), "a", "another", []], 10)
    assert founding.phase is Phase.PROMISED
    founding.received("a", [int(Kind.PROMISE), "a", "x", []], 20)
    assert founding.facts == Facts()


def test_a_founder_that_lost_its_disk_cannot_release() -> None:
    """Broken: a founder that forgot what it founded lets a member of that cluster go."""
    founding = begun("b", promised_to_a("a", "b", "c"))
    founding.link_up(peer("a", life=2), 0)
    founding.received("a", [int(Kind.PROMISE), "a", "x", []], 10)
    assert founding.phase is Phase.PROMISED, "c may be in cluster x"
    refused = founding.received("a", promise_of("a", "y", "a", "b", "d"), 20)
    assert sends(refused) == [("a", [int(Kind.PROMISED), "a", False, "a"])]
    founding.link_up(peer("c"), 30)
    assert founding.facts == Facts(), "nobody is in cluster x, nor can be"


def test_a_promise_is_said_again_until_it_is_answered() -> None:
    """Broken: a lost FOUNDED leaves a member outside for ever."""
    founding = begun("b", promised_to_a("a", "b", "c"))
    again = [int(Kind.PROMISED), "a", True, "x"]
    assert sends(founding.link_up(peer("a", "x"), 0)) == [("a", again)]
    assert sends(founding.tick(500)) == []
    assert sends(founding.tick(1_000)) == [("a", again)]
    founding.link_down("a", 1_100)
    assert sends(founding.link_up(peer("c", "x"), 1_200)) == [("c", again)]
    told = [int(Kind.FOUNDED), "x", rows_of(members("a", "b", "c"))]
    founding.received("c", told, 1_300)
    assert founding.facts == Facts("x", members("a", "b", "c"), "a")


def test_a_promised_node_joins_elsewhere_only_without_its_founder() -> None:
    """Broken: a founder that is there loses its members; or one that died blocks them."""
    founding = begun("b", promised_to_a("a", "b", "c"))
    founding.link_up(peer("a"), 0)
    founding.link_up(peer("z", "old"), 0)
    assert ("z", Kind.JOIN) not in kinds(founding.tick(FOUNDER_GONE_MS))
    founding.link_down("a", FOUNDER_GONE_MS)
    assert ("z", Kind.JOIN) in kinds(founding.tick(2 * FOUNDER_GONE_MS))
