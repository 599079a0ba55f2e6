"""Workers and queues for the tests of who gets which job."""

from __future__ import annotations

import time
from pathlib import Path

import exkiq
from exkiq import Worker
from exkiq.dispatchers import Dispatcher, Offer

HOLD_SECONDS_MAX = 20.0


class OnlyOn(Dispatcher):
    """Gives every job to one node, and to nobody while that has no slot."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.free = 0
        self.is_known = False

    def available(self) -> bool:
        return self.free > 0

    def check_in(self, slot: str) -> None:
        if slot == self.node:
            self.free += 1
            self.is_known = True

    def check_out(self, job: Offer) -> str | None:
        if not self.free or self.node not in job.nodes:
            return None
        self.free -= 1
        return self.node

    def remove(self, slot: str) -> None:
        if slot == self.node:
            self.free, self.is_known = 0, False

    def known(self, slot: str) -> bool:
        return slot == self.node and self.is_known


exkiq.queue("one-node", dispatcher=(OnlyOn, ("d2",)), weight=3)
exkiq.queue("asleep", paused=True)


class There(Worker, queue="one-node"):
    """Runs until a file is there, and says how far it is."""

    def perform(self, gate: str) -> str:
        self.progress({"done": 1, "of": 2})
        end = time.monotonic() + HOLD_SECONDS_MAX
        while not Path(gate).exists() and time.monotonic() < end:
            time.sleep(0.01)
        return gate


class Asleep(Worker, queue="asleep"):
    def perform(self) -> None:
        """Nothing: it is about whether it starts."""
