"""Virtual time: one queue of events for all, and one host for each life of a node's process.

A host has a clock of its own, which runs a little ahead of the queue while the process works:
each reading of it costs time, and so does a slow disk. What is due for a host that is paused or
busy waits for it, in its order.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

CREEP = 0.00002  # with a frozen clock two loops of the engine never end
BUSY = 0.001  # what is due for a host that is further ahead than this waits
WALL_MS = 1_700_000_000_000


class PowerCut(BaseException):  # noqa: N818 - no error of the product may catch it
    """The host dies at this very instruction."""


class Handle:
    """What `call_later` gives."""

    __slots__ = ("is_cancelled",)

    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Scheduler:
    """Runs what is due, in order; `host` is whose turn it is."""

    def __init__(self, on_power_cut: Callable[[Host], None]) -> None:
        self.now = 0.0
        self.host: Host | None = None
        self.events = 0
        self._on_power_cut = on_power_cut
        self._queue: list[tuple[float, int, Host | None, Handle, Callable[..., None], Any]] = []
        self._count = 0

    def at(self, due: float, host: Host | None, act: Callable[..., None], *args: Any) -> Handle:
        self._count += 1
        handle = Handle()
        heapq.heappush(self._queue, (due, self._count, host, handle, act, args))
        return handle

    def after(self, delay: float, act: Callable[..., None], *args: Any) -> Handle:
        """An event of the world, not of a host."""
        return self.at(self.now + delay, None, act, *args)

    def run_until(self, end: float) -> None:
        queue = self._queue
        while queue and queue[0][0] <= end:
            due, _, host, handle, act, args = heapq.heappop(queue)
            self.now = max(self.now, due)
            if handle.is_cancelled or (host is not None and not host.is_alive):
                continue
            if host is None:
                act(*args)
                continue
            free = max(host.paused_until, host.local - BUSY)
            if free > self.now:
                self._count += 1
                heapq.heappush(queue, (free, self._count, host, handle, act, args))
                continue
            self.events += 1
            self.run_as(host, act, *args)
        self.now = max(self.now, end)

    def run_as(self, host: Host, act: Callable[..., None], *args: Any) -> None:
        host.local = max(host.local, self.now)
        before, self.host = self.host, host
        try:
            act(*args)
        except PowerCut as cut:
            if type(cut) is not PowerCut:
                raise
            self._on_power_cut(host)
        finally:
            self.host = before

    def monotonic(self) -> float:
        """The engine's clock: that of the host whose turn it is."""
        return self.now if self.host is None else self.host.monotonic()


class Host:
    """One life of one node's process: its clocks, and a loop for what runs in it."""

    def __init__(self, scheduler: Scheduler, name: str, life: int, wall_step_ms: int) -> None:
        self.name, self.life = name, life
        self.wall_step_ms = wall_step_ms
        self.is_alive = True
        self.local = scheduler.now
        self.paused_until = 0.0
        self._scheduler = scheduler
        self._boot = 1000.0 * (life + 1)  # readings of two processes have nothing in common

    # ---- a Clock -----------------------------------------------------------------------------

    def monotonic(self) -> float:
        self.local += CREEP
        return self._boot + self.local

    def now_ms(self) -> int:
        return WALL_MS + self.wall_step_ms + int(self.local * 1000)

    # ---- a loop ------------------------------------------------------------------------------

    def call_later(self, delay: float, act: Callable[..., None], *args: Any) -> Handle:
        return self._scheduler.at(self.local + delay, self, act, *args)

    def call_soon(self, act: Callable[..., None], *args: Any) -> Handle:
        return self._scheduler.at(self.local, self, act, *args)
