"""The load: clients that ask for everything, open loop, and remember what they were told."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from random import Random

from exkiq import Client
from exkiq.errors import ExkiqError, OutcomeUnknown, Unavailable
from exkiq.machine import Spec
from exkiq.orders import Order
from exkiq.wire.codec import encode_call
from tests.faults.history import OK, REFUSED, UNAVAILABLE, UNKNOWN, Cancel, Send
from tests.faults.jobs import MAX_LOST, RESULT_TTL_S, RETRIES

TASK = "tests.faults.jobs:Mark"
QUEUES = ("default", "mail")
PAUSED_QUEUE = "side"
LINES = ("line-0", "line-1", "line-2")
PATIENCE_S = 3.0  # of one call
REPEATS_MAX = 10  # of a call whose outcome is unknown, under the same id
DELAYS_S = (0.2, 2.0)
SHORT = (0.0, 0.0, 0.0, 0.005, 0.05, 0.3)  # seconds that jobs take
OPEN_MAX = 400  # calls of one client at a time; over it the load is left out and counted
CALLS = {"single": 60, "failing": 4, "bulk": 4, "delayed": 10, "at": 3, "again": 6, "cancel": 6}


class Load:
    """Some clients in a thread of their own.

    Duties: ask at `rate` a second; repeat under the same id what may or may not have been done;
    one producer for each node sends one job after the other; pause and resume a queue.
    """

    def __init__(
        self,
        url: str,
        *,
        clients: int,
        rate: float,
        seed: int,
        calls: Mapping[str, int],
        durations: Sequence[float] = SHORT,
    ) -> None:
        self.sends: dict[str, Send] = {}
        self.cancels: list[Cancel] = []
        self.acks: list[float] = []  # when an enqueue was acknowledged
        self.left_out = 0
        self._durations = durations
        self._calls, self._rate = calls, rate / clients
        self._chance = Random(f"load {seed}")
        self._run = f"{seed}-{int(time.time()) & 0xFFFFFF:x}"
        places = url.removeprefix("exkiq://").split(",")
        self._clients = [
            Client("exkiq://" + ",".join(places[n % len(places) :] + places[: n % len(places)]))
            for n in range(clients)
        ]
        self._recent: list[str] = []
        self._numbers = itertools.count(1)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask for nothing more; returns when every call has its outcome."""
        self._is_over.set()
        self._thread.join()
        for client in self._clients:
            client.close()

    @property
    def acknowledged(self) -> int:
        return len(self.acks)

    @property
    def longest_gap(self) -> float:
        return longest_gap(self.acks)

    # ---- the loop ----------------------------------------------------------------------------

    async def _main(self) -> None:
        async with asyncio.TaskGroup() as group:
            for client in self._clients:
                group.create_task(self._client(client))
            if len(self._calls) > 1:
                group.create_task(self._pauses(self._clients[0]))
                for line, client in zip(LINES, self._clients, strict=False):
                    group.create_task(self._line(client, line))

    async def _client(self, client: Client) -> None:
        """Open loop: the next call does not wait for the last one."""
        names, weights = list(self._calls), list(self._calls.values())
        due = time.monotonic()
        open_calls: set[asyncio.Task[None]] = set()
        while not self._is_over.is_set():
            due += self._chance.expovariate(self._rate)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(open_calls) >= OPEN_MAX:
                self.left_out += 1
                continue
            kind = self._chance.choices(names, weights)[0]
            call = asyncio.get_running_loop().create_task(getattr(self, f"_{kind}")(client))
            open_calls.add(call)
            call.add_done_callback(open_calls.discard)
        await asyncio.gather(*open_calls)

    async def _pauses(self, client: Client) -> None:
        queue = client.queue(PAUSED_QUEUE)
        while not self._is_over.is_set():
            await asyncio.sleep(self._chance.uniform(0.5, 2.0))
            with suppress(ExkiqError):
                await queue.apause()
            await asyncio.sleep(self._chance.uniform(0.2, 1.0))
            with suppress(ExkiqError):
                await queue.aresume()
        for _ in range(REPEATS_MAX):
            with suppress(ExkiqError):
                await queue.aresume()
                return

    async def _line(self, client: Client, line: str) -> None:
        """A producer whose order must be kept: each of its sends waits for the one before."""
        while not self._is_over.is_set():
            await self._enqueue(client, "line", [self._order(line)], line=line)
            await asyncio.sleep(0.05)

    # ---- calls -------------------------------------------------------------------------------

    async def _single(self, client: Client) -> None:
        queue = PAUSED_QUEUE if self._chance.random() < 0.1 else self._chance.choice(QUEUES)
        order = self._order(queue, self._chance.choice(self._durations))
        await self._enqueue(client, "single", [order])

    async def _failing(self, client: Client) -> None:
        order = self._order("default", failures=self._chance.randint(1, RETRIES + 1))
        await self._enqueue(client, "failing", [order])

    async def _bulk(self, client: Client) -> None:
        count = self._chance.randint(5, 20)
        await self._enqueue(client, "bulk", [self._order("mail") for _ in range(count)])

    async def _delayed(self, client: Client) -> None:
        delay = self._chance.uniform(*DELAYS_S)
        order = self._order("default")._replace(delay_ms=int(delay * 1000))
        await self._enqueue(client, "delayed", [order], due=time.monotonic() + delay)

    async def _at(self, client: Client) -> None:
        delay = self._chance.uniform(*DELAYS_S)
        order = self._order("default")._replace(run_at_ms=int((time.time() + delay) * 1000))
        await self._enqueue(client, "at", [order], due=time.monotonic() + delay, is_absolute=True)

    async def _again(self, client: Client) -> None:
        """An id that may be taken: another node is told the same."""
        known = [self.sends[job_id] for job_id in self._recent[-30:]]
        open_sends = [send for send in known if send.kind == "single"]
        if open_sends:
            send = self._chance.choice(open_sends)
            await self._ask([send], client.aenqueue(self._order("default")._replace(id=send.id)))

    async def _cancel(self, client: Client) -> None:
        delayed = [i for i in self._recent[-60:] if self.sends[i].kind in ("delayed", "single")]
        if not delayed:
            return
        cancel = Cancel(self._chance.choice(delayed), time.monotonic())
        self.cancels.append(cancel)
        client.enqueue_timeout = PATIENCE_S
        try:
            cancel.answer = await client.job(cancel.id).acancel()
        except ExkiqError as error:
            cancel.outcome = UNAVAILABLE if isinstance(error, Unavailable) else UNKNOWN
        else:
            cancel.outcome = OK
        cancel.answered = time.monotonic()

    # ---- outcomes ----------------------------------------------------------------------------

    def _order(self, queue: str, seconds: float = 0.0, failures: int = 0) -> Order:
        spec = Spec(TASK, queue, 0, RETRIES, RESULT_TTL_S * 1000, MAX_LOST, 0)
        job_id = f"{self._run}-{next(self._numbers)}"
        return Order(spec, job_id, encode_call([seconds, failures], {}))

    async def _enqueue(
        self,
        client: Client,
        kind: str,
        orders: list[Order],
        *,
        due: float | None = None,
        is_absolute: bool = False,
        line: str = "",
    ) -> None:
        client.enqueue_timeout = PATIENCE_S
        now = time.monotonic()
        sends = [
            Send(
                order.id,
                kind,
                now,
                due=due,
                is_absolute=is_absolute,
                retries=RETRIES,
                max_lost=MAX_LOST,
                line=line,
            )
            for order in orders
        ]
        self.sends |= {send.id: send for send in sends}
        self._recent += [send.id for send in sends]
        for _ in range(REPEATS_MAX):
            whole = client.aenqueue(orders[0]) if len(orders) == 1 else client.aenqueue_all(orders)
            await self._ask(sends, whole)
            if sends[0].outcome != UNKNOWN:
                return

    async def _ask(self, sends: list[Send], call: Awaitable[object]) -> None:
        """See a call to its end. Once acknowledged a send stays so, once unknown it may be done."""
        try:
            await call
        except (ExkiqError, TimeoutError) as error:
            outcome = _outcome(error)
            for send in sends:
                send.error = send.error or repr(error)[:200]
                is_first = not send.answered
                if send.outcome != OK and (is_first or outcome == UNKNOWN):
                    send.outcome = outcome
                send.answered = send.answered or time.monotonic()
            return
        now = time.monotonic()
        for send in sends:
            if send.outcome != OK:
                self.acks.append(now)
                send.outcome, send.answered = OK, now


def _outcome(error: Exception) -> str:
    if isinstance(error, Unavailable):
        return UNAVAILABLE
    return UNKNOWN if isinstance(error, OutcomeUnknown | TimeoutError) else REFUSED


def longest_gap(moments: Sequence[float]) -> float:
    """Seconds between two of these moments that follow each other."""
    ordered = sorted(moments)
    return max((b - a for a, b in pairwise(ordered)), default=0.0)
