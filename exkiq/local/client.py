"""The client of a household: asks it as a client of a cluster asks a node."""

from __future__ import annotations

import asyncio

from exkiq.bridge import background
from exkiq.client import Client, chance
from exkiq.clock import Clock
from exkiq.connection import Connection
from exkiq.errors import ExkiqError, NotRunning
from exkiq.seeker import Dial, Seeker

PLACE = "this process"
ENQUEUE_SECONDS = 30.0
"""The house is always there: longer than any disk takes."""

CLOSED = "this local queue is closed: its process ends, or has been forked"


class LocalClient(Client):
    """Every verb of a client; nothing leaves the process."""

    def __init__(self, clock: Clock) -> None:  # nothing of a cluster is looked for
        self.enqueue_timeout = ENQUEUE_SECONDS
        self._clock = clock
        self._is_closed = False
        self._why = CLOSED
        self._start_anew()
        background.join(self)

    def open(self, loop: asyncio.AbstractEventLoop, door: Dial) -> None:
        """Ask at this door from now on; `loop` is that of the house."""
        self._connection = Connection(
            loop,
            Seeker(lambda: [PLACE], door, self._clock, PLACE),
            clock=self._clock,
            chance=chance,
            next_pid=self.next_pid,
        )

    def close(self) -> None:
        """It closes with its house."""

    async def hang_up(self, why: str, error: type[ExkiqError] = NotRunning) -> None:
        """Requests from now on raise NotRunning, those under way `error`. On the loop."""
        self._is_closed, self._why = True, why
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close(error, why)

    def _connect(self) -> Connection:
        raise NotRunning(self._why)

    def _where(self) -> str:
        return PLACE
