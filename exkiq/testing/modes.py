"""The two ways in which a test can have its jobs: run at once, or kept until it says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, cast

from exkiq import client as clients
from exkiq.operation_ids import OperationIds
from exkiq.orders import Ids
from exkiq.testing.clock import ManualClock
from exkiq.testing.desk import Desk, InlineDesk
from exkiq.testing.hand import Hand
from exkiq.testing.kept import Fake
from exkiq.testing.premises import Premises
from exkiq.testing.stage import Stage
from exkiq.testing.turns import Turns


@contextmanager
def fake(clock: ManualClock | None = None) -> Iterator[Fake]:
    """Keep the jobs that are enqueued in this block, in this process and without a node.

        with exkiq.testing.fake() as fake:
            sign_up("Ada")
            fake.assert_enqueued(Welcome, "Ada")
            fake.drain()

    The queue is the one of a cluster: ids, delays, retries, `call`, cancelling and queue
    handles do what they do there. Who waits for a result has the jobs run meanwhile, the clock
    going on by that time at most. Jobs of a `Local` queue are kept too, in the queue of that name.

    Shapes: `clock` is the time of the jobs, else one that begins with this moment.
    """
    with _in_place(Desk, clock or ManualClock()) as kept:
        yield kept


@contextmanager
def inline() -> Iterator[None]:
    """Run each job that is enqueued in this block here and now, in this process.

    It goes through a full encode round trip, and runs again as often as its retries say; no
    delay is waited for. An error does not reach the one who enqueues: the handle has it.
    """
    with _in_place(InlineDesk, ManualClock()):
        yield


@contextmanager
def _in_place(kind: type[Desk], clock: ManualClock) -> Iterator[Fake]:
    """A desk as the client of this process."""
    counter = count()

    def entropy(size: int) -> bytes:
        """Not chance but a number: the ids of a test are the same each time."""
        return next(counter).to_bytes(size, "big")

    stage = Stage(clock, OperationIds(entropy))
    premises = Premises(stage)
    hand = Hand(stage, premises)
    turns = Turns(stage, hand)
    desk = kind(stage, turns, Ids(clock, entropy), premises)
    before = clients.use(cast("Any", desk))
    try:
        yield Fake(stage, turns, premises)
    finally:
        clients.use(before)
        hand.close()
