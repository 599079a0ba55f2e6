"""Virtual time: one queue of events for all, and one host for each life of a node's process.

A host has a clock of its own, which runs a little ahead of the queue while the process works:
each reading of it costs time, and so does a slow disk. What is due for a host that is paused or
busy waits for it, in its order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

CREEP = 0.00002  # with a frozen clock two loops of the engine never end
BUSY = 0.001  # what is due for a host that is further ahead than this waits
WALL_MS = 1_700_000_000_000


class PowerCut(BaseException):
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
        heappush(self._queue, (due, self._count, host, handle, act, args))
        return handle

    def after(self, delay: float, act: Callable[..., None], *args: Any) -> Handle:
        """An event of the world, not of a host."""
        return self.at(self.now + delay, None, act, *args)

    def run_until(self, end: float) -> None:
        queue = self._queue
        while queue and queue[0][0] <= end:
            due, _, host, handle, act, args = heappop(queue)
            if due > self.now:
                self.now = due
            if handle.is_cancelled or (host is not None and not host.is_alive):
                continue
            if host is None:
                act(*args)
            elif host.backlog or host.free_at > self.now:
                self._put_off(host, handle, act, args)
            else:
                self.events += 1
                self.run_as(host, act, *args)
        self.now = max(self.now, end)

    def _put_off(self, host: Host, handle: Handle, act: Callable[..., None], args: Any) -> None:
        """What is due while the host is paused or busy waits in its order."""
        if not host.backlog:
            self.catch_up_at(host, host.free_at)
        host.backlog.append((handle, act, args))

    def catch_up_at(self, host: Host, due: float) -> None:
        host.catching_up.cancel()
        host.catching_up = self.at(due, None, self._catch_up, host)

    def _catch_up(self, host: Host) -> None:
        """The host works off what waited, until it is busy again."""
        backlog = host.backlog
        while backlog and host.is_alive:
            if host.free_at > self.now:
                self.catch_up_at(host, host.free_at)
                return
            handle, act, args = backlog.popleft()
            if not handle.is_cancelled:
                self.events += 1
                self.run_as(host, act, *args)

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
        host = self.host
        if host is None:
            return self.now
        host.local += CREEP
        return host._boot + host.local * host.rate


class Host:
    """One life of one node's process: its clocks, and a loop for what runs in it."""

    def __init__(self, scheduler: Scheduler, name: str, life: int, wall_step_ms: int) -> None:
        self.name, self.life = name, life
        self.wall_step_ms = wall_step_ms
        self.rate = 1.0  # seconds on this host's clocks in a second of the world
        self.is_alive = True
        self.local = scheduler.now
        self.paused_until = 0.0
        self.backlog: deque[tuple[Handle, Callable[..., None], Any]] = deque()
        self.catching_up = Handle()
        self._scheduler = scheduler
        self._boot = 1000.0 * (life + 1)  # readings of two processes have nothing in common

    @property
    def free_at(self) -> float:
        """When it may take the next event."""
        return max(self.paused_until, self.local - BUSY)

    def pause(self, until: float) -> None:
        """Nothing runs before that time, which may also end a pause early."""
        self.paused_until = until
        if self.backlog:
            self._scheduler.catch_up_at(self, self.free_at)

    # ---- a Clock -----------------------------------------------------------------------------

    def monotonic(self) -> float:
        self.local += CREEP
        return self._boot + self.local * self.rate

    def now_ms(self) -> int:
        return WALL_MS + self.wall_step_ms + int(self.local * self.rate * 1000)

    # ---- a loop ------------------------------------------------------------------------------

    def call_later(self, delay: float, act: Callable[..., None], *args: Any) -> Handle:
        return self._scheduler.at(self.local + delay / self.rate, self, act, *args)

    def call_soon(self, act: Callable[..., None], *args: Any) -> Handle:
        return self._scheduler.at(self.local, self, act, *args)
