"""The node's answers to its clients.

A request is [rid, verb, args...]; its answer is [rid, 0, value] or [rid, 1, error's class, text],
in whatever order the answers come to be; a watch has a [rid, 2, step] for each step before that.
Nothing here waits: an operation's outcome and a job's end come as calls from the log, so a node
serves thousands of waiting clients without a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeAlias

from exkiq.clock import Clock
from exkiq.errors import ExkiqError, JobTooLarge, Refused, Unavailable, UnsupportedOperation
from exkiq.machine import Refused as Refusal
from exkiq.machine import check_op, limits
from exkiq.machine.commands import CLIENT_OPS, Op, peek_code, peek_pid
from exkiq.queues.protocol import House, Outcome, error_of
from exkiq.queues.views import stats_map
from exkiq.queues.waiters import Waiter, Waiters
from exkiq.queues.watchers import Told, Watch, Watchers
from exkiq.reads import Args, Reads, odd
from exkiq.service import Tasks
from exkiq.telemetry import log
from exkiq.wire import Value

REQUESTS_MAX = 10_000
"""Unanswered requests of one client: far more than a well-behaved one has; each is a kilobyte."""

WATCHES_MAX = 1_000
"""Jobs that one client watches at once: each step of each of them is a message to it."""

TIMEOUT_MS_MAX = 3_600_000
"""The longest wait for an operation: who asks for more has gone away meanwhile."""

WAIT_MS_MAX = 30 * 86_400_000
"""The longest wait for a job's end; then the client is told that it is still pending."""

UNCHECKED_BYTES_MAX = 4_096
"""A new job up to this size is not decoded at the door: whatever is wrong with it, the machine
refuses it, and it takes no room in the log worth the time."""


class ClientLink(Protocol):
    """What of a link is used here; `exkiq.links.Link` is one."""

    on_message: Callable[[Any, list[Any]], None]
    on_close: Callable[[Any, str], None]

    def send(self, message: list[Any]) -> bool:
        """Send a message; False when the link is closed."""

    def close(self, reason: str) -> None:
        """Close the link once what was sent is written."""

    def wait_closed(self) -> Coroutine[Any, Any, None]:
        """Until it is gone; not for long."""


class Actions(Protocol):
    """What an operator asks of the cluster; each returns when it is done."""

    def cluster_remove(self, name: str, force: bool) -> Coroutine[Any, Any, None]:
        """Take a member out."""

    def cluster_leave(self) -> Coroutine[Any, Any, None]:
        """Take this node out."""

    def cluster_transfer(self, name: str | None) -> Coroutine[Any, Any, None]:
        """Hand over the lead."""


class Host(Protocol):
    """Who answers for the local queues of nodes, this one's and others'."""

    def request(self, args: list[Any], tell: Callable[[list[Any]], object]) -> Callable[[], object]:
        """[node, queue, verb, args...]; `tell` is given the status and the rest of an answer.

        What comes back is called when who asked has gone, and no answer is wanted.
        Errors: NoQueueError and other Unavailable; UnsupportedOperation.
        """


class Client:
    """One client's link, and what it asked and has no answer to."""

    __slots__ = ("calls", "link", "unanswered", "waiters", "watches")

    def __init__(self, link: ClientLink) -> None:
        self.calls: dict[int, Callable[[], object]] = {}  # to be given up if it goes
        self.link = link
        self.unanswered = 0
        self.waiters: set[Waiter] = set()
        self.watches: dict[int, Watch] = {}

    def answer(self, rid: int, value: object) -> None:
        """Send what was asked for, or the error that came instead."""
        self.unanswered -= 1
        if isinstance(value, ExkiqError):
            self.link.send([rid, 1, type(value).__name__, str(value)])
        else:
            self.link.send([rid, 0, value])


Ask: TypeAlias = Callable[[Client, int, Args], None]


class ClientServer:
    """Serves the client links of this node.

    Duties:
      1. Let only operations for clients into the log, and none that is over a limit.
      2. Answer reads from what is applied here.
      3. Tell those who wait for a job's end, or watch its steps.
      4. Tell every client where the cluster's nodes are.

    `progress` gives what a running job said last, encoded, by its id; `host`, if there is one,
    answers for local queues.
    """

    def __init__(
        self,
        house: House,
        status: Callable[[], dict[str, Any]],
        actions: Actions,
        clock: Clock,
        progress: Callable[[str], bytes | None] = lambda _: None,
    ) -> None:
        self._house = house
        self._actions = actions
        self.host: Host | None = None
        self._clients: dict[ClientLink, Client] = {}
        self._addresses: list[str] = []
        self._waiters = Waiters(lambda: house.machine, _call_later)
        self._watchers = Watchers(lambda: house.machine, _call_later)
        self._tasks = Tasks()
        self._reads = Reads(house, status, progress, clock).by_verb
        self._asks: dict[str, Ask] = {
            "propose": self._propose,
            "stats_after": self._stats_after,
            "result": self._result,
            "watch": self._watch,
            "unwatch": self._unwatch,
            "local": self._local,
            "cluster_remove": self._remove,
            "cluster_leave": self._leave,
            "cluster_transfer": self._transfer,
        }
        house.subscribe(self._waiters.applied)
        house.subscribe(self._watchers.applied)

    def adopt(self, link: ClientLink) -> None:
        """Serve a client whose handshake is done."""
        self._clients[link] = Client(link)
        link.on_message = self._received
        link.on_close = self._closed
        if self._addresses:
            link.send(_push(self._addresses))

    def members_changed(self, addresses: list[str]) -> None:
        """Tell every client, now and when it comes, where the nodes are."""
        if addresses == self._addresses:
            return
        self._addresses = list(addresses)
        for link in list(self._clients):
            link.send(_push(addresses))

    def installed(self) -> None:
        """A snapshot replaced the machine: look again for everyone who waits."""
        self._waiters.machine_replaced()
        self._watchers.machine_replaced()

    async def stop(self) -> None:
        """End what operators asked for and is not done, hang up. May be called twice."""
        await self._tasks.stop()
        links = list(self._clients)
        for link in links:
            link.close("this node stops")
        await asyncio.gather(*(link.wait_closed() for link in links))

    # ---- from the links ----------------------------------------------------------------------

    def _received(self, link: ClientLink, message: list[Any]) -> None:
        client = self._clients.get(link)
        if client is None:
            return
        rid, verb, *args = message
        client.unanswered += 1
        try:
            self._serve(client, rid, verb, args)
        except ExkiqError as error:
            client.answer(rid, error)
        except Exception as error:  # noqa: BLE001 (one request of one client: the node goes on)
            log.error("could not answer %r", verb, exc_info=error)
            client.answer(rid, ExkiqError(f"the node has a bug: {type(error).__name__}"))

    def _serve(self, client: Client, rid: int, verb: str, args: Args) -> None:
        if client.unanswered > REQUESTS_MAX:
            raise Unavailable(f"{REQUESTS_MAX} requests of this client have no answer yet")
        read = self._reads.get(verb)
        if read is not None:
            client.answer(rid, read(args))
        elif verb in self._asks:
            self._asks[verb](client, rid, args)
        else:
            raise UnsupportedOperation(f"this node knows no request {verb!r}")

    def _closed(self, link: ClientLink, _: str) -> None:
        client = self._clients.pop(link, None)
        if client is not None:
            for waiter in client.waiters:
                self._waiters.drop(waiter)
            for watch in client.watches.values():
                self._watchers.drop(watch)
            for give_up in client.calls.values():
                give_up()

    # ---- what is answered later --------------------------------------------------------------

    def _propose(self, client: Client, rid: int, args: Args) -> None:
        if len(args) != 2 or type(args[0]) is not bytes or type(args[1]) is not int:
            raise odd("propose", args)
        op, timeout_ms = args
        _check_at_the_door(op)
        self._house.propose_with(op, _seconds(timeout_ms), partial(_tell_outcome, client, rid))

    def _stats_after(self, client: Client, rid: int, args: Args) -> None:
        """Counts that hold everything acknowledged before: an operation went through the log."""

        def tell(outcome: Outcome | ExkiqError) -> None:
            if isinstance(outcome, Refusal | ExkiqError):
                _tell_outcome(client, rid, outcome)
            else:
                client.answer(rid, stats_map(self._house.machine))

        match args:
            case [bytes(op), int(timeout_ms)] if peek_code(op) == Op.DECLARE:
                _check_at_the_door(op)
                self._house.propose_with(op, _seconds(timeout_ms), tell)
            case _:
                raise odd("stats_after", args)

    def _result(self, client: Client, rid: int, args: Args) -> None:
        match args:
            case [str(job_id), int() | None as timeout_ms]:
                timeout = (
                    None if timeout_ms is None else min(max(timeout_ms, 0), WAIT_MS_MAX) / 1000
                )
                waiter = self._waiters.wait(job_id, timeout, partial(_tell_result, client, rid))
                if not waiter.is_told:
                    client.waiters.add(waiter)
            case _:
                raise odd("result", args)

    def _watch(self, client: Client, rid: int, args: Args) -> None:
        match args:
            case [str(job_id), int(seen)] if seen >= 0:
                if len(client.watches) >= WATCHES_MAX:
                    raise Refused(f"a client watches {WATCHES_MAX} jobs at once, no more")
                watch = self._watchers.watch(job_id, seen, partial(_tell_step, client, rid))
                if not watch.is_over:
                    client.watches[rid] = watch
            case _:
                raise odd("watch", args)

    def _unwatch(self, client: Client, rid: int, args: Args) -> None:
        """Both requests are answered: the watch, with nothing, and this one."""
        match args:
            case [int(watched)]:
                watch = client.watches.pop(watched, None)
                if watch is not None:
                    self._watchers.drop(watch)
                    client.answer(watched, None)
                client.answer(rid, watch is not None)
            case _:
                raise odd("unwatch", args)

    def _local(self, client: Client, rid: int, args: Args) -> None:
        """A request for a queue of one node, which may be another one."""
        if self.host is None:
            raise UnsupportedOperation("there is no local queue of a node here")

        def tell(line: list[Any]) -> None:
            client.unanswered -= 1
            client.calls.pop(rid, None)
            is_told.append(True)
            client.link.send([rid, *line])

        is_told: list[bool] = []
        give_up = self.host.request(args, tell)
        if not is_told:
            client.calls[rid] = give_up

    def _remove(self, client: Client, rid: int, args: Args) -> None:
        match args:
            case [str(name), bool(force)]:
                self._act(client, rid, self._actions.cluster_remove(name, force))
            case _:
                raise odd("cluster_remove", args)

    def _leave(self, client: Client, rid: int, _: Args) -> None:
        self._act(client, rid, self._actions.cluster_leave())

    def _transfer(self, client: Client, rid: int, args: Args) -> None:
        match args:
            case [str() | None as name]:
                self._act(client, rid, self._actions.cluster_transfer(name))
            case _:
                raise odd("cluster_transfer", args)

    def _act(self, client: Client, rid: int, action: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            try:
                await action
            except ExkiqError as error:
                client.answer(rid, error)
            else:
                client.answer(rid, None)

        self._tasks.start(run(), name="an operator's request")


_CLIENT_CODES = frozenset(map(int, CLIENT_OPS))
_ENQUEUE = int(Op.ENQUEUE)


def _seconds(timeout_ms: int) -> float:
    return min(max(timeout_ms, 0), TIMEOUT_MS_MAX) / 1000


def _push(addresses: list[str]) -> list[Any]:
    return [0, "members", addresses]


def _call_later(delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(delay, call)


def _check_at_the_door(op: bytes) -> None:
    """Errors: what makes the operation of no use to the log."""
    code = peek_code(op)
    if len(op) > limits.OP_BYTES_MAX:
        raise JobTooLarge(f"an operation of {len(op)} bytes is over {limits.OP_BYTES_MAX}")
    if code not in _CLIENT_CODES or peek_pid(op) is None:
        raise UnsupportedOperation("a client cannot ask for this operation")
    if code != _ENQUEUE or len(op) > UNCHECKED_BYTES_MAX:
        refused = check_op(op)
        if refused is not None:
            raise error_of(refused)


def _tell_outcome(client: Client, rid: int, outcome: Outcome | ExkiqError) -> None:
    client.answer(rid, error_of(outcome) if isinstance(outcome, Refusal) else outcome)


def _tell_result(
    client: Client, rid: int, waiter: Waiter, outcome: list[Value] | ExkiqError
) -> None:
    client.waiters.discard(waiter)
    client.answer(rid, outcome)


def _tell_step(client: Client, rid: int, _: Watch, told: Told, is_last: bool) -> None:
    if is_last:
        client.watches.pop(rid, None)
        client.answer(rid, told)
    else:
        client.link.send([rid, 2, told])
