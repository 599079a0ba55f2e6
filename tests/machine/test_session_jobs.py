"""Session jobs: one step at a time and in order, and a state that survives whatever ends a step."""

from __future__ import annotations

import pytest

from exkiq.machine import (
    Machine,
    Spec,
    State,
    check_invariants,
    encode_snapshot,
)
from tests.machine.driver import Driver

CART = Spec("app:Cart", "carts", retries=0)


class Carts(Driver):
    """A machine with one node; every entry leaves the rules unbroken."""

    def __init__(self) -> None:
        super().__init__()
        self.session = self.begin()

    def entry(self, *ops):
        answers = super().entry(*ops)
        assert check_invariants(self.machine) == []
        return answers

    def open(self, session_id="c", **changes):
        """Start a session job; its step's id, or why it was refused."""
        return self.session_start(CART._replace(**changes), session_id, b"")

    def post(self, payload=b"", session_id="c", verb="update"):
        return self.session_post(session_id, verb, payload)

    def run(self, step_id, state):
        """Have a step claimed and end with a state."""
        fence = self.take(self.session, step_id)
        return self.complete(self.session, [step_id], [fence], [state])

    def opened(self, state=b"s0", **changes):
        self.run(self.open(**changes), state)

    @property
    def waits(self):
        return self.waiting("carts")

    def state_of(self, session_id="c"):
        return self.machine.session_jobs[session_id].state


@pytest.fixture
def carts():
    return Carts()


def test_a_step_is_a_job_with_the_state_as_its_checkpoint(carts):
    """A handler would see another state than the last one gave."""
    first = carts.open()
    assert carts.waits == [first]
    assert carts.job(first).spec == CART._replace(task="app:Cart.on_start")
    assert carts.job(first).checkpoint is None
    carts.run(first, b"s0")
    second = carts.post(b"apple")
    record = carts.job(second)
    assert (record.spec.task, record.payload) == ("app:Cart.on_update", b"apple")
    assert record.checkpoint == b"s0"
    carts.run(second, b"s1")
    assert carts.state_of() == b"s1"
    assert carts.job(second).result == b"s1"
    last = carts.post(verb="finish")
    assert carts.job(last).spec.task == "app:Cart.on_finish"
    carts.run(last, b"end")
    assert carts.machine.session_jobs == {}
    assert carts.machine.session_steps == {}
    assert carts.job(last).result == b"end"


def test_one_step_at_a_time_in_the_order_of_the_posts(carts):
    """Two events would be handled at once, and one of the two states lost."""
    first = carts.open()
    later = [carts.post(bytes([number])) for number in range(3)]
    seen = []
    for step in (first, *later):
        assert carts.waits == [step]
        fence = carts.take(carts.session, step)
        assert carts.waits == []
        seen.append(carts.job(step).payload)
        carts.complete(carts.session, [step], [fence], [b"s"])
    assert seen == [b"", b"\0", b"\1", b"\2"]
    assert carts.waits == []


def test_several_session_jobs_do_not_wait_for_each_other(carts):
    steps = [carts.open(name) for name in "abc"]
    assert carts.waits == steps


def test_an_id_is_taken_until_it_is_finished_and_free_afterwards(carts):
    first = carts.open()
    assert carts.open().kind == "JobAlreadyExists"
    carts.run(first, b"s")
    assert carts.open().kind == "JobAlreadyExists"
    carts.run(carts.post(verb="finish"), b"end")
    again = carts.open()
    assert isinstance(again, str)
    assert again != first
    assert carts.post(session_id="nobody").kind == "NoSuchJob"


def test_a_step_that_fails_leaves_the_state_and_the_next_goes_on(carts):
    carts.opened()
    bad, good = carts.post(b"bad"), carts.post(b"good")
    carts.take(carts.session, bad)
    carts.fail_one(carts.session, bad, "failed")
    assert carts.state(bad) is State.FAILED
    assert carts.state_of() == b"s0"
    assert carts.waits == [good]
    assert carts.job(good).checkpoint == b"s0"


def test_a_failed_step_is_not_in_the_failed_set(carts):
    """Retried from there it would run beside the steps that came after it."""
    carts.opened()
    bad = carts.post()
    carts.take(carts.session, bad)
    carts.fail_one(carts.session, bad, "failed")
    assert carts.retry() == 0
    assert carts.count("failed", "abandoned") == [0, 1]
    assert carts.job(bad).errors[-1][0] == "ValueError"


def test_a_step_that_is_tried_again_keeps_its_turn(carts):
    carts.opened(retries=2)
    step, later = carts.post(b"1"), carts.post(b"2")
    carts.take(carts.session, step)
    carts.fail_one(carts.session, step, "retry", 5_000)
    assert carts.waits == []
    carts.tick(5_000)
    assert carts.waits == [step]
    carts.run(step, b"s1")
    assert carts.waits == [later]


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_step_that_is_handed_back_starts_with_the_same_state(carts, is_lost):
    """A checkpoint of the handler's own would be taken for the state."""
    carts.opened()
    step = carts.post()
    fence = carts.take(carts.session, step)
    assert carts.checkpoint(carts.session, step, fence, b"odd") is False
    carts.hand_back(carts.session, [step], [fence], [b"odd"], is_lost=is_lost)
    assert carts.waits == [step]
    assert carts.job(step).checkpoint == b"s0"


def test_a_step_that_is_lost_too_often_ends_and_the_next_goes_on(carts):
    carts.opened(max_lost=0)
    step, later = carts.post(), carts.post()
    carts.take(carts.session, step)
    carts.session_over("n1", carts.session, is_orderly=False)
    assert carts.state(step) is State.FAILED
    assert carts.waits == [later]
    assert carts.state_of() == b"s0"


def test_a_cancelled_step_leaves_the_state_and_the_next_goes_on(carts):
    carts.opened()
    step, later = carts.post(), carts.post()
    assert carts.cancel(step) == "ok"
    assert carts.waits == [later]
    assert carts.state_of() == b"s0"


@pytest.mark.parametrize("how", ["failed", "abandon", "cancel"])
def test_a_start_that_does_not_succeed_ends_all_that_waits(carts, how):
    """Somebody would wait for ever for a step of what never came into being."""
    first = carts.open()
    later = [carts.post(), carts.post(verb="finish")]
    if how == "cancel":
        carts.cancel(first)
    else:
        carts.take(carts.session, first)
        carts.fail_one(carts.session, first, how)
    assert carts.machine.session_jobs == {}
    assert [carts.state(step) for step in later] == [State.CANCELLED] * 2
    assert {record.id for record in carts.applied.ended} == {first, *later}
    assert carts.job(later[0]).errors[0][:2] == (
        "NoSuchJob",
        "session job 'c' ended before this step",
    )
    assert isinstance(carts.open(), str)


def test_what_waits_behind_a_finish_is_cancelled(carts):
    carts.opened()
    last, late = carts.post(verb="finish"), carts.post(b"late")
    carts.run(last, b"end")
    assert carts.state(late) is State.CANCELLED
    assert carts.waits == []


def test_a_finish_that_fails_changes_nothing(carts):
    carts.opened()
    last, later = carts.post(verb="finish"), carts.post()
    carts.take(carts.session, last)
    carts.fail_one(carts.session, last, "failed")
    assert carts.state_of() == b"s0"
    assert carts.waits == [later]


def test_a_value_that_could_not_be_kept_is_no_state(carts):
    carts.opened()
    carts.run(carts.post(), ("SerializationError", "a set"))
    assert carts.state_of() == b"s0"
    carts.run(carts.post(), None)
    assert carts.state_of() is None


def test_a_stale_completion_changes_no_state(carts):
    carts.opened()
    step = carts.post()
    fence = carts.take(carts.session, step)
    carts.hand_back(carts.session, [step], [fence])
    carts.complete(carts.session, [step], [fence], [b"stale"])
    assert carts.state_of() == b"s0"
    assert carts.waits == [step]


def test_no_job_can_take_the_id_of_a_step_that_waits(carts):
    """Its record would be replaced by the step's, when that has its turn."""
    carts.opened()
    carts.post()
    waiting = carts.post()
    assert carts.add(waiting, spec=CART).kind == "JobAlreadyExists"


def test_a_clear_takes_the_present_step_of_what_has_started(carts):
    """Those behind it are no jobs of the queue yet."""
    carts.opened()
    present, later = carts.post(), carts.post()
    assert carts.clear("carts") == 1
    assert carts.state(present) is State.CANCELLED
    assert carts.waits == [later]


def test_a_step_that_is_stopped_ends_and_the_next_goes_on(carts):
    carts.opened()
    for end in ("fail", "hand back", "over"):
        step, later = carts.post(), carts.post()
        fence = carts.take(carts.session, step)
        assert carts.cancel(step, running=True) == "stopping"
        if end == "fail":
            carts.fail_one(carts.session, step, "move", "other")
        elif end == "hand back":
            carts.hand_back(carts.session, [step], [fence], [b"odd"])
        else:
            carts.session_over("n1", carts.session, is_orderly=True)
            carts.session = carts.begin(run_id="again")
        assert carts.state(step) is State.CANCELLED
        assert carts.waits == [later]
        assert carts.job(later).checkpoint == b"s0"
        carts.run(later, b"s0")


@pytest.mark.parametrize("how", ["move", "fail"])
def test_a_step_that_is_moved_goes_on_there_and_the_next_waits_at_home(carts, how):
    carts.opened()
    step, later = carts.post(), carts.post()
    if how == "move":
        carts.move(step, "other")
    else:
        carts.take(carts.session, step)
        carts.fail_one(carts.session, step, "move", "other")
    assert (carts.waits, carts.waiting("other")) == ([], [step])
    carts.run(step, b"s1")
    assert carts.waits == [later]


@pytest.mark.parametrize("end", ["cancel", "clear", "unpark", "move"])
def test_a_step_that_was_put_aside_keeps_its_turn(carts, end):
    carts.opened()
    step, later = carts.post(), carts.post()
    task = carts.job(step).spec.task
    assert carts.park(task, [step, later]) == 1
    assert carts.waits == []
    if end == "cancel":
        carts.cancel(step)
    elif end == "clear":
        carts.clear("carts")
    elif end == "move":
        carts.move(step, "other")
        carts.run(step, b"s0")
    else:
        carts.unpark(task, 9)
        assert carts.waits == [step]
        carts.run(step, b"s0")
    assert carts.machine.parked == {}
    assert carts.waits == [later]


def test_steps_of_a_paused_queue_wait_until_it_goes_on(carts):
    carts.pause("carts")
    first = carts.open()
    later = carts.post()
    assert carts.waits == []
    carts.resume("carts")
    assert carts.waits == [first]
    fence = carts.take(carts.session, first)
    carts.pause("carts")
    carts.complete(carts.session, [first], [fence], [b"s"])
    assert carts.waits == []
    carts.resume("carts")
    assert carts.waits == [later]


def test_a_snapshot_holds_all_of_it_and_is_the_same_everywhere(carts):
    carts.open("a")
    carts.post(b"1", "a")
    carts.post(b"2", "a", "finish")
    carts.opened(state=b"\x93")
    data = encode_snapshot(carts.machine.capture())
    restored = Machine.restore(data)
    assert check_invariants(restored) == []
    assert encode_snapshot(restored.capture()) == data
    carts.machine = restored
    assert carts.state_of() == b"\x93"
    (step,) = carts.waits
    carts.run(step, b"s")
    assert carts.job(carts.waits[0]).payload == b"1"


def test_a_capture_does_not_change_while_steps_go_on(carts):
    carts.opened()
    step = carts.post()
    carts.post(b"late")
    capture = carts.machine.capture()
    data = encode_snapshot(capture)
    carts.run(step, b"s1")
    assert encode_snapshot(capture) == data
