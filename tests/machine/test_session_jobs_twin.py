"""Session jobs against a twin made of plain lists, over everything that can end a step."""

from __future__ import annotations

import random
from collections import deque

import pytest

from exkiq.machine import Machine, Refused, State, encode_snapshot, limits
from tests.machine.test_session_jobs import CART, Carts


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
