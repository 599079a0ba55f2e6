"""Session jobs: one step at a time and in order, and a state that survives whatever ends a step."""

from __future__ import annotations

import random
from collections import deque

import pytest

from exkiq.machine import (
    Machine,
    Refused,
    Spec,
    State,
    check_invariants,
    encode_snapshot,
    limits,
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


def test_a_repeated_request_posts_once(carts):
    """A client that asks again after a timeout would have its event handled twice."""
    from exkiq.machine import commands

    carts.opened()
    op = commands.session_post(carts.pid(), "c", "update", b"apple")
    answers = carts.entry(op, op)
    assert answers[0] == answers[1] == carts.waits[0]
    assert not carts.machine.session_jobs["c"].mailbox


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


def test_a_step_never_gets_the_id_of_a_job(carts):
    number = carts.machine.sequence
    carts.add(*(f"c/{number + n}" for n in range(12)), spec=CART._replace(queue="other"))
    step = carts.open()
    assert carts.waits == [step]


def test_bounds(carts, monkeypatch):
    """One user would fill every node's memory."""
    monkeypatch.setattr(limits, "SESSION_JOBS_MAX", 2)
    monkeypatch.setattr(limits, "SESSION_MAILBOX_MAX", 2)
    monkeypatch.setattr(limits, "SESSION_MAILBOX_BYTES_MAX", 10)
    carts.open("a")
    carts.open("b")
    assert "2 session jobs" in carts.open("c").text
    carts.post(b"123456", "a")
    assert "limit is 10" in carts.post(b"123456", "a").text
    carts.post(b"1234", "a")
    assert "2 steps waiting" in carts.post(b"", "a").text
    assert len(carts.machine.session_jobs["a"].mailbox) == 2


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


class Naive:
    """What session jobs should do, said with plain lists: the twin of the walk below."""

    def __init__(self) -> None:
        self.states: dict[str, list[bytes]] = {}
        self.mail: dict[str, deque[tuple[str, str, bytes]]] = {}  # the first is the present one
        self.retries: set[str] = set()

    def post(self, name, verb, payload, step):
        self.mail.setdefault(name, deque()).append((step, verb, payload))
        self.states.setdefault(name, [])

    def present(self):
        return {queue[0][0]: name for name, queue in self.mail.items() if queue}

    def end(self, step, is_done):
        name = self.present()[step]
        _, verb, payload = self.mail[name].popleft()
        if is_done:
            self.states[name] = [*self.states[name], payload]
        if (verb == "finish" and is_done) or (verb == "start" and not is_done):
            del self.mail[name], self.states[name]


@pytest.mark.parametrize("seed", range(20))
def test_a_random_walk_agrees_with_the_twin(seed, monkeypatch):
    """States, order and who has his turn, over lost nodes, retries, cancels and snapshots."""
    monkeypatch.setattr(limits, "SESSION_MAILBOX_MAX", 4)
    chance, carts, twin = random.Random(seed), Carts(), Naive()
    for number in range(120):
        name, payload = chance.choice("ab"), bytes([number])
        verb = chance.choice(("start", "update", "update", "update", "finish"))
        if verb == "start":
            answer = carts.session_start(CART._replace(max_lost=1), name, payload)
        else:
            answer = carts.session_post(name, verb, payload)
        if isinstance(answer, Refused):
            kinds = {"JobAlreadyExists": True, "NoSuchJob": False}
            assert kinds.get(answer.kind, True) == (name in twin.mail)
        else:
            twin.post(name, verb, payload, answer)
        _act(chance, carts, twin)
        if chance.random() < 0.1:
            carts.machine = Machine.restore(encode_snapshot(carts.machine.capture()))
        _same(carts, twin)


def _act(chance, carts, twin):
    """One of the steps that may run does, or comes back, or ends."""
    carts.tick(2_000)
    if not carts.waits:
        return
    step = chance.choice(carts.waits)
    state = b"".join([*twin.states[twin.present()[step]], carts.job(step).payload])
    match chance.randrange(7):
        case 0:
            carts.take(carts.session, step)
            carts.fail_one(carts.session, step, chance.choice(("failed", "abandon")))
            twin.end(step, is_done=False)
        case 1:
            carts.cancel(step)
            twin.end(step, is_done=False)
        case 2:
            carts.take(carts.session, step)
            carts.fail_one(carts.session, step, *chance.choice((["retry", 1_000], ["requeue"])))
        case 3:
            carts.take(carts.session, step)
            carts.session = carts.begin(run_id=f"run {carts.machine.index}")
            if carts.state(step) is State.FAILED:
                twin.end(step, is_done=False)
        case _:
            carts.run(step, state)
            twin.end(step, is_done=True)


def _same(carts, twin):
    machine = carts.machine
    assert twin.mail.keys() == machine.session_jobs.keys()
    for name, queue in twin.mail.items():
        job = machine.session_jobs[name]
        own = [] if job.step is None else [job.step, *job.mailbox]
        assert [turn.step_id for turn in own] == [step for step, _, _ in queue]
        assert b"".join(twin.states[name]) == (job.state or b"")
    present = {job.id for job in machine.jobs.values() if not job.completed_ms}
    assert present == set(twin.present())
