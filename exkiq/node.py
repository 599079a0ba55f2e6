"""A node: `exkiq start` in the foreground, or `exkiq.Node` inside a program.

with exkiq.Node(app="myapp.workers", name="n1", concurrency=10):
    ...
"""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from exkiq.assembly import Assembly
from exkiq.config import Settings, from_keywords
from exkiq.declarations import check_weight
from exkiq.errors import AlreadyStarted, NotRunning, Unavailable
from exkiq.options import check_queue_name
from exkiq.participant import Participant
from exkiq.queues.views import stats_map
from exkiq.service import Tasks
from exkiq.status import raft_map
from exkiq.telemetry import log, log_to_stderr

T = TypeVar("T")

COLLECT_AFTER = (5_000, 10, 50_000)
"""Of new jobs a collection of the first kind walks 5,000 and one of the second 50,000, which
takes about 10 ms. A full one would walk every job that waits, a second for some millions, and
practically never comes: exkiq itself makes no cycles to speak of."""

CALL_SECONDS_MAX = 5.0  # for a turn of a busy loop

START_SECONDS_MAX = 120.0  # children that load a large APP, and a cluster that is being founded


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop where it runs, else the standard loop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run(settings: Settings) -> int:
    """Run a node until SIGTERM or SIGINT; drain then, a second signal stops at once.

    Shapes: returns the exit code, 0 after a drain, 1 when the node could not go on.
    Errors: ConfigError, DataError at the start.
    """
    log_to_stderr(settings.log_level, settings.name)
    gc.set_threshold(*COLLECT_AFTER)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_run(settings))


async def _run(settings: Settings) -> int:
    foreground = _Foreground(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, foreground.told_to_stop)
    return await foreground.run()


class _Foreground:
    """A node whose life is the process: it ends by a signal, or when it cannot go on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._assembly = Assembly(settings, self._failed, self._told_to_leave)
        self._stopping: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._busy: asyncio.Task[Any] | None = None  # starting or draining: a signal cuts it off

    async def run(self) -> int:
        try:
            await self._cut_off_by_signals(self._assembly.start())
            code = await self._stopping
            if code == 0:
                await self._cut_off_by_signals(self._assembly.drain(self._settings.drain_timeout))
        finally:
            await self._assembly.stop()
        log.info("stopped")
        return code

    def told_to_stop(self) -> None:
        if self._busy is not None:
            log.warning("told to stop: what is under way is cut off")
            self._busy.cancel()
        elif not self._stopping.done():
            log.info(
                "told to stop: running jobs have %g s to end; a second signal stops at once",
                self._settings.drain_timeout,
            )
        self._end(0)

    def _failed(self, _: BaseException) -> None:
        self._end(1)

    def _told_to_leave(self, why: str) -> None:
        log.warning("%s", why)
        self._end(0)

    def _end(self, code: int) -> None:
        if not self._stopping.done():
            self._stopping.set_result(code)

    async def _cut_off_by_signals(self, work: Coroutine[Any, Any, None]) -> None:
        self._busy = asyncio.current_task()
        try:
            await work
        except asyncio.CancelledError:
            if not self._stopping.done():
                raise  # not by a signal of ours
        finally:
            self._busy = None


class Node:
    """A node inside this process: for tests, notebooks and small apps.

    Keywords are the settings of `exkiq start`. User code still runs in child processes, so the
    workers must stand in a module that can be imported: `app="myapp.workers"`.

    Errors: ConfigError for settings that cannot work, all at once.
    """

    def __init__(self, **keywords: Any) -> None:
        self.settings = from_keywords(keywords)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._assembly: Assembly | None = None
        self._failure: BaseException | None = None
        self._tasks = Tasks(lambda _, error: self._failed(error))

    def start(self) -> Self:
        """Start and return when the node takes part in its cluster.

        Errors: AlreadyStarted; ConfigError or DataError naming what is wrong.
        """
        if self._thread is not None:
            raise AlreadyStarted(f"node {self.settings.name} runs already")
        self._loop = loop = new_event_loop()
        self._thread = threading.Thread(
            target=loop.run_forever, name=f"exkiq-{self.settings.name}", daemon=True
        )
        self._thread.start()
        self._assembly = Assembly(self.settings, self._failed, self._told_to_leave)
        try:
            self._on_loop(self._assembly.start(), START_SECONDS_MAX)
        except BaseException:
            self.stop(drain=0.0)
            raise
        return self

    def wait_ready(self, timeout: float = 30.0) -> Self:
        """Return when this node is a member and may be given jobs.

        Units:  timeout in seconds.
        Errors: Unavailable when it takes longer.
        """
        assembly = self._running()
        try:
            self._on_loop(assembly.wait_ready(), timeout)
        except TimeoutError as error:
            raise Unavailable(
                f"node {self.settings.name} is not ready after {timeout:g} s: "
                f"no leader with a majority"
            ) from error
        return self

    def stop(self, drain: float | None = None) -> None:
        """Drain and stop; may be called twice. `drain` in seconds, None as the settings say."""
        if self._thread is None or self._loop is None or self._assembly is None:
            return
        timeout = self.settings.drain_timeout if drain is None else drain
        try:
            if self._failure is None:
                self._on_loop(self._assembly.drain(timeout), timeout + START_SECONDS_MAX)
            self._on_loop(self._assembly.stop(), START_SECONDS_MAX)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._thread = self._loop = self._assembly = None

    def __enter__(self) -> Self:
        return self.start().wait_ready()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # ---- facts -------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where peers and clients reach this node, "host:port"."""
        return self._running().address

    @property
    def is_leader(self) -> bool:
        return self._participant().replica.is_leader

    @property
    def leader(self) -> str | None:
        """Name of the leader, None while there is none."""
        return self._participant().replica.leader

    @property
    def aggregator(self) -> str | None:
        """Name of the node that hands out the work: the leader."""
        return self.leader

    @property
    def members(self) -> list[str]:
        """Names of all members, sorted."""
        return sorted(self._participant().replica.machine.members)

    @property
    def index(self) -> int:
        """The place of this node among `members`, from 0."""
        return self.members.index(self.settings.name)

    @property
    def next_node(self) -> str:
        """The next member by name, the first after the last; itself when alone."""
        members = self.members
        return members[(self.index + 1) % len(members)]

    def status(self) -> dict[str, Any]:
        """The map that `exkiq status --json` prints."""
        return self._call(Participant.status)

    def stats(self) -> dict[str, Any]:
        """What this node counts and goes by.

        Shapes: "counts" as of `exkiq.stats()`; "raft": term, leader, commit index, length of the
                log, voters and non-voters; "options": those in effect of its queues and pools.
        """

        def stats(participant: Participant) -> dict[str, Any]:
            replica = participant.replica
            return {
                "counts": stats_map(replica.machine),
                "raft": raft_map(replica),
                "options": participant.declarations.options(participant.session.queues),
            }

        return self._call(stats)

    def tree(self) -> dict[str, Any]:
        """The node with the parts that run in it, nested: raft, links, children and their slots."""
        assembly = self._running()
        return self._call(lambda _: assembly.tree())

    # ---- what it serves ------------------------------------------------------------------------

    def queues(self) -> list[str]:
        """The queues whose jobs this node runs, sorted."""
        return sorted(self._participant().session.queues)

    def workers(self) -> list[str]:
        """The names of the workers and tasks that this node can run, sorted."""
        return sorted(self._participant().declarations.tasks)

    def start_queue(self, name: str, *, weight: int = 1) -> None:
        """Run jobs of one more queue, from now until this node stops.

        Errors: AlreadyStarted; ValueError for what is no name or weight; Refused on a node
                without slots.
        """
        queue, share = check_queue_name(name), check_weight(weight)
        self._call(lambda participant: participant.session.start_queue(queue, share))

    def stop_queue(self, name: str) -> None:
        """Run no more jobs of a queue: those that wait stay for other nodes, those that run end.

        Errors: NotRunning for a queue that this node does not serve.
        """
        self._call(lambda participant: participant.session.stop_queue(name))

    def transfer_leadership(self, to: str | None = None) -> None:
        """Hand the lead to `to`, or to whoever is caught up best. Errors: NoQuorum."""
        self._on_loop(self._participant().governance.cluster_transfer(to), 10.0)

    # ---- inside ------------------------------------------------------------------------------

    def _running(self) -> Assembly:
        if self._assembly is None:
            raise NotRunning(f"node {self.settings.name} does not run: call start() first")
        if self._failure is not None:
            raise NotRunning(f"node {self.settings.name} stopped: {self._failure}")
        return self._assembly

    def _participant(self) -> Participant:
        return self._running().participant

    def _call(self, ask: Callable[[Participant], T]) -> T:
        """What `ask` gives, called on the node's loop."""
        participant = self._participant()

        async def call() -> T:
            return ask(participant)

        return self._on_loop(call(), CALL_SECONDS_MAX)

    def _failed(self, error: BaseException) -> None:
        self._failure = error

    def _told_to_leave(self, why: str) -> None:
        log.warning("%s", why)
        self._tasks.start(self._leave(why), name=f"leave of {self.settings.name}")

    async def _leave(self, why: str) -> None:
        if self._assembly is not None:
            await self._assembly.drain(self.settings.drain_timeout)
        self._failure = NotRunning(why)

    def _on_loop(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        if self._loop is None:
            work.close()
            raise NotRunning(f"node {self.settings.name} does not run: call start() first")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise
