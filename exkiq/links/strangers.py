"""How many connections may be in their handshake at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from exkiq.config.addresses import is_loopback
from exkiq.links.opening import Opening
from exkiq.links.sockets import UNIX


@dataclass(frozen=True, slots=True)
class StrangerLimits:
    """Bounds on what costs memory before anyone proved anything.

    Processes of this machine share one address and start in droves, a web server with 40
    workers say; for them only the sum counts.
    """

    at_once: int = 64
    per_address: int = 8
    per_local_address: int = 64
    patience: float = 0.25  # seconds; an honest handshake takes a few milliseconds


class Strangers:
    """The connections in their handshake.

    Duties: refuse an address that has too many; when all places are taken, let the newcomers
    wait in the kernel's queue until the oldest had its `patience`, and give up on that one.
    """

    def __init__(self, limits: StrangerLimits, now: Callable[[], float]) -> None:
        self._limits = limits
        self._now = now
        self._hosts: dict[Opening, str] = {}
        self._came_at: dict[Opening, float] = {}
        self._left = asyncio.Event()

    def __len__(self) -> int:
        return len(self._hosts)

    def admits(self, host: str) -> bool:
        """Whether one more from this address may come in."""
        is_local = host == UNIX or is_loopback(host)
        limits = self._limits
        places = limits.per_local_address if is_local else limits.per_address
        return sum(other == host for other in self._hosts.values()) < places

    def came(self, opening: Opening, host: str) -> None:
        self._hosts[opening] = host
        self._came_at[opening] = self._now()

    def went(self, opening: Opening) -> None:
        self._hosts.pop(opening, None)
        self._came_at.pop(opening, None)
        self._left.set()

    async def room(self) -> None:
        """Wait until there is a place."""
        while len(self._hosts) >= self._limits.at_once:
            oldest = next(iter(self._hosts))
            rest = self._came_at[oldest] + self._limits.patience - self._now()
            if rest <= 0:
                oldest.abort("made room for another")
                continue
            self._left.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await self._left.wait()

    def abort(self) -> None:
        """Give up on all of them."""
        for opening in list(self._hosts):
            opening.abort("we stop")
