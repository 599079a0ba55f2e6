"""The machine in a house of its own: every operation is applied at once, in this process.

The same machine as on a cluster, so what works here works there: `exkiq.Local` queues stand in
it, tests of ours and of users run on it. With a journal nothing is applied, and so nothing is
acknowledged, before it is on the disk; else nothing is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from exkiq.clock import Clock
from exkiq.errors import ExkiqError, OutcomeUnknown, Unavailable
from exkiq.machine import Applied, Machine
from exkiq.machine.commands import encode_entry, peek_pid
from exkiq.machine.limits import ENTRY_BYTES_MAX
from exkiq.machine.outcomes import Answer
from exkiq.queues.protocol import Done, Listener, Outcome, raise_or_return
from exkiq.telemetry import log

TERM = 1


class Companion(Protocol):
    """Whoever adds to entries as a leader does, such as an aggregator."""

    def before_flush(self, ops: list[bytes]) -> list[bytes]:
        """What goes into the entry behind `ops`."""

    def applied(self, applied: Applied) -> None:
        """An entry was applied."""

    def wants_flush(self) -> bool:
        """Is an entry wanted although no operation waits?"""


class Book(Protocol):
    """Where entries are kept; `exkiq.queues.local_journal.LocalJournal` is one."""

    def append(self, index: int, body: bytes) -> None:
        """Keep an entry; it is on the disk when this returns. Errors: ExkiqError, for ever."""

    def applied(self, machine: Machine) -> None:
        """That entry was applied: time to think of a snapshot."""


def _nobody_is_told(_: str) -> None:
    """A house in memory cannot fail."""


class LocalHouse:
    """A `House` without a log: always the leader, never in doubt.

    An operation that is proposed from within a listener is applied after the present entry.

    `later` puts entries off to the end of a turn of the loop, so that all of a turn are one;
    `book` keeps them, and `machine` is what it kept so far. `on_failure` is told, once, why the
    book takes no more: from then on nothing is applied.
    """

    def __init__(
        self,
        clock: Clock,
        name: str = "local",
        later: Callable[[Callable[[], None]], object] | None = None,
        book: Book | None = None,
        machine: Machine | None = None,
    ) -> None:
        self._machine = Machine() if machine is None else machine
        self._clock = clock
        self._name = name
        self._later = later
        self._book = book
        self._failure = ""
        self.on_failure: Callable[[str], object] = _nobody_is_told
        self._companion: Companion | None = None
        self._listeners: list[Listener] = []
        self._waiting: dict[bytes, Done] = {}
        self._gathered: list[bytes] = []
        self._is_turning = self._is_turn_due = False

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
        if not self._failure:
            self._gathered.append(op)
            self.turn_soon()

    def propose_with(self, op: bytes, timeout: float, done: Done) -> None:  # noqa: ARG002
        pid = peek_pid(op)
        if pid is None:
            raise ValueError("an operation without an id")
        if self._failure:
            raise Unavailable(self._failure)
        self._waiting[pid] = done
        self.propose_nowait(op)

    async def propose(self, op: bytes, timeout: float) -> Answer:
        future: asyncio.Future[Outcome | ExkiqError] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome | ExkiqError) -> None:
            if not future.done():  # the caller may have been cancelled meanwhile
                future.set_result(outcome)

        self.propose_with(op, timeout, done)
        return raise_or_return(await future)

    def turn_soon(self) -> None:
        """Make entries at the end of this turn of the loop; without a loop at once."""
        if self._later is None:
            self.turn()
        elif not self._is_turn_due:
            self._is_turn_due = True
            self._later(self.turn)

    def turn(self) -> None:
        """Make entries until there is nothing to say. Call it after time has passed."""
        self._is_turn_due = False
        if self._is_turning or self._failure:
            return
        self._is_turning = True
        try:
            while self._gathered or (self._companion and self._companion.wants_flush()):
                self._flush()
        except ExkiqError as error:
            self._fail(error)
        finally:
            self._is_turning = False

    def _flush(self) -> None:
        ops = self._take()
        if self._companion:
            ops += self._companion.before_flush(ops)
        if not ops:
            return
        body = encode_entry(self._clock.now_ms(), TERM, ops)
        index = self._machine.index + 1
        if self._book is not None:
            self._book.append(index, body)
        applied = self._machine.apply(index, body)
        for pid, outcome in applied.results:
            done = self._waiting.pop(pid, None)
            if done is not None:
                done(outcome)
        if self._companion:
            self._companion.applied(applied)
        for listener in self._listeners:
            listener(applied)
        if self._book is not None:
            self._book.applied(self._machine)

    def _take(self) -> list[bytes]:
        """The oldest operations that fit into one entry; one at least."""
        room, count = ENTRY_BYTES_MAX, 0
        for op in self._gathered:
            room -= len(op)
            if count and room < 0:
                break
            count += 1
        taken, self._gathered = self._gathered[:count], self._gathered[count:]
        return taken

    def _fail(self, error: ExkiqError) -> None:
        """The book takes nothing more: nobody is told that something was done, now and for ever."""
        self._failure = str(error)
        self._gathered.clear()
        log.critical("%s", error)
        waiting, self._waiting = self._waiting, {}
        for done in waiting.values():
            done(OutcomeUnknown(self._failure))
        self.on_failure(self._failure)
