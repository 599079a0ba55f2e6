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
from weakref import WeakSet

from exkiq.clock import Clock
from exkiq.pool.child import ChildConfig, ChildServer
from exkiq.pool.children import ChildOwner, ChildPlan, ChildProcess, Stage
from exkiq.pool.line import Line
from exkiq.pool.work import App
from exkiq.telemetry import log
from exkiq.wire.messages import COMMON

END_SECONDS = 5.0
"""What success modes that were to be asked are given at the end."""

CANCEL_SECONDS = 1.0
"""What jobs left on the loop are given to end, once they are cancelled."""

LOOK_SECONDS = 0.02
"""Between two looks at whether what hangs has ended."""

ENDLESS_SECONDS = 30 * 86_400.0  # there is no other child that could begin a job in time
PLAN = ChildPlan((), "", 1, (), "", claim_seconds=ENDLESS_SECONDS)
CONFIG = ChildConfig(modules=[], loader="", cwd="", node_pid=0)


class Workshop:
    """Owns the thread and the loop of the jobs; started with the first of them.

    User code may stop the loop, or raise SystemExit in a task of its own, which an asyncio loop
    passes on: it goes on all the same, since the other jobs are on it too.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._benches: WeakSet[Bench] = WeakSet()
        self._is_over = self._is_stopped = False
        self._is_cleared = threading.Event()

    def post(self, call: Callable[..., object], *args: object) -> None:
        """Have it called on the loop, in the order of the posts."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            # A daemon: the process ends when it is to, whatever user code hangs in.
            self._thread = threading.Thread(
                target=self._run, args=(self._loop,), name=self._name, daemon=True
            )
            self._thread.start()
        if not self._is_over:
            self._loop.call_soon_threadsafe(call, *args)

    def bench(self, app: App, tell: Callable[[bytes], object]) -> Bench:
        """A new one, which is open before anything that is posted from now on."""
        made = Bench(app, tell)
        self._benches.add(made)
        self.post(made.open)
        return made

    def close(self) -> None:
        """After all that was posted, end; what hangs in user code is not waited for."""
        if self._loop is not None and self._thread is not None:
            self.post(self._end, self._loop)
            self._is_over = True
            if self._is_cleared.wait(END_SECONDS) and not self._is_busy:
                self._thread.join(CANCEL_SECONDS)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        for bench in list(self._benches):
            bench.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        self._is_cleared.set()
        self._stop_idle(loop)

    def _stop_idle(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop once no thread has anything to say to the loop, and no task waits on it."""
        if self._is_busy or asyncio.all_tasks(loop):
            loop.call_later(LOOK_SECONDS, self._stop_idle, loop)
        else:
            self._is_stopped = True
            loop.stop()

    @property
    def _is_busy(self) -> bool:
        return any(bench.is_busy for bench in list(self._benches))

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while not self._is_stopped:
            try:
                loop.run_forever()
            except BaseException as error:  # noqa: BLE001 - of user code; see above
                log.error("%s raised on the loop of local jobs, which goes on", repr(error)[:200])
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


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

    @property
    def is_busy(self) -> bool:
        """Whether a thread of it runs a job."""
        return self._server is not None and self._server.has_busy_threads

    def retire(self) -> None:
        """It gets no more orders: its thread ends after what it runs."""
        if self._server is not None:
            self._server.retire()

    def close(self) -> None:
        """The same at the end of all, once the success modes were asked. May be called twice."""
        if self._server is not None:
            self._server.retire(END_SECONDS)


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

        loop = self._loop

        def heard(frames: bytes) -> None:
            if self._line is not None:
                words.data_received(frames)

        def tell(frames: bytes) -> None:
            if not loop.is_closed():  # else it comes from what hung at the end
                loop.call_soon_threadsafe(heard, frames)

        self._bench = workshop.bench(app, tell)
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
            self._workshop.post(self._bench.retire)
            self._loop.call_soon(self._end)

    @property
    def exit_reason(self) -> str:
        return "given up"
