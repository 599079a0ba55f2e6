"""The reference model sees logs in which a session job does what it must not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from exkiq.machine import commands
from tests.sim.handmade import History, answer
from tests.sim.violation import Violation


def step_that_was_asked_for_twice_is_another_one(made: History) -> None:
    made.open()
    op = commands.session_post(made.pid(), "cart", "update", b"1")
    made.entry(op)
    made.entry(op, lie=answer("cart/other"))


def posted_to_nobody(made: History) -> None:
    op = commands.session_post(made.pid(), "cart", "update", b"1")
    made.entry(op, lie=answer(f"cart/{op[4:16].hex()}"))


def started_twice(made: History) -> None:
    made.open()
    made.open(lie=answer("cart/other"))


def checkpoint_instead_of_a_state(made: History) -> None:
    step = made.open()
    session = made.begin()
    fence = made.claim(session, step)
    made.entry(commands.checkpoint(made.pid(), session, step, fence, b"x"), lie=answer(True))


def state_without_an_event(made: History) -> None:
    made.done(made.begin(), made.open(), b"")


def next_step_before_its_turn(made: History) -> None:
    made.open()
    later = made.post()
    made.claim(made.begin(), later, lie=answer(1))


def steps_of_what_is_gone_vanish(made: History) -> None:
    start = made.open()
    made.post()
    made.entry(commands.cancel(made.pid(), start), lie=lambda applied: applied.ended.pop())


BAD: dict[str, tuple[Callable[[History], None], ...]] = {
    "H3": (
        step_that_was_asked_for_twice_is_another_one,
        posted_to_nobody,
        started_twice,
        checkpoint_instead_of_a_state,
        next_step_before_its_turn,
    ),
    "H4": (steps_of_what_is_gone_vanish,),
    "HA-07": (state_without_an_event,),
}
CASES = [(kind, make) for kind, makes in BAD.items() for make in makes]


@pytest.mark.parametrize(("kind", "make"), CASES, ids=[make.__name__ for _, make in CASES])
def test_broken_log_is_seen(kind: str, make: Callable[[History], None]) -> None:
    """The simulator runs ten thousand seeds and looks away from this."""
    with pytest.raises(Violation) as caught:
        make(History())
    assert caught.value.kind == kind, caught.value
