"""Local queues of a node, for others to send it work: `Local("q", node="n2")`.

A client asks any node, which hands the request on to the one that is meant, by CALL; each line
of the answer comes back as an ANSWER. Nothing of it is replicated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Protocol

from exkiq.clock import Clock
from exkiq.errors import (
    ExkiqError,
    NoQueueError,
    OutcomeUnknown,
    RemoteWireError,
    Unavailable,
    UnsupportedOperation,
)
from exkiq.links import Message
from exkiq.local.rooms import Rooms
from exkiq.pool import Pool
from exkiq.pool.report import Report
from exkiq.server import TIMEOUT_MS_MAX
from exkiq.service import Tasks
from exkiq.session import NodeSession
from exkiq.telemetry import log
from exkiq.wire.messages import VERB_CHARS_MAX, Kind

VERB = "local"
CALLS_MAX = 1_000
"""Open calls of this node to all others; a client that has more waits for its answers."""

CALL_SECONDS = TIMEOUT_MS_MAX / 1000 + 100.0
"""When a call without an answer is given up: after the longest wait for an operation."""

STEP = 2  # the status of a line behind which more come
READS = ("job", "jobs", "ping", "progress", "queues", "result", "stats", "status")
NOT_HERE = ("local", "watch", "unwatch")  # a step would have to find its way to who has gone

Tell = Callable[[list[Any]], object]


class Peers(Protocol):
    """What of the peering is used here."""

    on_local_call: Callable[[str, Message], None]
    on_local_answer: Callable[[str, Message], None]
    on_member_down: Callable[[str], None]

    def send(self, name: str, message: list[Any]) -> bool:
        """Give a message to a node; False when it is not linked."""


@dataclass(slots=True)
class _Call:
    """A request on its way to another node. `tell` is given each line of its answer."""

    node: str
    verb: str
    tell: Tell
    timer: asyncio.TimerHandle


class Host:
    """Answers for this node's local queues, and hands on what is for those of others.

    Duties: 1 keep this node's queues, and start the children that run their jobs with the first
    job; 2 hand requests on, each answered once, or with an error when its node goes away; 3 hold
    no more of them than CALLS_MAX.
    """

    def __init__(
        self,
        name: str,
        queues: tuple[str, ...],
        peers: Peers,
        make_pool: Callable[[Callable[[Report], None]], Pool],
        clock: Clock,
        next_pid: Callable[[], bytes],
    ) -> None:
        self.name, self.queues = name, queues
        self._peers, self._make_pool = peers, make_pool
        self._clock, self._pid = clock, next_pid
        self._loop = asyncio.get_running_loop()
        self._rooms: Rooms | None = None
        self._pool: Pool | None = None
        self._session: NodeSession | None = None  # once the children have started
        self._tasks = Tasks()
        self._numbers = count(1)
        self._calls: dict[int, _Call] = {}
        self._guests: dict[str, _Guest] = {}
        self._is_over = False
        peers.on_local_call, peers.on_local_answer = self.called, self.answered
        peers.on_member_down = self.link_down

    # ---- from clients of this node ---------------------------------------------------------------

    def request(self, args: list[Any], tell: Tell) -> Callable[[], None]:
        """[node, queue, verb, args...] of a client; `tell` is given each line of the answer.

        What comes back is called when the client has gone, and wants no answer.
        Errors: NoQueueError, Unavailable, UnsupportedOperation.
        """
        node, queue, verb = _checked(args)
        if node == self.name:
            number = next(self._numbers)
            self._answer("", number, queue, args[2:], tell)
            return partial(self._guests[""].forget, number)
        if len(self._calls) >= CALLS_MAX:
            raise Unavailable(f"{CALLS_MAX} requests for local queues of others have no answer yet")
        number = next(self._numbers)
        if not self._peers.send(node, [int(Kind.CALL), number, VERB, [queue, *args[2:]]]):
            raise _away(node, queue)
        timer = self._loop.call_later(CALL_SECONDS, self._give_up, number)
        self._calls[number] = _Call(node, verb, tell, timer)
        return partial(self._client_left, number)

    def _client_left(self, number: int) -> None:
        """Its call makes room for others; the answer finds nobody."""
        if number in self._calls:
            self._forget(number)

    def answered(self, node: str, message: list[Any]) -> None:
        """An ANSWER of another node. Errors: RemoteWireError."""
        _, number, is_last, line = message
        call = self._calls.get(number)
        if call is None or call.node != node:
            return  # given up meanwhile
        if not isinstance(line, list) or not line or not isinstance(line[0], int):
            raise RemoteWireError("an answer that is no line")
        if is_last:
            self._forget(number)
        call.tell(line)

    def link_down(self, node: str) -> None:
        """What that node was asked has no answer; what it asked needs none."""
        for number in [number for number, call in self._calls.items() if call.node == node]:
            self._give_up(number)
        guest = self._guests.pop(node, None)
        if guest is not None:
            guest.leave()

    def _give_up(self, number: int) -> None:
        call = self._forget(number)
        error: ExkiqError = NoQueueError(f"node {call.node} went away")
        if call.verb not in READS:
            error = OutcomeUnknown(f"node {call.node} went away; it may be done")
        call.tell(_line_of(error))

    def _forget(self, number: int) -> _Call:
        call = self._calls.pop(number)
        call.timer.cancel()
        return call

    # ---- from other nodes ------------------------------------------------------------------------

    def called(self, node: str, message: list[Any]) -> None:
        """A CALL of another node for a queue of ours."""
        _, number, _, args = message

        def tell(line: list[Any]) -> None:
            is_last = line[0] != STEP
            self._peers.send(node, [int(Kind.ANSWER), number, is_last, line])

        try:
            _, queue, _ = _checked([self.name, *args])
            self._answer(node, number, queue, args[1:], tell)
        except ExkiqError as error:
            tell(_line_of(error))

    def _answer(
        self, guest_of: str, number: int, queue: str, request: list[Any], tell: Tell
    ) -> None:
        if self._is_over:
            raise NoQueueError(f"node {self.name} stops")
        if queue not in self.queues:
            raise NoQueueError(
                f"node {self.name} has no local queue {queue!r}: no class or task of its APP has"
                f" queue=Local({queue!r})"
            )
        guest = self._guests.get(guest_of)
        if guest is None:
            guest = self._guests[guest_of] = _Guest()
            self._open().server.adopt(guest)
        guest.ask(number, request, tell)

    def _open(self) -> Rooms:
        """The rooms, made for the first request."""
        if self._rooms is None:
            self._rooms = Rooms(self._loop, self._clock, self._pid, self._queues_came)
        return self._rooms

    # ---- the jobs --------------------------------------------------------------------------------

    def _queues_came(self, _: list[str]) -> None:
        if self._pool is None:
            self._pool = self._make_pool(self._report)
            self._tasks.start(self._start(self._pool), name="children for local queues")

    async def _start(self, pool: Pool) -> None:
        await pool.start()
        log.info("children for the local queues %s run", ", ".join(self.queues))
        self._session = self._open().add(self.name, pool, self.queues)

    def _report(self, report: Report) -> None:
        if self._session is not None:
            self._session.report(report)

    def tree(self) -> dict[str, Any]:
        """Its queues, and the children that run their jobs, for people; nothing without queues."""
        if not self.queues:
            return {}
        children = {} if self._pool is None else self._pool.tree()
        return {"local": {"queues": sorted(self.queues), "children": children}}

    # ---- the end ---------------------------------------------------------------------------------

    async def drain(self, timeout: float) -> None:
        """Take no more, and let jobs end."""
        if self._rooms is not None:
            self._rooms.stop_taking()
        if self._pool is not None:
            await self._pool.drain(timeout)

    async def stop(self) -> None:
        """End the children; what is left is lost, and said to be. May be called twice."""
        self._is_over = True
        await self._tasks.stop()
        pool, self._pool = self._pool, None
        rooms, self._rooms = self._rooms, None
        for number in list(self._calls):
            self._give_up(number)
        if pool is not None:
            await pool.stop()
        if rooms is not None:
            left = await rooms.stop()
            if left:
                log.warning("this node stops, and with it %d jobs of its local queues", left)


class _Guest:
    """A node, or this one, as a client of our local queues: a link whose answers find their way."""

    def __init__(self) -> None:
        self.on_message: Callable[[Any, list[Any]], None]
        self.on_close: Callable[[Any, str], None]
        self._asked: dict[int, Tell] = {}

    def ask(self, number: int, request: list[Any], tell: Tell) -> None:
        self._asked[number] = tell
        self.on_message(self, [number, *request])

    def send(self, message: list[Any]) -> bool:
        number, *line = message
        tell = self._asked.get(number) if line[0] == STEP else self._asked.pop(number, None)
        if tell is not None:
            tell(line)
        return True

    def forget(self, number: int) -> None:
        """Who asked that has gone."""
        self._asked.pop(number, None)

    def leave(self) -> None:
        """The node is not linked any more."""
        self._asked.clear()
        self.on_close(self, "it went away")

    def close(self, reason: str) -> None:
        """Nobody is to be told: those who asked are told by their own node."""

    async def wait_closed(self) -> None:
        """It is no more than an object."""


def _checked(args: list[Any]) -> tuple[str, str, str]:
    """Node, queue and verb of a request. Errors: UnsupportedOperation."""
    match args:
        case [str(node), str(queue), str(verb), *_] if len(verb) <= VERB_CHARS_MAX and (
            verb not in NOT_HERE and not verb.startswith("cluster_")
        ):
            return node, queue, verb
        case [str(node), str(queue), str(verb), *_] if verb in NOT_HERE:
            raise UnsupportedOperation(f"Local({queue!r}, node={node!r}) has no {verb[:20]}")
    raise UnsupportedOperation(f"{VERB} does not take these {len(args)} arguments")


def _away(node: str, queue: str) -> NoQueueError:
    return NoQueueError(f"queue {queue!r} of node {node}: no node of that name is linked here")


def _line_of(error: ExkiqError) -> list[Any]:
    return [1, type(error).__name__, str(error)]
