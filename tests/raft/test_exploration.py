"""Every interleaving near the guard's rules: none breaks Raft's, and without a guard rule one does.

EXKIQ_EXPLORE_DEEPER=2 searches two steps deeper everywhere: each costs four times as long.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from exkiq.raft import guard, transport
from exkiq.raft.guard import Appending, Guard, Verdict
from tests.raft import explored_roots as roots
from tests.raft.exploration import Explorer, State, explore
from tests.raft.explored_member import small_parts

DEEPER = int(os.environ.get("EXKIQ_EXPLORE_DEEPER", "0"))
THREE = ("n1", "n2", "n3")
FIVE = (*THREE, "n4", "n5")
ALL = {"campaign": 2, "beat": 1, "propose": 1, "crash": 1, "die": 1, "reset": 1}
LATER = {"campaign": 1, "beat": 2, "propose": 1, "crash": 1, "reset": 1}
Root = Callable[[Explorer], State]


@pytest.fixture(autouse=True)
def _parts() -> Iterator[None]:
    with small_parts():
        yield


SEARCHES = [
    (roots.fresh, THREE, ALL, 4, 1000),
    (roots.led, THREE, ALL, 3, 300),
    (roots.two_leaders, THREE, LATER, 4, 1000),
    (roots.needs_snapshot, THREE, {"beat": 2, "reset": 1}, 6, 200),
    (roots.common_then_other, THREE, {"beat": 2, "reset": 1}, 6, 200),
    (roots.two_refusals, THREE, {"beat": 2, "reset": 1}, 6, 400),
    (roots.late_answer, FIVE, {"beat": 1}, 3, 200),
    (roots.split_vote, FIVE, {"repeat": 1}, 4, 400),
]


@pytest.mark.parametrize(
    ("root", "names", "budget", "depth", "states"),
    SEARCHES,
    ids=[root.__name__ for root, *_ in SEARCHES],
)
@pytest.mark.timeout(0 if DEEPER else 60)
def test_no_order_of_steps_breaks_a_rule_of_raft(
    root: Root, names: tuple[str, ...], budget: dict[str, int], depth: int, states: int
) -> None:
    """Some order of messages, elections, crashes and cuts would lose what was acknowledged."""
    explorer = Explorer(names, budget)
    found = explore(explorer, root(explorer), depth + DEEPER)
    print(f"{root.__name__}: depth {found.depth}, {found.states} states, {found.steps} steps")
    assert (found.broken, found.trace) == (None, ())
    assert found.states >= states  # a search that goes nowhere would pass


# ---- the guard with one rule less --------------------------------------------------------------


def answers_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transport, "_VOUCHING", ())


def snapshot_commit(patch: pytest.MonkeyPatch) -> None:
    append = Guard._append

    def without(self: Guard, message: dict[str, Any], view: guard.View) -> Verdict:
        verdict = append(self, message, view)
        if verdict.deliver is None or "prevLogIdx" in message:
            return verdict
        return Verdict(message, verdict.answer, verdict.appending)

    patch.setattr(Guard, "_append", without)


def verified_answers(patch: pytest.MonkeyPatch) -> None:
    stamp = Guard.stamp_answer

    def without(
        self: Guard, message: dict[str, Any], appending: Appending | None, view: guard.View
    ) -> dict[str, Any]:
        if appending is not None:
            appending = Appending(appending.seq, None, appending.conflict)
        return stamp(self, message, appending, view)

    patch.setattr(Guard, "stamp_answer", without)


def trim_and_rewind_cut(patch: pytest.MonkeyPatch) -> None:
    judged = Guard._answer

    def without(self: Guard, sender: str, message: dict[str, Any], view: guard.View) -> Verdict:
        self.rewound_at.clear()
        return judged(self, sender, message, view)

    patch.setattr(Guard, "_answer", without)
    whole = lambda message, _: Verdict(message, None, Appending(message["seq"]))  # noqa: E731
    patch.setattr(guard, "_trimmed", whole)


def term_filter(patch: pytest.MonkeyPatch) -> None:
    judged = Guard._answer

    def without(self: Guard, sender: str, message: dict[str, Any], view: guard.View) -> Verdict:
        return judged(self, sender, {**message, "term": view.term}, view)

    patch.setattr(Guard, "_answer", without)


def one_vote_each(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Guard, "_counts", lambda *_: True)


RULES = [
    (answers_at_once, roots.led, THREE, {"propose": 1, "die": 1}, 3, "on 1 of 3 disks"),
    (snapshot_commit, roots.needs_snapshot, THREE, {"beat": 2}, 5, "committed another entry"),
    (verified_answers, roots.common_then_other, THREE, {"beat": 2}, 6, "on 1 of 3 disks"),
    (trim_and_rewind_cut, roots.two_refusals, THREE, {"beat": 1}, 5, "on 1 of 3 disks"),
    (term_filter, roots.late_answer, FIVE, {}, 3, "on 2 of 5 disks"),
    (one_vote_each, roots.split_vote, FIVE, {"repeat": 1}, 4, "two leaders in term 1"),
]


@pytest.mark.parametrize(
    ("rule", "root", "names", "budget", "depth", "broken"),
    RULES,
    ids=[rule.__name__ for rule, *_ in RULES],
)
def test_without_a_rule_the_search_finds_what_it_is_for(
    rule: Callable[[pytest.MonkeyPatch], None],
    root: Root,
    names: tuple[str, ...],
    budget: dict[str, int],
    depth: int,
    broken: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A search that cannot find a lost entry says nothing by finding none."""
    explorer = Explorer(names, budget)
    begin = root(explorer)
    rule(monkeypatch)
    found = explore(explorer, begin, depth)
    assert found.broken is not None
    assert broken in found.broken


@pytest.mark.parametrize("seed", range(4))
def test_a_state_put_back_goes_on_as_if_nothing_had_been_between(seed: int) -> None:
    """Branches share one engine: what one leaves behind would hide or invent a fault."""
    chance = random.Random(seed)
    shared = Explorer(THREE, ALL)
    state, trace = roots.two_leaders(shared), []
    while len(trace) < 12:
        steps = list(shared.steps(state))
        for step in steps:  # the branches that are not followed
            shared.take(state, step)
        trace.append(chance.choice(steps or [("beat", "n1")]))
        state = shared.take(state, trace[-1])
    alone = Explorer(THREE, ALL)
    straight = roots.two_leaders(alone)
    for step in trace:
        straight = alone.take(straight, step)
    assert straight.links == state.links
    assert straight.key() == state.key()
