"""Notices user code that blocks a child's loop, and says which task it was."""

from __future__ import annotations

import asyncio
import threading

from exkiq.clock import Clock
from exkiq.telemetry import log

STALL_SECONDS = 1.0
BEAT_SECONDS = 0.25


class StallWatch:
    """Logs once for each time that the loop stands still for over a second.

    The loop beats; a thread beside it listens, because a loop that stands still cannot speak.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self._beat_at = clock.monotonic()
        self._is_told = False
        self._ended = threading.Event()

    def start(self) -> None:
        self._beat()
        threading.Thread(target=self._listen, name="exkiq-stall-watch", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def _beat(self) -> None:
        self._beat_at = self._clock.monotonic()
        self._is_told = False
        self._loop.call_later(BEAT_SECONDS, self._beat)

    def _listen(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self.look()

    def look(self) -> None:
        """Log if the loop has been silent for too long and nobody was told yet."""
        silent = self._clock.monotonic() - self._beat_at
        if silent < STALL_SECONDS or self._is_told:
            return
        self._is_told = True
        task = asyncio.current_task(self._loop)
        name = "its own work" if task is None else repr(task.get_name())
        log.warning(
            "a child's loop stands still for %.1f s in %s: blocking code belongs into a `def` "
            "task, or into asyncio.to_thread",
            silent,
            name,
        )
