"""The reference model sees logs that break a promise, made by hand, and passes one that is good."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest

from exkiq.machine import Applied, Machine, commands
from exkiq.machine.outcomes import Claimed, Refused
from tests.sim.handmade import RETRY_NOW, History, answer, started
from tests.sim.violation import Violation
from tests.sim.watch import Watch

# ---- what must not happen in a log -----------------------------------------------------------


def said_to_be_made_and_was_not(made: History) -> None:
    made.enqueue("a")
    made.enqueue("a", lie=answer([1, []]))


def unique_id_taken_twice(made: History) -> None:
    made.enqueue("a", is_unique=True)
    made.enqueue("a", is_unique=True, lie=answer([1, []]))


def refused_and_made_all_the_same(made: History) -> None:
    made.enqueue("a", lie=answer(Refused("Refused", "no")))


def an_answer_is_missing(made: History) -> None:
    made.enqueue("a", lie=lambda applied: applied.results.clear())


def completed_under_an_old_fence(made: History) -> None:
    session, fence = started(made)
    made.complete(session, "a", fence - 1, lie=answer(1))


def completed_by_a_session_that_is_over(made: History) -> None:
    session, fence = started(made)
    made.begin()
    made.complete(session, "a", fence, lie=answer(1))


def ends_twice(made: History) -> None:
    session, fence = started(made)
    record = made.machine.jobs["a"]
    made.complete(session, "a", fence)
    made.complete(session, "a", fence, lie=lambda applied: applied.ended.append(record))


def end_is_not_told(made: History) -> None:
    session, fence = started(made)
    made.complete(session, "a", fence, lie=lambda applied: applied.ended.clear())


def lost_too_often_and_goes_on(made: History) -> None:
    session, fence = started(made)
    op = commands.hand_back(made.pid(), session, ["a"], [fence], is_lost=True)
    made.entry(op, lie=lambda applied: applied.ended.clear())


def claimed_twice_at_once(made: History) -> None:
    session, _ = started(made)
    records = [made.machine.jobs["a"]]

    def lie(applied: Applied) -> None:
        applied.claimed.append(Claimed("n1", session, made.index, records))

    made.claim(session, "a", lie=lie)


def claimed_after_it_was_cancelled(made: History) -> None:
    made.enqueue("a")
    session = made.begin()
    made.entry(commands.cancel(made.pid(), "a"))
    made.claim(session, "a", lie=answer(1))


def claimed_for_another_node(made: History) -> None:
    made.enqueue("a")
    session = made.begin()

    def lie(applied: Applied) -> None:
        applied.claimed[0] = applied.claimed[0]._replace(node="n2")

    made.claim(session, "a", lie=lie)


def fence_that_does_not_grow(made: History) -> None:
    made.enqueue("a")
    session = made.begin()

    def lie(applied: Applied) -> None:
        applied.claimed[0] = applied.claimed[0]._replace(fence=1)

    made.claim(session, "a", lie=lie)


def started_before_its_time(made: History) -> None:
    made.enqueue("a", delay_ms=500)
    session = made.begin()
    made.entry(commands.due(made.pid()))
    made.claim(session, "a", lie=answer(1))


def due_and_not_promoted(made: History) -> None:
    made.enqueue("a", delay_ms=500)
    made.now += 600
    made.entry(commands.due(made.pid()), lie=answer(0))


def started_out_of_a_paused_queue(made: History) -> None:
    made.enqueue("a")
    session = made.begin()
    made.entry(commands.pause(made.pid(), "default"))
    made.claim(session, "a", lie=answer(1))


def second_before_the_first(made: History) -> None:
    made.enqueue("a", "b")
    made.claim(made.begin(), "b")


def low_priority_before_high(made: History) -> None:
    made.enqueue("low")
    made.enqueue("high", priority=5)
    made.claim(made.begin(), "low")


def handed_back_and_overtaken(made: History) -> None:
    session, fence = started(made)
    made.entry(commands.hand_back(made.pid(), session, ["a"], [fence]))
    made.claim(session, "b")


def retry_overtakes(made: History) -> None:
    session, fence = started(made)
    made.fail(session, "a", fence, RETRY_NOW)
    made.claim(session, "a")


def one_run_too_many(made: History) -> None:
    made.enqueue("a")
    session = made.begin()
    for _ in range(3):
        made.fail(session, "a", made.claim(session, "a"), RETRY_NOW)


def cancelled_once_more_by_the_same_request(made: History) -> None:
    made.enqueue("a")
    op = commands.cancel(made.pid(), "a")
    made.entry(op)
    made.entry(op, lie=answer("not_found"))


def stop_that_nobody_is_told_of(made: History) -> None:
    started(made)
    op = commands.cancel(made.pid(), "a", running=True)
    made.entry(op, lie=lambda applied: applied.stopping.clear())


def stopped_and_tried_again(made: History) -> None:
    session, fence = started(made)
    made.entry(commands.cancel(made.pid(), "a", running=True))
    made.fail(session, "a", fence, RETRY_NOW, lie=lambda applied: applied.ended.clear())


def moved_while_it_runs(made: History) -> None:
    started(made)
    made.entry(commands.move(made.pid(), "a", "mail"), lie=answer("ok"))


def moved_to_where_it_is(made: History) -> None:
    made.enqueue("a")
    made.entry(commands.move(made.pid(), "a", "default"), lie=answer("ok"))


def moved_and_nobody_is_told(made: History) -> None:
    made.enqueue("a")
    made.entry(commands.move(made.pid(), "a", "mail"), lie=lambda applied: applied.moved.clear())


def claimed_while_it_is_put_aside(made: History) -> None:
    made.enqueue("a")
    session = made.begin()
    made.entry(commands.park(made.pid(), "m:t", ["a"]))
    made.claim(session, "a", lie=answer(1))


def put_aside_though_it_is_another_task(made: History) -> None:
    made.enqueue("a")
    made.entry(commands.park(made.pid(), "m:other", ["a"]), lie=answer(1))


def comes_back_behind_those_it_stood_before(made: History) -> None:
    made.enqueue("a", "b")
    session = made.begin()
    made.entry(commands.park(made.pid(), "m:t", ["a"]))
    made.entry(commands.unpark(made.pid(), "m:t", 1))
    made.claim(session, "b")


def pause_undone_and_done_again(made: History) -> None:
    made.enqueue("a")
    op = commands.pause(made.pid(), "default")
    made.entry(op)
    made.entry(commands.resume(made.pid(), "default"))
    made.entry(op, lie=answer(False))


def cleared_and_one_is_left(made: History) -> None:
    made.enqueue("a", "b")
    made.entry(commands.clear(made.pid(), "default"), lie=answer(1))


def deleted_and_still_there(made: History) -> None:
    session, fence = started(made)
    made.fail(session, "a", fence, ["failed"])
    made.entry(commands.delete(made.pid(), ["a"]), lie=answer(0))


def former_leader_is_obeyed(made: History) -> None:
    made.enqueue("a")
    session = made.begin()
    made.entry(term=2)
    op = commands.claim(made.pid(), [("n1", session, ["a"])])
    made.entry(op, term=2, said=1, lie=answer(1))


def terms_go_back(made: History) -> None:
    made.entry(term=2)
    made.entry(term=1)


BAD: dict[str, tuple[Callable[[History], None], ...]] = {
    "H2 twice": (cancelled_once_more_by_the_same_request, pause_undone_and_done_again),
    "H3": (
        said_to_be_made_and_was_not,
        unique_id_taken_twice,
        refused_and_made_all_the_same,
        an_answer_is_missing,
        completed_under_an_old_fence,
        completed_by_a_session_that_is_over,
        claimed_after_it_was_cancelled,
        started_before_its_time,
        due_and_not_promoted,
        started_out_of_a_paused_queue,
        cleared_and_one_is_left,
        deleted_and_still_there,
        former_leader_is_obeyed,
        moved_while_it_runs,
        moved_to_where_it_is,
        claimed_while_it_is_put_aside,
        put_aside_though_it_is_another_task,
    ),
    "H4": (
        ends_twice,
        end_is_not_told,
        lost_too_often_and_goes_on,
        stop_that_nobody_is_told_of,
        stopped_and_tried_again,
        moved_and_nobody_is_told,
    ),
    "H5": (claimed_twice_at_once, claimed_for_another_node, fence_that_does_not_grow),
    "H7": (one_run_too_many,),
    "H9": (
        second_before_the_first,
        low_priority_before_high,
        handed_back_and_overtaken,
        retry_overtakes,
        comes_back_behind_those_it_stood_before,
    ),
    "H14": (terms_go_back,),
}
CASES = [(kind, make) for kind, makes in BAD.items() for make in makes]


@pytest.mark.parametrize(("kind", "make"), CASES, ids=[make.__name__ for _, make in CASES])
def test_broken_log_is_seen(kind: str, make: Callable[[History], None]) -> None:
    """The simulator runs ten thousand seeds and looks away from this."""
    with pytest.raises(Violation) as caught:
        make(History())
    assert caught.value.kind == kind, caught.value


def _good() -> History:
    """Every operation once, each of consequence for a later one."""
    made = History()
    made.enqueue("a", "b", "c", is_unique=True)
    made.enqueue("later", delay_ms=300)
    session = made.begin()
    fence = made.claim(session, "a", "b")
    made.complete(session, "a", fence)
    made.fail(session, "b", fence, ["retry", 100])
    made.entry(commands.cancel(made.pid(), "c"))
    made.now += 400
    made.entry(commands.due(made.pid()))
    fence = made.claim(session, "b")
    made.fail(session, "b", fence, ["failed"])
    made.entry(commands.retry(made.pid(), ["b"]))
    fence = made.claim(session, "later", "b")
    made.fail(session, "later", fence, ["move", "mail"])
    made.entry(commands.hand_back(made.pid(), session, ["b"], [fence]))
    made.entry(commands.pause(made.pid(), "default"))
    made.entry(commands.resume(made.pid(), "default"))
    fence = made.claim(session, "b")
    made.fail(session, "b", fence, ["failed"])
    made.entry(commands.delete(made.pid(), ["b"]))
    made.entry(commands.clear(made.pid(), "mail"))
    made.now += 70_000
    made.entry(commands.due(made.pid()))
    made.enqueue("b")
    fence = made.claim(session, "b")
    made.entry(commands.session_over(made.pid(), "n1", session, is_orderly=True))
    session = made.begin("n2")
    made.claim(session, "b", node="n2")
    made.entry(commands.cancel(made.pid(), "b", running=True))
    made.fail(session, "b", made.index - 1, RETRY_NOW)
    made.enqueue("d", "e", "f")
    made.entry(commands.move(made.pid(), "d", "mail"))
    made.entry(commands.park(made.pid(), "m:t", ["f", "e", "d"]))
    made.entry(commands.unpark(made.pid(), "m:t", 2))
    made.claim(session, "e", node="n2")
    made.entry(commands.cancel(made.pid(), "e", running=True))
    made.entry(commands.session_over(made.pid(), "n2", session, is_orderly=False))
    made.entry(commands.clear(made.pid(), "default"))
    session, start = made.begin("n3"), made.open()
    bad, good, last = made.post(b"1"), made.post(b"2"), made.post(b"3", "finish")
    made.done(session, start, b"0", node="n3")
    made.entry(commands.cancel(made.pid(), bad))
    made.done(session, good, b"02", node="n3")
    made.post(b"late")
    made.done(session, last, b"023", node="n3")
    made.open()
    made.post()
    return made


Entries = list[tuple[int, int, bytes, Applied]]
SAFE_TO_REPEAT = (7, 9, 10, 11, 12, 13, 14, 23, 24)


def _replay(entries: Entries, machine: Machine) -> None:
    """What the checks of a run do with a log."""
    watch = Watch({}, lambda: 0.0)
    for entry in entries:
        watch.model.apply(*entry)
    node: Any = SimpleNamespace(name="n1", replica=SimpleNamespace(machine=machine))
    watch.conserved(node)
    watch.compare(node)


def test_good_log_passes() -> None:
    """A checker that cries at everything proves nothing either."""
    made = _good()
    _replay(made.entries, made.machine)


@pytest.mark.parametrize("number", range(len(_good().entries)))
def test_line_deleted_or_doubled_is_seen(number: int) -> None:
    """An operation that was lost, or that was carried out a second time, goes unnoticed."""
    made = _good()
    entries, (index, term, body, applied) = made.entries, made.entries[number]
    with pytest.raises(Violation):
        _replay(entries[:number] + entries[number + 1 :], made.machine)
    op = msgpack.unpackb(msgpack.unpackb(body[1:])[3])
    if op[0] not in SAFE_TO_REPEAT and op[-1] != 1:
        with pytest.raises(Violation):
            _replay([*entries[: number + 1], (index + 1, term, body, applied)], made.machine)
