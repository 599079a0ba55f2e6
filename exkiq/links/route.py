"""One address worth dialling."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from exkiq.clock import Clock
from exkiq.errors import ClusterMismatch, ConfigError, ExkiqError
from exkiq.links.link import Link
from exkiq.links.timings import Timings
from exkiq.telemetry import log

FIRST_PAUSE_S = 0.05
DOUBLINGS_MAX = 10  # far past the longest pause


class Route:
    """Keeps one address dialled for ever.

    Duties: dial while no link to its node is up; pause between attempts, up to `timings.redial`
    and never in step with others; end when the address turns out to be our own.
    """

    def __init__(
        self,
        address: str,
        *,
        dial: Callable[[Route], Awaitable[Link]],
        is_linked: Callable[[Route], bool],
        jitter: Callable[[], float],
        clock: Clock,
        timings: Timings,
    ) -> None:
        self.address = address
        self.name = ""  # of the node that answered here last
        self.is_own = False
        self.is_hinted = False  # somebody says that it is worth a look, and it will have one
        self._dial = dial
        self._is_linked = is_linked
        self._jitter = jitter
        self._clock = clock
        self._timings = timings
        self._attempts = 0
        self._dialled_at = float("-inf")
        self._news = asyncio.Event()

    @property
    def rest_seconds(self) -> float:
        """Until the next dial for a mere hint: anybody may give a thousand of them a second."""
        return self._dialled_at + self._timings.redial - self._clock.monotonic()

    def wake(self) -> None:
        """Something changed: look again now."""
        self._news.set()

    async def keep(self) -> None:
        """Runs until cancelled, or until there is no use."""
        while True:
            self._news.clear()
            if self._is_linked(self):
                await self._until_lost()
                continue
            longest = await self._attempt()
            if longest is None:
                return
            if not self._is_linked(self):
                await self._pause(longest)

    async def _until_lost(self) -> None:
        since = self._clock.monotonic()
        await self._news.wait()
        if self._clock.monotonic() - since > self._timings.redial:
            self._attempts = 0  # it was a link worth the name

    async def _attempt(self) -> float | None:
        """Dial once; gives the longest pause after it, None when there is no use."""
        self._attempts += 1
        self._dialled_at = self._clock.monotonic()
        try:
            await self._dial(self)
        except ClusterMismatch:
            return self._timings.refused_redial
        except ConfigError as error:
            log.warning("will not dial %r: %s", self.address, error)
            return None
        except ExkiqError as error:
            log.debug("no link with %s: %s", self.address, error)
        if self.is_own:
            return None
        doublings = min(self._attempts - 1, DOUBLINGS_MAX)
        return min(self._timings.redial, FIRST_PAUSE_S * 2.0**doublings)

    async def _pause(self, longest: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(longest * (1 + self._jitter()) / 2):
                await self._news.wait()
