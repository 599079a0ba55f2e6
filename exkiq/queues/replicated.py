"""The replicated queue: the machine in the house of the Raft log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from exkiq.errors import ExkiqError
from exkiq.machine import Answer, Applied, Machine
from exkiq.queues.protocol import raise_or_return
from exkiq.raft import Replica
from exkiq.raft.outcomes import Outcome


class ReplicatedHouse:
    """A `House` on a Raft replica; see `exkiq.queues.protocol` for the contract."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._listeners: list[Callable[[Applied], None]] = []

    @property
    def machine(self) -> Machine:
        return self._replica.machine

    @property
    def is_leader(self) -> bool:
        return self._replica.is_leader

    @property
    def leader(self) -> str | None:
        return self._replica.leader

    def propose_with(
        self, op: bytes, timeout: float, done: Callable[[Outcome | ExkiqError], None]
    ) -> None:
        self._replica.propose(op, timeout, done)

    def propose_nowait(self, op: bytes) -> None:
        self._replica.propose(op, None, None)

    async def propose(self, op: bytes, timeout: float) -> Answer:
        future: asyncio.Future[Outcome | ExkiqError] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome | ExkiqError) -> None:
            if not future.done():
                future.set_result(outcome)

        self._replica.propose(op, timeout, done)
        return raise_or_return(await future)

    def subscribe(self, listener: Callable[[Applied], None]) -> None:
        self._listeners.append(listener)

    def applied(self, applied: Applied) -> None:
        """An entry was applied: tell the subscribers, in the order in which they came."""
        for listener in self._listeners:
            listener(applied)
