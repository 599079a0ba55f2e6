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
from typing import Unpack, cast

from exkiq.asked import Place, StandIn
from exkiq.asking import Asking
from exkiq.bridge import LoopWaiter, ThreadWaiter, Waiter, background
from exkiq.clock import Clock, SystemClock
from exkiq.config.certificates import TlsFiles
from exkiq.connection import Connection
from exkiq.declared import QueueOptions, declared
from exkiq.errors import EnqueueTimeout, NotRunning
from exkiq.job import Job
from exkiq.machine import commands
from exkiq.options import check_id
from exkiq.orders import Enqueue, Group, Ids, Order, in_groups
from exkiq.queue_handle import QueueHandle
from exkiq.rendezvous import runtime_folder, sockets
from exkiq.requests import CATCH_UP_SECONDS, Proposal, Read, StatsAfter
from exkiq.seeker import Dial, Seeker, dialler, given_certificates, given_places, given_secret
from exkiq.wire.hello import Hello

# A share in [0, 1), for waits that should differ between processes.
chance: Callable[[], float] = random.Random().random  # noqa: S311 - only spreads waits


class Client(Asking):
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
        """The handle of a job by its id; nothing is asked yet. Errors: ValueError."""
        return Job(check_id(job_id), self)

    def queue(self, name: str) -> QueueHandle:
        """The handle of a queue by its name; nothing is asked yet. Errors: ValueError."""
        return QueueHandle(name, self)

    def stats(self, *, consistent: bool = False) -> dict[str, int]:
        """Counts of the whole cluster, flat: what waits in each queue, and one for each state.

        Shapes: as a node has applied them, moments behind; `consistent`: by the leader. Of those
                that wait, no node can run `unknown_task`.
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
        return self.made(order.id)

    def made(self, job_id: str) -> Job:
        """The handle of a job that an operation from here has made; every node will know it."""
        return Job(job_id, self, self._clock.monotonic() + CATCH_UP_SECONDS)

    def next_pid(self) -> bytes:
        """12 bytes that no operation of any process had."""
        return self._pid_start + next(self._pid_counter).to_bytes(6, "big")

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


def stand_in() -> StandIn | None:
    """The client of this process if it keeps the jobs of local queues too, as in a test."""
    chosen = _chosen.client
    return cast("StandIn", chosen) if getattr(chosen, "is_stand_in", False) else None


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


def queue(name: str | Place, **options: Unpack[QueueOptions]) -> QueueHandle:
    """The handle of a queue by its name; with options it is declared too.

        exkiq.queue("emails", weight=3, failure_mode=Retry(times=3))

    A declaration stands in a module of the APP: what it says holds on the nodes that load it.
    Options: backend, dispatcher, failure_mode, success_mode, each an instance, a class,
    (class, arguments) or "package.module:Class"; weight, the share of a node's work; paused,
    which counts only when the queue first comes into being.

    Errors: TypeError for an unknown option, ValueError for a bad value, naming it, and
            UnsupportedOperation for a backend that nodes cannot keep; AlreadyStarted for a
            second declaration that says something else. What is refused leaves no trace.
    """
    if isinstance(name, Place):
        return name.handle(options)
    handle = default().queue(name)
    if options:
        declared.queue(handle.name, options)
    return handle


def stats(*, consistent: bool = False) -> dict[str, int]:
    """Counts of the whole cluster, flat; see `Client.stats`."""
    return default().stats(consistent=consistent)


async def astats(*, consistent: bool = False) -> dict[str, int]:
    """As `stats`, without blocking the loop."""
    return await default().astats(consistent=consistent)
