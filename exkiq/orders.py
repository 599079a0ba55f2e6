"""Jobs on their way out: one order each, its id, and orders gathered into one operation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from exkiq.bridge import Waiter
from exkiq.clock import Clock
from exkiq.machine import Spec, commands
from exkiq.machine.limits import BULK_JOBS_MAX, KIB
from exkiq.requests import Proposal

# Half an entry, so that what other clients send at the same time still fits beside it.
GATHERED_BYTES_MAX = 512 * KIB

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
PAIRS = [high + low for high in CROCKFORD for low in CROCKFORD]  # ten bits each

# The last 20 bits of an id count within a millisecond, the others beside the time are chance.
COUNTER_END = 1 << 20
CHANCE_BYTES = 10


class Order(NamedTuple):
    """One job to enqueue. `run_at_ms` above 0 is an absolute time and wins over `delay_ms`."""

    spec: Spec
    id: str
    payload: bytes
    delay_ms: int = 0
    run_at_ms: int = 0
    is_unique: bool = False


class Ids:
    """Makes job ids: 26 characters, ordered by time, each one once.

    48 bits of milliseconds, 60 of chance and a counter of 20, that starts at chance anew with
    each millisecond. The text is that of a ULID.
    """

    def __init__(self, clock: Clock, entropy: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._entropy = entropy
        self._lock = threading.Lock()
        self._ms = 0
        self._counter = COUNTER_END
        self._prefix = ""
        self._chance = b""

    def next(self) -> str:
        with self._lock:
            now_ms = self._clock.now_ms()
            self._counter += 1
            if now_ms > self._ms or self._counter >= COUNTER_END:
                self._turn(max(now_ms, self._ms + 1))
            return self._prefix + PAIRS[self._counter >> 10] + PAIRS[self._counter & 1023]

    def _turn(self, ms: int) -> None:
        if len(self._chance) < CHANCE_BYTES:
            # many at once: each asking costs a system call, and the lock of the interpreter
            self._chance = self._entropy(64 * CHANCE_BYTES)
        chance = int.from_bytes(self._chance[:CHANCE_BYTES], "big")
        self._chance = self._chance[CHANCE_BYTES:]
        self._ms = ms
        # the top bit stays free, so that a millisecond has room for half a million
        self._counter = chance & (COUNTER_END // 2 - 1)
        rest = (ms << 60) | (chance >> 20)
        self._prefix = "".join([PAIRS[(rest >> shift) & 1023] for shift in range(100, -1, -10)])


class Group:
    """Orders of one kind that travel, and are answered, as one operation."""

    __slots__ = ("orders", "payload_bytes", "waiters")

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.waiters: list[Waiter] = []
        self.payload_bytes = 0

    def has_room_for(self, order: Order) -> bool:
        if not self.orders:
            return True
        if len(self.orders) >= BULK_JOBS_MAX:
            return False
        return self.payload_bytes + len(order.payload) <= GATHERED_BYTES_MAX

    def add(self, order: Order) -> None:
        self.orders.append(order)
        self.payload_bytes += len(order.payload)

    def encode(self, pid: bytes) -> bytes:
        first = self.orders[0]
        return commands.enqueue(
            pid,
            first.spec,
            [order.id for order in self.orders],
            [order.payload for order in self.orders],
            delay_ms=first.delay_ms,
            run_at_ms=first.run_at_ms,
            is_unique=first.is_unique,
        )

    def resolve(self, value: object, error: Exception | None) -> None:
        for waiter in self.waiters:
            # one error object each: a traceback and a `.job` are added where it is raised
            waiter.resolve(value, None if error is None else type(error)(*error.args))


class Enqueue(NamedTuple):
    """An order that somebody waits for."""

    order: Order
    deadline: float
    waiter: Waiter


class Gatherer:
    """Turns the orders of one turn of the loop into few operations.

    Duties: 1 put orders of one kind together, up to the bounds; 2 keep a unique one alone,
    because its refusal is its own.
    """

    def __init__(self, next_pid: Callable[[], bytes], ask: Callable[[Proposal], None]) -> None:
        self._next_pid = next_pid
        self._ask = ask
        self._groups: dict[object, tuple[Group, float]] = {}

    def add(self, enqueue: Enqueue) -> None:
        order = enqueue.order
        key = (order.spec, order.delay_ms, order.run_at_ms, order.id if order.is_unique else None)
        group, deadline = self._groups.get(key) or (Group(), enqueue.deadline)
        if not group.has_room_for(order):
            self._send(group, deadline)
            group = Group()
        group.add(order)
        group.waiters.append(enqueue.waiter)
        self._groups[key] = group, min(deadline, enqueue.deadline)

    def flush(self) -> None:
        groups, self._groups = self._groups, {}
        for group, deadline in groups.values():
            self._send(group, deadline)

    def _send(self, group: Group, deadline: float) -> None:
        op = group.encode(self._next_pid())
        about = f"queue {group.orders[0].spec.queue!r}"
        self._ask(Proposal(op, group, deadline, about, is_enqueue=True))


def in_groups(orders: Iterable[Order]) -> Iterator[Group]:
    """Orders of one kind as groups, in their order."""
    group = Group()
    for order in orders:
        if not group.has_room_for(order):
            yield group
            group = Group()
        group.add(order)
    if group.orders:
        yield group
