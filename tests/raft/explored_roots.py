"""Where the searches begin: states that random steps would need long to reach."""

from __future__ import annotations

from collections.abc import Iterable

from tests.raft.exploration import Explorer, State, Step


def deliver(*links: str) -> list[Step]:
    """Deliveries, each written as `n1>n2`."""
    return [("deliver", *link.split(">")) for link in links]


def lost(*pairs: str) -> list[Step]:
    """Links, each written as `n1-n2`, that lose what is on its way."""
    return [("reset", *pair.split("-")) for pair in pairs]


def fresh(explorer: Explorer) -> State:
    """Nobody leads."""
    return explorer.start()


def led(explorer: Explorer) -> State:
    """n1 leads, one operation is committed and everybody knows it."""
    state = explorer.start()
    for step in (("campaign", "n1"), ("propose", "n1"), ("beat", "n1")):
        state = explorer.quiet(explorer.run(state, [step]))
    return state


def two_leaders(explorer: Explorer) -> State:
    """n1 leads on with two entries that nobody got; n2 leads in the next term."""
    state = explorer.run(led(explorer), [*_alone("n1"), *_alone("n1"), *_elected("n2", "n3")])
    return explorer.run(without(explorer, state, "n1"), lost("n1-n2", "n1-n3"))


def needs_snapshot(explorer: Explorer) -> State:
    """n2 has compacted away what n1, which led before, has other entries for."""
    state = two_leaders(explorer)
    for _ in range(3):
        state = without(explorer, explorer.run(state, [("propose", "n2")]), "n1")
    return explorer.run(state, [("compact", "n2"), ("compact", "n2"), *lost("n1-n2")])


def common_then_other(explorer: Explorer) -> State:
    """n1 has two entries that n2 has and two that it has not; only n2 has its own."""
    state = led(explorer)
    for _ in range(2):
        got = [("propose", "n1"), *deliver("n1>n2", "n1>n3"), *lost("n1-n2", "n1-n3")]
        state = explorer.run(state, got)
    steps = [*_alone("n1"), *_alone("n1"), *_elected("n2", "n3"), *lost("n1-n2", "n2-n3")]
    return explorer.run(state, [*steps, ("propose", "n2"), *lost("n1-n2", "n2-n3")])


def two_refusals(explorer: Explorer) -> State:
    """Only n1 has its last four entries; two refusals of n3 are on their way, one was heard."""
    state = explorer.run(led(explorer), _alone("n1") * 4)
    steps = [("beat", "n1"), ("beat", "n1"), *deliver("n1>n3", "n1>n3", "n3>n1")]
    return explorer.run(state, [*steps, *lost("n1-n2"), ("beat", "n1"), *deliver("n1>n3", "n1>n3")])


def late_answer(explorer: Explorer) -> State:
    """Five members: an answer to n1 is two elections old, when n1 leads again."""
    state = explorer.run(led(explorer), [("propose", "n1"), ("propose", "n1")])
    state = explorer.run(state, [*deliver("n1>n2", "n1>n2"), *lost("n1-n3", "n1-n4", "n1-n5")])
    state = explorer.run(state, [("campaign", "n3"), *deliver("n3>n4", "n3>n5", "n4>n3", "n5>n3")])
    state = explorer.run(state, deliver("n3>n1", "n3>n1", "n3>n4", "n3>n4", "n3>n5", "n3>n5"))
    state = explorer.run(state, [("campaign", "n1"), *deliver("n1>n4", "n1>n5")])
    state = explorer.run(state, lost("n3-n4", "n3-n5"))
    return explorer.run(state, deliver("n4>n1", "n5>n1", "n1>n4"))


def split_vote(explorer: Explorer) -> State:
    """Five members: one has voted for n1, two for n3, in the same term."""
    return explorer.run(
        explorer.start(),
        [("campaign", "n1"), ("campaign", "n3"), *deliver("n1>n2", "n3>n4", "n3>n5")],
    )


def without(explorer: Explorer, state: State, name: str) -> State:
    """The state when everything between the others has arrived."""
    while links := [link for link in state.links if state.links[link] and name not in link]:
        state = explorer.run(state, [("deliver", *links[0])])
    return state


def _alone(leader: str) -> list[Step]:
    others = sorted({"n1", "n2", "n3"} - {leader})
    return [("propose", leader), *(("reset", *sorted((leader, other))) for other in others)]


def _elected(name: str, voter: str) -> Iterable[Step]:
    return [("campaign", name), *deliver(f"{name}>{voter}", f"{voter}>{name}")]
