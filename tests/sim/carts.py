"""The model's session jobs: one step at a time, in order, and a state that is all its events.

What a step gives is the state it was handed and its own event behind it. So a state that was
lost, an event that came twice or out of turn, and two steps at once are all seen in the bytes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.sim.board import ENDED, WAITING, Board, Job

REFUSED = object()


class Turn(NamedTuple):
    """One thing that was asked of a session job."""

    step: str
    verb: str
    event: bytes


@dataclass
class Cart:
    """One session job; of its turns the first is a job."""

    spec: list[Any]
    state: bytes | None = None
    turns: deque[Turn] = field(default_factory=deque)

    @property
    def steps(self) -> list[str]:
        return [turn.step for turn in self.turns]


class Carts(Board):
    def __init__(self) -> None:
        super().__init__()
        self.pid = b""  # of the operation that is looked at
        self.paused: dict[str, bool] = {}
        self.carts: dict[str, Cart] = {}
        self.steps: dict[str, str] = {}  # id of a step that has not ended -> session job

    # ---- operations --------------------------------------------------------------------------

    def _op_23(self, spec: list[Any], name: str, event: bytes) -> Any:
        step = f"{name}/{self.pid.hex()}"
        if self._is_step(step):
            return step
        if name in self.carts:
            return REFUSED
        self.paused.setdefault(spec[1], False)
        self.carts[name] = Cart(spec)
        return self._turn(name, Turn(step, "start", event))

    def _op_24(self, name: str, verb: str, event: bytes) -> Any:
        step = f"{name}/{self.pid.hex()}"
        if self._is_step(step):
            return step
        if name not in self.carts:
            return REFUSED
        return self._turn(name, Turn(step, verb, event))

    def _is_step(self, step: str) -> bool:
        """Whether it was asked for before: then nothing happens."""
        return step in self.steps or self._is_taken(step)

    def _turn(self, name: str, turn: Turn) -> str:
        cart = self.carts[name]
        self.steps[turn.step] = name
        cart.turns.append(turn)
        if len(cart.turns) == 1:
            self._next(cart)
        return turn.step

    # ---- steps -------------------------------------------------------------------------------

    def _next(self, cart: Cart) -> None:
        if cart.turns:
            job = self._job(cart, cart.turns[0])
            self._to_tail(job)

    def _job(self, cart: Cart, turn: Turn) -> Job:
        task, queue, priority, retries, _ttl, max_lost, *_ = cart.spec
        job = Job(turn.step, queue, priority, retries, max_lost, self.now, 0)
        job.index, job.task = self.index, f"{task}.on_{turn.verb}"
        job.is_fresh = False  # a claim may be for a job that came later in the same entry
        self.jobs[turn.step] = job
        return job

    def _end(self, job: Job, how: str) -> None:
        is_step = job.id in self.steps
        # a failed step does not come back, so it is in no failed set
        super()._end(job, "abandoned" if is_step and how == "failed" else how)
        if is_step and how != "succeeded":
            cart, turn = self._end_turn(job.id)
            self._go_on(cart, is_over=turn.verb == "start")

    def _succeeded(self, step: str, value: bytes | None) -> None:
        """After the ends of all jobs of the same operation."""
        name = self.steps[step]
        cart, turn = self._end_turn(step)
        expected = (cart.state or b"") + turn.event
        if value != expected:
            self._broken("HA-07", f"{turn.verb} of {name} gave {value!r}, should be {expected!r}")
        cart.state = value
        self.shelf.keep_result(step, self.now)
        self._go_on(cart, is_over=turn.verb == "finish")

    def _end_turn(self, step: str) -> tuple[Cart, Turn]:
        name = self.steps.pop(step)
        cart = self.carts[name]
        turn = cart.turns.popleft()
        if turn.step != step:
            self._broken("HA-07", f"{step} ends before {turn.step}")
        return cart, turn

    def _go_on(self, cart: Cart, *, is_over: bool) -> None:
        if not is_over:
            self._next(cart)
            return
        (name,) = [name for name, each in self.carts.items() if each is cart]
        del self.carts[name]
        for turn in cart.turns:
            del self.steps[turn.step]
            job = self._job(cart, turn)
            self._put(job, WAITING)
            super()._end(job, "cancelled")
            assert job.state == ENDED
