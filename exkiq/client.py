"""The client of a process: finds a node by itself, from any thread or loop, also after a fork.

A node is found by the URL given to `connect`, else EXKIQ_URL, else by the Unix sockets of the
nodes on this machine that belong to EXKIQ_CLUSTER. Nothing is opened before the first request.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from exkiq.bridge import LoopWaiter, ThreadWaiter, Waiter, background
from exkiq.clock import Clock, SystemClock
from exkiq.config.certificates import TlsFiles
from exkiq.connection import Connection
from exkiq.errors import EnqueueTimeout, NotRunning
from exkiq.job import Job, QueueHandle
from exkiq.machine import commands
from exkiq.orders import Enqueue, Group, Ids, Order, in_groups
from exkiq.rendezvous import runtime_folder, sockets
from exkiq.requests import CATCH_UP_SECONDS, Proposal, Read, Request, ResultWait, StatsAfter, ask
from exkiq.seeker import Dial, Seeker, dialler, given_certificates, given_places, given_secret
from exkiq.wire.hello import Hello

R = TypeVar("R", bound=Request)

# A share in [0, 1), for waits that should differ between processes.
chance: Callable[[], float] = random.Random().random  # noqa: S311 - only spreads waits


class Client:
    """Asks the nodes of one cluster; no member of it.

    Safe in threads, and in a child made by fork, which opens a link of its own.

    Units:  enqueue_timeout in seconds, for all that is not said to have a time of its own.
    Errors: ConfigError for what is no URL, address, secret or certificate.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        cluster: str | None = None,
        peers: Sequence[str] = (),
        secret: bytes | None = None,
        tls: TlsFiles | None = None,
        enqueue_timeout: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self.enqueue_timeout = enqueue_timeout
        self._cluster = cluster or os.environ.get("EXKIQ_CLUSTER") or ""
        self._fixed_places = given_places(url, peers, os.environ.get("EXKIQ_URL"))
        self._secret = given_secret(os.environ) if secret is None else secret
        self._certificates = given_certificates(tls, os.environ)
        self._clock = SystemClock() if clock is None else clock
        self._is_closed = False
        self._start_anew()
        background.join(self)

    def _start_anew(self) -> None:
        """Also in a child after a fork: what the parent holds is not touched."""
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._ids = Ids(self._clock, os.urandom)
        self.next_id = self._ids.next
        self._pid_start = os.urandom(6)
        self._pid_counter = itertools.count(1)

    def __repr__(self) -> str:
        return f"<Client {self._where()}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- handles -------------------------------------------------------------------------------

    def job(self, job_id: str) -> Job:
        """The handle of a job by its id; nothing is asked yet."""
        return Job(job_id, self)

    def queue(self, name: str) -> QueueHandle:
        """The handle of a queue by its name; nothing is asked yet. Errors: ValueError."""
        return QueueHandle(name, self)

    def stats(self, *, consistent: bool = False) -> dict[str, int]:
        """Counts of the whole cluster, flat: what waits in each queue, and one for each state.

        Shapes: as a node has applied them, moments behind; `consistent`: by the leader.
        Errors: NoNodeError; NoQuorum for `consistent` without a leader.
        """
        told: dict[str, int] = self._wait(self._stats_request, consistent)
        return told

    async def astats(self, *, consistent: bool = False) -> dict[str, int]:
        """As `stats`, without blocking the loop."""
        told: dict[str, int] = await self._await(self._stats_request, consistent)
        return told

    def _stats_request(self, is_consistent: bool, waiter: Waiter) -> Read | StatsAfter:
        if not is_consistent:
            return Read("stats", (), waiter, self._deadline(), "stats")
        op = commands.declare(self.next_pid(), [])  # changes nothing
        return StatsAfter(op, waiter, self._deadline(), "stats")

    # ---- jobs ----------------------------------------------------------------------------------

    def enqueue(self, order: Order) -> Job:
        """Have one job stored by a majority."""
        waiter = ThreadWaiter()
        connection = self._connected()
        connection.post(connection.enqueue, Enqueue(order, self._deadline(), waiter))
        try:
            waiter.wait()
        except EnqueueTimeout as error:
            error.job = Job(order.id, self)
            raise
        return self._enqueued(order)

    async def aenqueue(self, order: Order) -> Job:
        """As `enqueue`, without blocking the loop."""
        waiter = LoopWaiter()
        connection = self._connected()
        connection.post(connection.enqueue, Enqueue(order, self._deadline(), waiter))
        try:
            await waiter.future
        except EnqueueTimeout as error:
            error.job = Job(order.id, self)
            raise
        return self._enqueued(order)

    def enqueue_all(self, orders: Sequence[Order]) -> list[Job]:
        """Have jobs of one kind stored, group after group."""
        done: list[Job] = []
        for group in in_groups(orders):
            try:
                self._wait(self._group_proposal, group)
            except EnqueueTimeout as error:
                error.job = [Job(order.id, self) for order in orders[len(done) :]]
                raise
            done += map(self._enqueued, group.orders)
        return done

    async def aenqueue_all(self, orders: Sequence[Order]) -> list[Job]:
        """As `enqueue_all`, without blocking the loop."""
        done: list[Job] = []
        for group in in_groups(orders):
            try:
                await self._await(self._group_proposal, group)
            except EnqueueTimeout as error:
                error.job = [Job(order.id, self) for order in orders[len(done) :]]
                raise
            done += map(self._enqueued, group.orders)
        return done

    def _group_proposal(self, group: Group, waiter: Waiter) -> Proposal:
        op = group.encode(self.next_pid())
        about = f"queue {group.orders[0].spec.queue!r}"
        return Proposal(op, waiter, self._deadline(), about, is_enqueue=True)

    def _enqueued(self, order: Order) -> Job:
        return Job(order.id, self, self._clock.monotonic() + CATCH_UP_SECONDS)

    # ---- anything ------------------------------------------------------------------------------

    def propose(self, op: bytes, about: str = "operation", timeout: float | None = None) -> Any:
        """Have an operation of `exkiq.machine.commands` done; its outcome.

        Errors: those of the operation; Unavailable; OutcomeUnknown.
        """
        return self._wait(self._proposal, op, about, timeout)

    async def apropose(
        self, op: bytes, about: str = "operation", timeout: float | None = None
    ) -> Any:
        """As `propose`, without blocking the loop."""
        return await self._await(self._proposal, op, about, timeout)

    def request(
        self,
        verb: str,
        *args: Any,
        timeout: float | None = None,
        about: str = "",
        expected_until: float = 0.0,
    ) -> Any:
        """Ask a node anything of the client protocol.

        Shapes: what reads is asked of another node when one does not answer; the rest is sent
                once. `about` is named in errors. Until `expected_until`, on the client's clock,
                a node that does not know the job yet is asked again.
        Errors: those of the verb; NoNodeError; OutcomeUnknown for what is sent once.
        """
        return self._wait(self._read, verb, args, timeout, about or verb, expected_until)

    async def arequest(
        self,
        verb: str,
        *args: Any,
        timeout: float | None = None,
        about: str = "",
        expected_until: float = 0.0,
    ) -> Any:
        """As `request`, without blocking the loop."""
        return await self._await(self._read, verb, args, timeout, about or verb, expected_until)

    def wait_result(self, job_id: str, timeout: float | None, expected_until: float) -> Any:
        """The answer to `result`; ["pending"] after `timeout`."""
        return self._wait(self._result_wait, job_id, timeout, expected_until)

    async def await_result(self, job_id: str, timeout: float | None, expected_until: float) -> Any:
        """As `wait_result`, without blocking the loop."""
        return await self._await(self._result_wait, job_id, timeout, expected_until)

    def next_pid(self) -> bytes:
        """12 bytes that no operation of any process had."""
        return self._pid_start + next(self._pid_counter).to_bytes(6, "big")

    def countdown(self, timeout: float | None) -> Callable[[], float | None]:
        """What is left of `timeout` whenever it is called."""
        if timeout is None:
            return lambda: None
        end = self._clock.monotonic() + timeout
        return lambda: max(0.0, end - self._clock.monotonic())

    def _proposal(self, op: bytes, about: str, timeout: float | None, waiter: Waiter) -> Proposal:
        return Proposal(op, waiter, self._deadline(timeout), about)

    def _read(
        self,
        verb: str,
        args: Sequence[Any],
        timeout: float | None,
        about: str,
        expected_until: float,
        waiter: Waiter,
    ) -> Request:
        return ask(verb, args, waiter, self._deadline(timeout), about, expected_until)

    def _result_wait(
        self, job_id: str, timeout: float | None, expected_until: float, waiter: Waiter
    ) -> ResultWait:
        now = self._clock.monotonic()
        until = float("inf") if timeout is None else now + timeout
        return ResultWait(job_id, until, waiter, now, expected_until=expected_until)

    def _deadline(self, timeout: float | None = None) -> float:
        return self._clock.monotonic() + (self.enqueue_timeout if timeout is None else timeout)

    # ---- waiting -------------------------------------------------------------------------------

    def _wait(self, make: Callable[..., R], *args: Any) -> Any:
        waiter = ThreadWaiter()
        connection = self._connected()
        request = make(*args, waiter)
        connection.post(connection.ask, request)
        try:
            return waiter.wait()
        finally:
            if not request.is_over:  # Ctrl-C
                connection.post(connection.forget, request)

    async def _await(self, make: Callable[..., R], *args: Any) -> Any:
        waiter = LoopWaiter()
        connection = self._connected()
        request = make(*args, waiter)
        connection.post(connection.ask, request)
        try:
            return await waiter.future
        finally:
            if not request.is_over:  # the caller was cancelled
                connection.post(connection.forget, request)

    # ---- the connection ------------------------------------------------------------------------

    def close(self) -> None:
        """Hang up; requests from now on raise NotRunning. May be called twice."""
        with self._lock:
            self._is_closed = True
            connection, self._connection = self._connection, None
        if connection is not None:
            loop = background.loop()
            asyncio.run_coroutine_threadsafe(connection.close(), loop).result()

    def _connected(self) -> Connection:
        return self._connection or self._connect()

    def _connect(self) -> Connection:
        with self._lock:
            if self._is_closed:
                raise NotRunning("this client is closed")
            if self._connection is None:
                self._connection = Connection(
                    background.loop(),
                    Seeker(self._places, self._dial(), self._clock, self._where()),
                    clock=self._clock,
                    chance=chance,
                    next_pid=self.next_pid,
                )
            return self._connection

    def _places(self) -> list[str]:
        if self._fixed_places:
            return self._fixed_places
        return [f"unix:{path}" for path in sockets(self._cluster or "default")]

    def _where(self) -> str:
        if self._fixed_places:
            return " ".join(self._fixed_places)
        cluster = self._cluster or "default"
        return f"cluster {cluster!r} in {runtime_folder(cluster)}"

    def _dial(self) -> Dial:
        cluster = self._cluster or ("" if self._fixed_places else "default")
        hello = Hello("client", f"client-{os.getpid()}", os.urandom(8).hex(), cluster=cluster)
        return dialler(hello, self._secret, self._certificates, self._clock, os.urandom)

    def leave_parent(self) -> object:
        """In a child after a fork: a new start. What was the parent's is handed back, to keep."""
        inherited = self._connection
        self._start_anew()
        return inherited


class _Chosen:
    """The client that classes and functions use; one in a process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.client: Client | None = None

    def leave_parent(self) -> None:
        """In a child after a fork: a thread of the parent may have held the lock."""
        self.lock = threading.Lock()


_chosen = _Chosen()
background.join(_chosen)


def default() -> Client:
    """The client of this process, made on first use."""
    if _chosen.client is not None:
        return _chosen.client
    with _chosen.lock:
        _chosen.client = _chosen.client or Client()
        return _chosen.client


def use(client: Client | None) -> Client | None:
    """Make `client` the one of this process; the one before is returned, still open."""
    with _chosen.lock:
        before, _chosen.client = _chosen.client, client
    return before


def connect(
    url: str | None = None,
    *,
    cluster: str | None = None,
    secret: bytes | None = None,
    tls: TlsFiles | None = None,
    enqueue_timeout: float = 5.0,
) -> Client:
    """Have this process ask the nodes at `url`, exkiq://HOST:PORT,... or exkiq+unix:///PATH.

    Shapes: `tls` is the files of our certificate, its key, and the CA.
    Units:  enqueue_timeout in seconds, for everything that is written.
    Errors: ConfigError for what is no URL, secret or certificate. Nothing is opened yet.
    """
    client = Client(url, cluster=cluster, secret=secret, tls=tls, enqueue_timeout=enqueue_timeout)
    use(client)
    return client


def job(job_id: str) -> Job:
    """The handle of a job by its id, from whoever and whenever it is."""
    return default().job(job_id)


def queue(name: str) -> QueueHandle:
    """The handle of a queue by its name."""
    return default().queue(name)


def stats(*, consistent: bool = False) -> dict[str, int]:
    """Counts of the whole cluster, flat; see `Client.stats`."""
    return default().stats(consistent=consistent)
