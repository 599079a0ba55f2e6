"""One child process as its node sees it: its start, its line, its death."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from exkiq.clock import Clock
from exkiq.errors import RemoteWireError
from exkiq.machine import limits
from exkiq.pool.assignment import Assignment
from exkiq.pool.child import ChildConfig
from exkiq.pool.ledger import Ledger
from exkiq.pool.words import BATCH_BYTES_MAX, Order, Word
from exkiq.telemetry import log
from exkiq.wire.frames import FrameDecoder, encode_frame

# `-c` and not `-m`: the import path has to be there before the first import of exkiq.
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from exkiq.pool.child import main; main()"
)

# A dead child's last words are read before its death counts; a program that a job started may
# hold the line open for ever.
LAST_WORDS_SECONDS = 0.1

# From the end of the line to the end of the process, for handlers of the user at exit.
EXIT_SECONDS = 1.0

# What a job over its timeout is given to end in its own way, before the child is replaced.
TIMEOUT_GRACE_SECONDS = 1.0


class Stage(Enum):
    STARTING = "starting"
    READY = "ready"
    ENDING = "ending"  # told to, or made to
    GONE = "gone"


class Ending(Enum):
    """Why a child ends, which says what becomes of its jobs."""

    CRASH = "crash"  # nobody wanted it
    HAND_BACK = "hand back"  # we did; its jobs go back uncounted
    DROP = "drop"  # we did; its jobs are somebody else's already


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """How to start a child; the same for all children of a pool."""

    modules: tuple[str, ...]
    loader: str
    concurrency: int
    sys_path: tuple[str, ...]
    cwd: str
    environ: Mapping[str, str] = field(default_factory=dict)

    def command(self, descriptor: int) -> list[str]:
        config = ChildConfig(list(self.modules), self.loader, self.cwd, os.getpid())
        path = json.dumps(self.import_path())
        return [sys.executable, "-c", BOOT, path, str(descriptor), json.dumps(asdict(config))]

    def import_path(self) -> list[str]:
        """The given entries, this process's own after them, and at any rate ourselves."""
        ourselves = str(Path(__file__).resolve().parents[2])
        return list(dict.fromkeys([*self.sys_path, *sys.path, ourselves]))


class ChildOwner(Protocol):
    """Who hears what a child says, and that it died."""

    def ready(self, child: ChildProcess, queues: tuple[str, ...]) -> None: ...

    def heard(self, child: ChildProcess, word: Word, rest: list[Any]) -> None: ...

    def overdue(self, child: ChildProcess, job: Assignment) -> None: ...

    def gone(self, child: ChildProcess) -> None:
        """Called once; the jobs it did not end are still in its ledger."""


class ChildProcess:
    """One child.

    1. starts it in a session of its own, so that Ctrl-C in the terminal does not reach it;
    2. sends it orders, hears its words, and keeps the ledger of what runs in it;
    3. notices its death at once, by the exit of the process, after its last words;
    4. kills it with everything that its jobs started.
    """

    def __init__(self, number: int, plan: ChildPlan, owner: ChildOwner, clock: Clock) -> None:
        self.number = number
        self.stage = Stage.STARTING
        self.ending = Ending.CRASH
        self.ledger = Ledger()
        self.is_loaded = False
        self.fault: str | None = None  # what it said if it could not load the APP
        self.is_gone = asyncio.Event()
        self._plan = plan
        self._owner = owner
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._process: asyncio.SubprocessTransport | None = None
        self._line: asyncio.Transport | None = None
        self._has_exited = False
        self._is_line_over = False

    def __str__(self) -> str:
        return f"child {self.number} (pid {self.pid})"

    @property
    def pid(self) -> int:
        return 0 if self._process is None else self._process.get_pid()

    @property
    def free(self) -> int:
        """Slots without a job; none while it cannot take one."""
        if self.stage is not Stage.READY:
            return 0
        return self._plan.concurrency - len(self.ledger.running)

    def run_ms(self, job: Assignment) -> int:
        """How long a job has been running in it."""
        return int((self._clock.monotonic() - self.ledger.begun_at[job.id]) * 1000)

    # --- start

    async def spawn(self) -> None:
        """Start the process. Errors: OSError when the system has no room for it."""
        here, there = socket.socketpair()
        try:
            with there:
                self._process, _ = await self._loop.subprocess_exec(
                    lambda: _Exit(self._exited),
                    *self._plan.command(there.fileno()),
                    stdin=subprocess.DEVNULL,
                    stdout=None,
                    stderr=None,
                    pass_fds=(there.fileno(),),
                    cwd=self._plan.cwd,
                    env={**os.environ, **self._plan.environ},
                    start_new_session=True,
                )
            self._line, _ = await self._loop.create_unix_connection(
                lambda: _Line(self._heard, self._line_lost), sock=here
            )
        except BaseException:
            here.close()
            self.kill()
            if self._process is not None:
                self._process.close()
            raise
        if self._has_exited:
            self._hang_up_soon()

    # --- orders

    def begin(self, jobs: Sequence[Assignment]) -> None:
        """Start these jobs; there are slots for them."""
        now = self._clock.monotonic()
        for job in jobs:
            self.ledger.begin(job, now, self._deadline(job))
        for part in _parts(jobs):
            self.order(Order.START, part)

    def _deadline(self, job: Assignment) -> asyncio.TimerHandle | None:
        if not job.timeout_ms:
            return None
        seconds = job.timeout_ms / 1000 + TIMEOUT_GRACE_SECONDS
        return self._loop.call_later(seconds, self._owner.overdue, self, job)

    def order(self, order: Order, *rest: object) -> None:
        if self._line is not None:
            self._line.write(encode_frame([int(order), *rest]))

    def leave(self) -> None:
        """Tell it to end; it has nothing to do."""
        self._end_as(Ending.HAND_BACK)
        self.order(Order.END)

    def replace(self, ending: Ending) -> None:
        """Make it end now."""
        self._end_as(ending)
        self.kill()

    def _end_as(self, ending: Ending) -> None:
        if self.stage is not Stage.GONE:
            self.stage, self.ending = Stage.ENDING, ending

    def kill(self) -> None:
        """Kill the child and everything that its jobs started and that stayed in its group."""
        if self._process is not None and self.stage is not Stage.GONE:
            with suppress(ProcessLookupError, PermissionError):  # nobody is left in it
                os.killpg(self.pid, signal.SIGKILL)

    # --- what comes back

    def _heard(self, word: list[Any]) -> None:
        kind, *rest = word
        if kind == Word.READY:
            self.is_loaded = True
            if self.stage is Stage.STARTING:
                self.stage = Stage.READY
            self._owner.ready(self, tuple(rest[0]))
        elif kind == Word.BROKEN:
            self.fault = str(rest[0])
        else:
            self._owner.heard(self, Word(kind), rest)

    def _line_lost(self, error: Exception | None) -> None:
        self._line = None
        self._is_line_over = True
        if error is not None:
            log.error("%s does not speak our language and is replaced: %r", self, error)
            self.kill()
        if self._has_exited:
            self._end()
        else:
            self._loop.call_later(EXIT_SECONDS, self.kill)

    def _exited(self) -> None:
        self._has_exited = True
        if self._is_line_over:
            self._end()
        else:
            self._hang_up_soon()

    def _hang_up_soon(self) -> None:
        if self._line is not None:
            self._loop.call_later(LAST_WORDS_SECONDS, self._line.abort)

    def _end(self) -> None:
        if self.stage is Stage.GONE:
            return
        self.kill()  # what its jobs started has lost its purpose
        self.stage = Stage.GONE
        if self._process is not None:
            self._process.close()
        self._owner.gone(self)
        self.is_gone.set()

    @property
    def exit_reason(self) -> str:
        """How the process ended, in words."""
        code = None if self._process is None else self._process.get_returncode()
        if code is None:
            return "it did not start"
        if code >= 0:
            return f"exit code {code}"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"


def _parts(jobs: Sequence[Assignment]) -> list[list[Assignment]]:
    """`jobs` cut so that no frame gets much larger than a batch may be."""
    parts: list[list[Assignment]] = [[]]
    size = 0
    for job in jobs:
        if size > BATCH_BYTES_MAX:
            parts.append([])
            size = 0
        parts[-1].append(job)
        size += len(job.payload) + len(job.checkpoint or b"")
    return parts


class _Exit(asyncio.SubprocessProtocol):
    """Says that the process has exited."""

    def __init__(self, exited: Callable[[], None]) -> None:
        self._exited = exited

    def process_exited(self) -> None:
        self._exited()


class _Line(asyncio.Protocol):
    """The node's end of the line: frames to words."""

    def __init__(
        self, heard: Callable[[list[Any]], None], lost: Callable[[Exception | None], None]
    ) -> None:
        self._heard = heard
        self._lost = lost
        self._decoder = FrameDecoder(limits.FRAME_BYTES_MAX)
        self._transport: asyncio.BaseTransport | None = None
        self._fault: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._fault is not None:
            return
        try:
            for word in self._decoder.feed(data):
                self._heard(word)  # type: ignore[arg-type]
        except (RemoteWireError, TypeError, ValueError, LookupError) as error:
            # User code in the child can write what it likes; it must not take the node along.
            self._fault = error
            if self._transport is not None:
                self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._lost(self._fault)
