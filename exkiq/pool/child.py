"""The inside of a child process: loads the APP, runs jobs, ends with its node.

Started by `exkiq.pool.children` with the numbers of a socket and of its mark, and its
configuration as JSON. The socket is its only tie: when that ends, the node is gone and so is
the child.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from exkiq.clock import SystemClock
from exkiq.declarations import Declarations
from exkiq.declared import declared
from exkiq.errors import ConfigError
from exkiq.machine import limits
from exkiq.pool.ability import Ability
from exkiq.pool.assignment import Assignment
from exkiq.pool.attempt import Attempt
from exkiq.pool.error_text import error_row
from exkiq.pool.groups import shares
from exkiq.pool.loading import load
from exkiq.pool.loops import LoopExecutor
from exkiq.pool.mark import Mark
from exkiq.pool.outbox import Outbox
from exkiq.pool.parting import Farewell
from exkiq.pool.relaying import Relay
from exkiq.pool.stall import StallWatch
from exkiq.pool.successes import Successes
from exkiq.pool.telling import Telling
from exkiq.pool.threads import ThreadExecutor
from exkiq.pool.words import Order, Word
from exkiq.pool.work import App, Catalog
from exkiq.service import Tasks
from exkiq.success_modes import SuccessMode
from exkiq.telemetry import log
from exkiq.wire.frames import FrameDecoder, encode_frame
from exkiq.wire.messages import COMMON

PR_SET_PDEATHSIG = 1  # linux/prctl.h

# Why a task cannot be run: a line, not a page.
NOTE_CHARS_MAX = 1000


@dataclass(frozen=True, slots=True)
class ChildConfig:
    """What a child is told at its start. `queue_tables` is what the settings say of queues."""

    modules: list[str]
    loader: str
    cwd: str
    node_pid: int
    queue_tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    number: int = 1
    processes: int = 1
    concurrency: int = 1
    is_isolated: bool = False
    log_level: int = logging.WARNING


class ChildServer(asyncio.Protocol):
    """Serves its node.

    1. starts what START brings, each at once; the node keeps the number within the slots;
    2. is the home of running jobs: checkpoints, progress, notes, `is_stopping`;
    3. leaves when told to, and at once when the line to the node ends.
    """

    def __init__(self, app: App, config: ChildConfig, mark: Mark | None = None) -> None:
        self.ended = asyncio.Event()
        self.is_stopping = False
        self._mark = mark
        self._clock = SystemClock()
        self._decoder = FrameDecoder(limits.FRAME_BYTES_MAX)
        self._loop = asyncio.get_running_loop()
        self.outbox = Outbox(self._loop, self._send)
        self._catalog = Catalog(app)
        self._ability = Ability(self._loop, self.outbox, self._catalog)
        self._telling = Telling(self._loop, self.outbox, self._clock)
        self._successes = Successes(self.outbox, self._clock)
        self._tasks = Tasks()
        self._teams = {
            group: self._make_teams(group, slots) for group, slots in _groups(app, config).items()
        }
        threads, loops = zip(*self._teams.values(), strict=True)
        self._farewell = Farewell(threads, loops, self.outbox, self._tasks)
        self._transport: asyncio.Transport | None = None
        self._orders: dict[int, Callable[[list[Any]], None]] = {
            Order.START: self._start,
            Order.STOPPING: self._stopping,
            Order.CANCEL: lambda rest: self._farewell.cancel(*rest),
            Order.END: self._end,
            Order.STOP_JOB: self._stop_job,
            Order.COMMITTED: lambda rest: self._successes.committed(rest[0]),
            Order.SAVE: lambda rest: self._farewell.save(*rest),
        }

    def _make_teams(self, group: str, slots: int) -> tuple[ThreadExecutor, LoopExecutor]:
        threads = ThreadExecutor(
            self._loop, self.outbox, self._ability, self._clock, slots_max=slots, group=group
        )
        loop_jobs = LoopExecutor(
            self._tasks,
            self.outbox,
            self._ability,
            self._clock,
            slots_max=slots,
            group=group,
        )
        return threads, loop_jobs

    @property
    def has_busy_threads(self) -> bool:
        return any(threads.is_busy for threads, _ in self._teams.values())

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
        number, start_by_ms, rows = rest
        if self._mark is not None:
            self._mark.number = number  # before the clock is looked at: see `Confirming`
        if self._clock.monotonic() * 1000 <= start_by_ms:
            for row in rows:
                self._start_one(Assignment(*row))
            return
        for row in rows:  # the node is about to give them to others
            self.outbox.put(Word.RETURNED, row[:2])
        self.outbox.flush()  # before a job blocks the loop: they count as begun

    def _start_one(self, job: Assignment) -> None:
        try:
            work = self._catalog.find(job.task)
        except BaseException as error:  # noqa: BLE001 - user code; another node may know it
            self._unknown(job, error)
            return
        attempt = Attempt(job, work, self, self._clock)
        threads, loop_jobs = self._teams.get(job.queue) or self._teams[COMMON]
        if work.is_async:
            loop_jobs.submit(attempt)
        else:
            threads.submit(attempt)

    def _unknown(self, job: Assignment, error: BaseException) -> None:
        if self._ability.is_known(job.task):
            error_type, message, _ = error_row(error)
            self.outbox.note(f"cannot run {job.task}: {error_type}: {message}"[:NOTE_CHARS_MAX])
        self._ability.unknown(job.task)
        self.outbox.put(Word.RETURNED, [job.id, job.fence])

    def _stopping(self, _: list[Any]) -> None:
        self.is_stopping = True

    def _stop_job(self, rest: list[Any]) -> None:
        for threads, loop_jobs in self._teams.values():
            threads.stop_job(*rest)
            loop_jobs.stop_job(*rest)

    def _end(self, _: list[Any]) -> None:
        self.outbox.flush()
        self.ended.set()

    async def finish(self) -> None:
        """Wait for the success modes that were to be asked; the node waits a moment for that."""
        if self._successes.is_used:
            await asyncio.to_thread(self._successes.finish)

    def retire(self, seconds: float = 0.0) -> None:
        """Where others share its process: let its threads end, the success modes asked by then."""
        for threads, _ in self._teams.values():
            threads.retire()
        self._successes.finish(seconds)

    # --- the home of running jobs, called from their threads too

    def save(self, job: Assignment, checkpoint: bytes) -> None:
        self.outbox.put_threadsafe(Word.CHECKPOINTS, [job.id, job.fence, checkpoint])

    def tell(self, job: Assignment, progress: bytes) -> None:
        self._telling.say(job, progress)

    def succeeded(self, job: Assignment, mode: SuccessMode, value: object, run_ms: int) -> None:
        self._successes.keep(job, mode, value, run_ms)

    def note(self, job: Assignment, text: str) -> None:
        self.outbox.note(text, job.id)


def _groups(app: App, config: ChildConfig) -> dict[str, int]:
    """The slots of this child, by group."""
    slots = {} if config.is_isolated else declarations_of(app).slots
    return shares(
        slots,
        processes=config.processes,
        concurrency=config.concurrency,
        number=config.number,
    )


def declarations_of(app: App) -> Declarations:
    """What an APP declares; nothing if its loader knows of no such thing."""
    found: Declarations = getattr(app, "declarations", Declarations())
    return found


async def serve(line: socket.socket, mark: Mark, app: App, config: ChildConfig) -> None:
    """Run jobs until told to leave."""
    loop = asyncio.get_running_loop()
    watch = StallWatch(loop, SystemClock())
    server = ChildServer(app, config, mark)
    log.setLevel(config.log_level)
    log.addHandler(Relay(server.outbox))
    watch.start()
    transport, _ = await loop.create_unix_connection(lambda: server, sock=line)
    await server.ended.wait()
    await server.finish()
    if server.has_busy_threads:
        os._exit(0)  # its threads would be met by an interpreter that is going down
    watch.stop()
    transport.close()


def main(argv: list[str] | None = None) -> None:
    """The child's whole life."""
    descriptor, mark_descriptor, config_text = (sys.argv if argv is None else argv)[-3:]
    config = ChildConfig(**json.loads(config_text))
    hold_signals()
    end_with(config.node_pid)
    line = socket.socket(fileno=int(descriptor))
    line.set_inheritable(False)  # what a job starts must not hold the line open
    mark = Mark(int(mark_descriptor))
    os.close(int(mark_descriptor))
    try:
        app = load(config.modules, config.loader, config.cwd)
        declared.override(config.queue_tables)
    except ConfigError as error:
        line.sendall(encode_frame([int(Word.BROKEN), str(error)]))
        sys.exit(1)
    told = declarations_of(app).to_row()
    line.sendall(encode_frame([int(Word.READY), list(app.queues), told]))
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(line, mark, app, config))


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
