"""The inside of a child process: loads the APP, runs jobs, ends with its node.

Started by `exkiq.pool.children` with a socket's number and its configuration as JSON. The
socket is its only tie: when that ends, the node is gone and so is the child.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from exkiq.clock import SystemClock
from exkiq.errors import ConfigError
from exkiq.machine import limits
from exkiq.pool.assignment import Assignment
from exkiq.pool.attempt import Attempt, unresolved_row
from exkiq.pool.executors import LoopExecutor, ThreadExecutor
from exkiq.pool.loading import load
from exkiq.pool.outbox import Outbox
from exkiq.pool.stall import StallWatch
from exkiq.pool.words import Order, Word
from exkiq.pool.work import App, Catalog
from exkiq.service import Tasks
from exkiq.wire.frames import FrameDecoder, encode_frame

PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class ChildConfig:
    """What a child is told at its start."""

    modules: list[str]
    loader: str
    cwd: str
    node_pid: int


class ChildServer(asyncio.Protocol):
    """Serves its node.

    1. starts what START brings, each at once; the node keeps the number within the slots;
    2. is the port of running jobs: checkpoints, notes, `is_stopping`;
    3. leaves when told to, and at once when the line to the node ends.
    """

    def __init__(self, app: App) -> None:
        self.ended = asyncio.Event()
        self.is_stopping = False
        self._catalog = Catalog(app)
        self._clock = SystemClock()
        self._decoder = FrameDecoder(limits.FRAME_BYTES_MAX)
        loop = asyncio.get_running_loop()
        self._outbox = Outbox(loop, self._send)
        self.threads = ThreadExecutor(loop, self._outbox)
        self._loop_jobs = LoopExecutor(Tasks(), self._outbox)
        self._transport: asyncio.Transport | None = None
        self._orders: dict[int, Callable[[list[Any]], None]] = {
            Order.START: self._start,
            Order.STOPPING: self._stopping,
            Order.CANCEL: self._cancel,
            Order.END: self._end,
        }

    # --- the line to the node

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        for order in self._decoder.feed(data):
            kind, *rest = cast("list[Any]", order)
            self._orders[kind](rest)

    def connection_lost(self, _: Exception | None) -> None:
        # The node is gone, and its jobs run elsewhere soon: not one more line of user code.
        if not self.ended.is_set():
            os._exit(1)

    def _send(self, frames: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frames)

    # --- orders

    def _start(self, rest: list[Any]) -> None:
        for row in rest[0]:
            self._start_one(Assignment(*row))

    def _start_one(self, job: Assignment) -> None:
        try:
            work = self._catalog.find(job.task)
        except BaseException as error:  # noqa: BLE001 - user code; the job fails of it
            self._outbox.put(Word.FAILED, unresolved_row(job, error))
            return
        attempt = Attempt(job, work, self, self._clock)
        if work.is_async:
            self._loop_jobs.submit(attempt)
        else:
            self.threads.submit(attempt)

    def _stopping(self, _: list[Any]) -> None:
        self.is_stopping = True

    def _cancel(self, _: list[Any]) -> None:
        self._loop_jobs.cancel_all()

    def _end(self, _: list[Any]) -> None:
        self._outbox.flush()
        self.ended.set()

    # --- the port of running jobs, called from their threads too

    def save(self, job: Assignment, checkpoint: bytes) -> None:
        self._outbox.put_threadsafe(Word.CHECKPOINTS, [job.id, job.fence, checkpoint])

    def note(self, job: Assignment, text: str) -> None:
        self._outbox.put_threadsafe(Word.NOTES, [job.id, text])


async def serve(line: socket.socket, app: App) -> None:
    """Run jobs until told to leave."""
    loop = asyncio.get_running_loop()
    watch = StallWatch(loop, SystemClock())
    server = ChildServer(app)
    watch.start()
    transport, _ = await loop.create_unix_connection(lambda: server, sock=line)
    await server.ended.wait()
    if server.threads.is_busy:
        os._exit(0)  # its threads would be met by an interpreter that is going down
    watch.stop()
    transport.close()


def main(argv: list[str] | None = None) -> None:
    """The child's whole life."""
    descriptor, config_text = (sys.argv if argv is None else argv)[-2:]
    config = ChildConfig(**json.loads(config_text))
    hold_signals()
    end_with(config.node_pid)
    line = socket.socket(fileno=int(descriptor))
    line.set_inheritable(False)  # what a job starts must not hold the line open
    try:
        app = load(config.modules, config.loader, config.cwd)
    except ConfigError as error:
        line.sendall(encode_frame([int(Word.BROKEN), str(error)]))
        sys.exit(1)
    line.sendall(encode_frame([int(Word.READY), list(app.queues)]))
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(line, app))


def hold_signals() -> None:
    """Leave the end of this process to the node, which hears the same signals and drains.

    By functions that do nothing, not SIG_IGN: programs that jobs start would inherit that.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)


def end_with(node_pid: int) -> None:
    """Where the system offers it, die with the node even when user code blocks the loop."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (AttributeError, OSError):
        return  # not Linux: the end of the line has to do
    if os.getppid() != node_pid:
        os._exit(1)  # it died before it could be watched


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
