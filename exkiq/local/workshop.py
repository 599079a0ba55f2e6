"""Where the jobs of local queues run: the inside of a child, without a process around it.

    Workshop   a thread with a loop, on which `async def` runs; threads for `def` grow from it
    Bench      one slot's inside, on that loop
    Seat       the same slot as its household sees it, on the loop of the house

What the two say to each other is what a node and its child say, in the same frames.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import cast

from exkiq.clock import Clock
from exkiq.pool.child import ChildConfig, ChildServer
from exkiq.pool.children import ChildOwner, ChildPlan, ChildProcess, Stage
from exkiq.pool.groups import COMMON
from exkiq.pool.line import Line
from exkiq.pool.work import App

ENDLESS_SECONDS = 30 * 86_400.0  # there is no other child that could begin a job in time
PLAN = ChildPlan((), "", 1, (), "", claim_seconds=ENDLESS_SECONDS)
CONFIG = ChildConfig(modules=[], loader="", cwd="", node_pid=0)


class Workshop:
    """Owns the thread and the loop of the jobs; started with the first of them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None

    def post(self, call: Callable[..., object], *args: object) -> None:
        """Have it called on the loop, in the order of the posts."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            # A daemon: the process ends when it is to, whatever user code hangs in.
            threading.Thread(
                target=self._run, args=(self._loop,), name=self._name, daemon=True
            ).start()
        self._loop.call_soon_threadsafe(call, *args)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()


class Bench:
    """The inside of a slot; for its server the line to the node."""

    def __init__(self, app: App, tell: Callable[[bytes], object]) -> None:
        self._app = app
        self._tell = tell
        self._server: ChildServer | None = None

    def open(self) -> None:
        """Before anything is heard."""
        self._server = ChildServer(self._app, CONFIG)
        self._server.connection_made(cast("asyncio.BaseTransport", self))

    def hear(self, frames: bytes) -> None:
        """Orders."""
        if self._server is not None:
            self._server.data_received(frames)

    def write(self, frames: bytes) -> None:
        """Words."""
        self._tell(frames)

    def close(self) -> None:
        """As a transport has it."""


class Seat(ChildProcess):
    """A child that is a slot of this process: it starts at once, and cannot be killed.

    One that is given up says nothing more; what runs in it goes on, and nobody asks how it ends.
    """

    def __init__(
        self, number: int, app: App, workshop: Workshop, owner: ChildOwner, clock: Clock
    ) -> None:
        super().__init__(number, PLAN, owner, clock)
        self.name = str(number)
        self._workshop = workshop
        words = Line(self._heard, self._line_lost)

        def heard(frames: bytes) -> None:
            if self._line is not None:
                words.data_received(frames)

        loop = self._loop
        self._bench = Bench(app, lambda frames: loop.call_soon_threadsafe(heard, frames))
        workshop.post(self._bench.open)
        self._line = cast("asyncio.Transport", self)
        self.groups = {COMMON: 1}
        self.ledger.group_by(self.groups)
        self.stage = Stage.READY

    @property
    def has_room(self) -> bool:
        """Whether it may have a job, now or once its present one has ended."""
        return self.stage is Stage.READY and not self.withheld.get(COMMON, 0)

    def __str__(self) -> str:
        return f"slot {self.number}"

    def write(self, frames: bytes) -> None:
        """As the line to the child: orders."""
        self._workshop.post(self._bench.hear, frames)

    def abort(self) -> None:
        """As the line to the child."""

    def kill(self) -> None:
        """Hear nothing more of it."""
        if self._line is not None:
            self._line = None
            self._loop.call_soon(self._end)

    @property
    def exit_reason(self) -> str:
        return "given up"
