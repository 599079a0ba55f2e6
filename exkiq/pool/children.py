"""One child process as its node sees it: its start, its line, its death."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from exkiq.clock import Clock
from exkiq.declarations import Declarations
from exkiq.pool.assignment import Assignment
from exkiq.pool.child import ChildConfig
from exkiq.pool.confirming import Confirming
from exkiq.pool.groups import shares
from exkiq.pool.ledger import Ledger
from exkiq.pool.line import Exit, Line, in_parts
from exkiq.pool.mark import Mark, memory_to_share
from exkiq.pool.words import WORDS, Order, Word
from exkiq.telemetry import log
from exkiq.wire.frames import encode_frame

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

# What a cancelled job with a process to itself is given to end in its own way.
CANCEL_GRACE_SECONDS = 1.0


# uvloop refuses to start a process while another loop of this process starts one, as the nodes
# of a program that has several of them do.
SPAWNING = threading.Lock()
SPAWN_RETRY_SECONDS = 0.002


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
    """How to start a child; the same for all children of a pool.

    Units: claim_seconds from an order until it is taken up.
    `is_isolated` children have one slot, for jobs that want a process to themselves.
    """

    modules: tuple[str, ...]
    loader: str
    concurrency: int
    sys_path: tuple[str, ...]
    cwd: str
    environ: Mapping[str, str] = field(default_factory=dict)
    queue_tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    processes: int = 1
    claim_seconds: float = 1.0
    is_isolated: bool = False

    def command(self, number: int, line: int, mark: int) -> list[str]:
        """`line` and `mark` are descriptors for the child."""
        config = ChildConfig(
            modules=list(self.modules),
            loader=self.loader,
            cwd=self.cwd,
            node_pid=os.getpid(),
            queue_tables={name: dict(table) for name, table in self.queue_tables.items()},
            number=number,
            processes=self.processes,
            concurrency=self.concurrency,
            is_isolated=self.is_isolated,
            log_level=log.getEffectiveLevel(),
        )
        path, told = json.dumps(self.import_path()), json.dumps(asdict(config))
        return [sys.executable, "-c", BOOT, path, str(line), str(mark), told]

    def groups(self, declarations: Declarations, number: int) -> dict[str, int]:
        """The slots of that child, by group."""
        slots = {} if self.is_isolated else declarations.slots
        return shares(slots, processes=self.processes, concurrency=self.concurrency, number=number)

    def import_path(self) -> list[str]:
        """The given entries, this process's own after them, and at any rate ourselves."""
        ourselves = str(Path(__file__).resolve().parents[2])
        return list(dict.fromkeys([*self.sys_path, *sys.path, ourselves]))


class ChildOwner(Protocol):
    """Who hears what a child says, and that it died."""

    def ready(
        self, child: ChildProcess, queues: tuple[str, ...], declarations: Declarations
    ) -> None: ...

    def late(self, child: ChildProcess, jobs: Sequence[Assignment]) -> None:
        """It has not begun these in time, and will not."""

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
        self.groups: dict[str, int] = {}  # its slots, known once it is ready
        self.unable: frozenset[str] = frozenset()  # tasks that it cannot run now
        self.withheld: Mapping[str, int] = {}  # group -> slots that are to stay empty
        self.is_late = False  # it has not begun what it was given, nor said a word since
        self.untouched: Sequence[Assignment] = ()  # what it had not taken up when it ended
        self.is_gone = asyncio.Event()
        self._plan = plan
        self._owner = owner
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._process: asyncio.SubprocessTransport | None = None
        self._line: asyncio.Transport | None = None
        self._has_exited = False
        self._is_line_over = False
        self._confirming = Confirming(plan.claim_seconds, clock, self._late)

    def __str__(self) -> str:
        return f"child {self.number} (pid {self.pid})"

    @property
    def pid(self) -> int:
        return 0 if self._process is None else self._process.get_pid()

    @property
    def free(self) -> int:
        """Slots without a job, of all groups; none while it cannot take one."""
        return sum(map(self.free_in, self.groups))

    def free_in(self, group: str) -> int:
        """Slots of the group without a job; none while it cannot take one."""
        if self.stage is not Stage.READY or self.is_late:
            return 0
        free = self.groups.get(group, 0) - self.ledger.taken(group)
        if self.withheld:
            free -= self.withheld.get(group, 0)
        return free if free > 0 else 0

    def run_ms(self, job: Assignment) -> int:
        """How long a job has been running in it."""
        return int((self._clock.monotonic() - self.ledger.begun_at[job.id]) * 1000)

    # --- start

    async def spawn(self) -> None:
        """Start the process. Errors: OSError when the system has no room for it."""
        while not SPAWNING.acquire(blocking=False):  # noqa: ASYNC110 - nobody tells across loops
            await asyncio.sleep(SPAWN_RETRY_SECONDS)
        try:
            await self._spawn()
        finally:
            SPAWNING.release()
        if self._has_exited:
            self._hang_up_soon()

    async def _spawn(self) -> None:
        here, there = socket.socketpair()
        try:
            with there:
                await self._start_process(there.fileno())
            self._line, _ = await self._loop.create_unix_connection(
                lambda: Line(self._heard, self._line_lost), sock=here
            )
        except BaseException:
            here.close()
            self.kill()
            if self._process is not None:
                self._process.close()
            raise

    async def _start_process(self, line: int) -> None:
        mark = memory_to_share()
        try:
            self._confirming.watch(Mark(mark))
            self._process, _ = await self._loop.subprocess_exec(
                lambda: Exit(self._exited),
                *self._plan.command(self.number, line, mark),
                stdin=subprocess.DEVNULL,
                stdout=None,
                stderr=None,
                pass_fds=(line, mark),
                cwd=self._plan.cwd,
                env={**os.environ, **self._plan.environ},
                start_new_session=True,
            )
        finally:
            os.close(mark)

    # --- orders

    def begin(self, jobs: Sequence[Assignment]) -> None:
        """Start these jobs; there are slots for them."""
        now = self._clock.monotonic()
        self.ledger.begin_all(jobs, now)
        for job in jobs:
            if job.timeout_ms:
                self._limit(job)
        for part in in_parts(jobs):
            number, start_by_ms = self._confirming.sent(part, now)
            self.order(Order.START, number, start_by_ms, part)

    def _limit(self, job: Assignment) -> None:
        seconds = job.timeout_ms / 1000 + TIMEOUT_GRACE_SECONDS
        self.ledger.limit(job, self._loop.call_later(seconds, self._owner.overdue, self, job))

    def stop_job(self, job: Assignment) -> None:
        """The job was cancelled; alone in a process it is killed if it does not listen."""
        self.ledger.stopping.add(job.id)
        self.order(Order.STOP_JOB, job.id, job.fence)
        if self._plan.is_isolated:
            self._loop.call_later(CANCEL_GRACE_SECONDS, self._end_stopped, job)

    def _end_stopped(self, job: Assignment) -> None:
        if self.ledger.find(job.id, job.fence) is not None:
            self.replace(Ending.HAND_BACK)

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
        number, *rest = word
        kind = WORDS[number]
        self.is_late = False
        if kind is Word.READY:
            self._is_ready(tuple(rest[0]), Declarations.from_row(rest[1]))
        elif kind is Word.BROKEN:
            self.fault = str(rest[0])
        else:
            self._owner.heard(self, kind, rest)

    def _is_ready(self, queues: tuple[str, ...], declarations: Declarations) -> None:
        self.is_loaded = True
        self.groups = self._plan.groups(declarations, self.number)
        self.ledger.group_by(self.groups)
        if self.stage is Stage.STARTING:
            self.stage = Stage.READY
        self._owner.ready(self, queues, declarations)

    def _late(self, jobs: Sequence[Assignment]) -> None:
        self.is_late = True
        self._owner.late(self, jobs)

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
        self.untouched = self._confirming.stop()
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


async def until_gone(children: Sequence[ChildProcess], seconds: float) -> None:
    """Wait until these are gone, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            for child in list(children):
                await child.is_gone.wait()
    except TimeoutError:
        return  # the caller looks at what is left
