"""The machine in a house of its own: every operation is applied at once, in this process.

The same machine as on a cluster, so what works here works there; tests of ours and of users
run on it. Nothing is written to disk.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from exkiq.clock import Clock
from exkiq.errors import ExkiqError
from exkiq.machine import Applied, Machine
from exkiq.machine.commands import encode_entry, peek_pid
from exkiq.machine.outcomes import Answer
from exkiq.queues.protocol import Done, Listener, Outcome, raise_or_return

TERM = 1


class Companion(Protocol):
    """Whoever adds to entries as a leader does, such as an aggregator."""

    def before_flush(self, ops: list[bytes]) -> list[bytes]:
        """What goes into the entry behind `ops`."""

    def applied(self, applied: Applied) -> None:
        """An entry was applied."""

    def wants_flush(self) -> bool:
        """Is an entry wanted although no operation waits?"""


class LocalHouse:
    """A `House` without a log: always the leader, never in doubt.

    An operation that is proposed from within a listener is applied after the present entry.
    """

    def __init__(self, clock: Clock, name: str = "local") -> None:
        self._machine = Machine()
        self._clock = clock
        self._name = name
        self._companion: Companion | None = None
        self._listeners: list[Listener] = []
        self._waiting: dict[bytes, Done] = {}
        self._gathered: list[bytes] = []
        self._is_turning = False

    @property
    def machine(self) -> Machine:
        return self._machine

    @property
    def is_leader(self) -> bool:
        return True

    @property
    def leader(self) -> str | None:
        return self._name

    def accompany(self, companion: Companion) -> None:
        """Let `companion` add to every entry from now on."""
        self._companion = companion

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def propose_nowait(self, op: bytes) -> None:
        self._gathered.append(op)
        self.turn()

    def propose_with(self, op: bytes, timeout: float, done: Done) -> None:  # noqa: ARG002
        pid = peek_pid(op)
        if pid is None:
            raise ValueError("an operation without an id")
        self._waiting[pid] = done
        self.propose_nowait(op)

    async def propose(self, op: bytes, timeout: float) -> Answer:
        future: asyncio.Future[Outcome | ExkiqError] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome | ExkiqError) -> None:
            if not future.done():  # the caller may have been cancelled meanwhile
                future.set_result(outcome)

        self.propose_with(op, timeout, done)
        return raise_or_return(await future)

    def turn(self) -> None:
        """Make entries until there is nothing to say. Call it after time has passed."""
        if self._is_turning:
            return
        self._is_turning = True
        try:
            while self._gathered or (self._companion and self._companion.wants_flush()):
                self._flush()
        finally:
            self._is_turning = False

    def _flush(self) -> None:
        ops, self._gathered = self._gathered, []
        if self._companion:
            ops += self._companion.before_flush(ops)
        if not ops:
            return
        body = encode_entry(self._clock.now_ms(), TERM, ops)
        applied = self._machine.apply(self._machine.index + 1, body)
        for pid, outcome in applied.results:
            done = self._waiting.pop(pid, None)
            if done is not None:
                done(outcome)
        if self._companion:
            self._companion.applied(applied)
        for listener in self._listeners:
            listener(applied)
