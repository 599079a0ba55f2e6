"""Directed schedules about terms, votes and answers: who may lead, and what a leader may count."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

from exkiq.raft import engine as engine_module
from exkiq.wire.messages import Kind
from tests.sim.stage import (
    FAR,
    FILLER,
    Message,
    append,
    are_level,
    begin,
    candidate,
    cut_off,
    elect,
    end,
    engine,
    hand,
    leader,
    lose,
    others,
    promise,
    set_election,
    stage,
    wait,
)
from tests.sim.violation import Violation
from tests.sim.world import Outcome, World


def vote_before_a_restart(made: World) -> Outcome:
    """A voter dies right after its vote; another candidate asks it for one in the same term."""
    begin(made, asks=False)
    first, second, voter = made.chance.sample(made.names, 3)
    second_term = elect(made, second).replica.term + 1
    mend = cut_off(made, second)
    lose(made, lambda sender, _, m: sender == first and m["type"] == "append_entries")
    elect(made, first, is_ready=False)
    if made.nodes[first].replica.term != second_term:
        raise Violation("H12 term", f"{first} leads in {made.nodes[first].replica.term}")
    made.kill(voter, is_told=False)
    cut_off(made, first)
    mend()
    made.start(voter)
    elect(made, second)
    wait(made, 1.0)
    return end(made)


def votes_of_strangers(made: World) -> Outcome:
    """Five nodes, two candidates; one is sent votes by nodes that are not members."""
    begin(made, asks=False)
    former = leader(made)
    one, other, *_ = made.chance.sample(others(made, former.name), 2)
    cut_off(made, former.name)
    lose(made, lambda sender, _, m: sender == one and m["type"] == "request_vote")
    candidate(made, one, lambda: bool(engine(made, one).is_candidate))
    term = made.nodes[one].replica.term
    set_election(made, one, FAR)
    cut_off(made, one)
    elect(made, other)
    stage(made, lambda: made.nodes[other].replica.term == term, "two candidates of a term")
    for stranger in ("x1", "x2", "x3"):
        hand(made, stranger, one, [int(Kind.RAFT), {"type": "response_vote", "term": term}])
    wait(made, 0.5)
    return end(made)


def one_vote_again(made: World) -> Outcome:
    """Five nodes, two candidates; the one vote that the first was given arrives three times."""
    begin(made, asks=False)
    former = leader(made).name
    one, voter, other, _ = made.chance.sample(others(made, former), 4)
    mend = cut_off(made, former)
    lose(made, lambda sender, to, m: m["type"] == "request_vote" and (sender, to) != (one, voter))
    candidate(made, one, lambda: bool(engine(made, one).is_candidate))
    term = made.nodes[one].replica.term
    set_election(made, one, FAR)
    stage(made, lambda: made.nodes[voter].replica.term == term, "it has one vote")
    cut_off(made, one, voter)
    made.network.filter = None
    stage(made, lambda: not engine(made, former).is_leader, "the former leader gives up")
    mend()
    elect(made, other)
    stage(made, lambda: made.nodes[other].replica.term == term, "two candidates of a term")
    for _ in range(2):
        hand(made, voter, one, [int(Kind.RAFT), {"type": "response_vote", "term": term}])
    wait(made, 0.3)
    return end(made)


def late_answers(made: World) -> Outcome:
    """Five nodes: a follower's answers reach their leader two elections later, in its next lead."""
    begin(made, asks=False)
    old, witness, new, confidant, last = made.chance.sample(made.names, 5)
    elect(made, old)
    wait(made, 1.0)
    rest, late = (new, confidant, last), []

    def first_lead(sender: str, to: str, message: Message) -> bool:
        if sender == witness and to == old and message["type"] == "next_node_idx":
            late.append(message)
            return True
        return {sender, to} & set(rest) != set() and {sender, to} & {old, witness} != set()

    lose(made, first_lead)
    append(made, old, *[FILLER] * 3)
    place = made.nodes[old].replica.journal.last_index
    stage(
        made,
        lambda: any(m["success"] and m["next_node_idx"] > place for m in late),
        "the witness has the entries",
    )
    stage(made, lambda: not engine(made, old).is_leader, "the old leader gives up")
    lose(made, lambda sender, to, _: witness in (sender, to))
    elect(made, new)
    stage(made, lambda: engine(made, old).leader == new, "the old leader follows")
    wait(made, 0.5)
    term = made.nodes[old].replica.term

    def second_lead(sender: str, to: str, message: Message) -> bool:
        is_append = message["type"] == "append_entries" and message["term"] > term
        return witness in (sender, to) or (is_append and to != confidant)

    lose(made, second_lead)
    elect(made, old, is_ready=False)
    wait(made, 0.1)
    for message in late:
        hand(made, witness, old, [int(Kind.RAFT), message])
    wait(made, 0.3)
    return end(made)


def newer_term(made: World) -> Outcome:
    """A follower campaigned unheard while the leader was paused, and is of a newer term now."""
    begin(made, asks=False)
    former = leader(made)
    ahead, _ = others(made, former.name)
    made.pause(former.name, 0.45)
    lose(made, lambda sender, _, m: sender == ahead and m["type"] == "request_vote")
    candidate(made, ahead, lambda: bool(engine(made, ahead).is_candidate))
    wait(made, 0.2)
    made.network.filter = None
    promise(
        made,
        lambda: len({node.replica.term for node in made.nodes.values()}) == 1 and are_level(made),
        "H13 term",
        f"{ahead} of a newer term takes part again",
    )
    return end(made)


def returning_follower(made: World) -> Outcome:
    """A follower comes back from a cut; what the leader, who is well, says is the last it hears."""
    begin(made, 0.5, asks=False)
    former = leader(made)
    term = former.replica.term
    name = made.chance.choice(others(made, former.name))
    mend = cut_off(made, name)
    wait(made, made.chance.uniform(0.4, 1.2))
    lose(made, lambda sender, to, _: (sender, to) == (former.name, name))
    mend()
    wait(made, 1.5)
    made.network.filter = None
    wait(made, 1.0)
    if leader(made) is not former or former.replica.term != term:
        raise Violation(
            "L5 needless election", f"{name} came back, {former.name} led in {term} and was well"
        )
    return end(made)


def flood_of_refusals(made: World) -> Outcome:
    """A deposed leader with one entry too many is sent a long log in many batches."""
    with patch.object(engine_module, "BATCH_BYTES", 20_000):
        begin(made, asks=False)
        mend = depose(made, 1)
        for _ in range(5):
            append(made, leader(made).name, *[FILLER * 5_000] * 10)
            wait(made, 0.2)
        mend()
        promise(made, lambda: are_level(made), "L1 catch-up", "a deposed leader has everything")
        return end(made)


def long_divergent_tail(made: World) -> Outcome:
    """A deposed leader comes back with many entries that nobody else has."""
    begin(made, asks=False)
    mend = depose(made, 150)
    append(made, leader(made).name, *[FILLER] * 160)
    wait(made, 0.3)
    mend()
    promise(
        made, lambda: are_level(made), "L2 catch-up", "a deposed leader has everything", seconds=3.0
    )
    return end(made)


def depose(made: World, count: int) -> Callable[[], None]:
    """Cut the leader off with so many entries of its own, elect another one; gives the mend."""
    former = leader(made).name
    mend = cut_off(made, former)
    append(made, former, *[FILLER] * count)
    elect(made, made.chance.choice(others(made, former)))
    stage(made, lambda: not engine(made, former).is_leader, "the former leader gives up")
    return mend
