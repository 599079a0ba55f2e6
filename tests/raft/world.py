"""Replicas in one process on a virtual clock and a virtual network, for directed tests.

Time moves only in `World.run`; the engine reads it through its module-level name. Nothing here
sleeps, and one seed gives one run.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
from pysyncobj import syncobj

from exkiq.machine import Applied, MemberChange, Spec, commands
from exkiq.raft import Journal, Replica, ReplicaSettings, journal

CREEP = 0.00002  # with a frozen clock two loops of the engine never end


@dataclass
class VirtualClock:
    seconds: float = 1000.0
    wall_offset_ms: int = 1_700_000_000_000

    def monotonic(self) -> float:
        self.seconds += CREEP
        return self.seconds

    def now_ms(self) -> int:
        return self.wall_offset_ms + int(self.seconds * 1000)


class Handle:
    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class VirtualLoop:
    """The two methods of a loop that a replica uses, and the network's queue."""

    clock: VirtualClock
    queue: list[tuple[float, int, Handle, Callable[..., None], tuple[Any, ...]]] = field(
        default_factory=list
    )
    count: int = 0

    def call_later(self, delay: float, function: Callable[..., None], *args: Any) -> Handle:
        self.count += 1
        handle = Handle()
        due = self.clock.seconds + delay
        heapq.heappush(self.queue, (due, self.count, handle, function, args))
        return handle

    def call_soon(self, function: Callable[..., None], *args: Any) -> Handle:
        return self.call_later(0.0, function, *args)

    def run_until(self, end: float) -> None:
        while self.queue and self.queue[0][0] <= end:
            due, _, handle, function, args = heapq.heappop(self.queue)
            self.clock.seconds = max(self.clock.seconds, due)
            if not handle.is_cancelled:
                function(*args)
        self.clock.seconds = max(self.clock.seconds, end)


def run_at_once(function: Callable[[], bytes | None]) -> Future[bytes | None]:
    future: Future[bytes | None] = Future()
    try:
        future.set_result(function())
    except OSError as error:
        future.set_exception(error)
    return future


class Member:
    """A replica with a listener that only remembers."""

    def __init__(self, world: World, name: str, members: tuple[str, ...], folder: Path | None):
        self.world, self.name, self.folder = world, name, folder
        self.applied_log: list[Applied] = []
        self.failures: list[BaseException] = []
        self.appended: list[MemberChange] = []
        self.journal = Journal(None if folder is None else folder / "journal")
        settings = ReplicaSettings(name, "c1", members, folder)
        self.replica = Replica(
            settings, self.journal, self, self._send, world.clock, run_at_once, world.random.random
        )

    def _send(self, to: str, message: list[Any]) -> bool:
        return self.world.send(self.name, to, message)

    def applied(self, applied: Applied) -> None:
        self.applied_log.append(applied)

    def installed(self) -> None:
        pass

    def leadership(self, leader: str | None, term: int) -> None:
        pass

    def before_flush(self, ops: list[bytes]) -> list[bytes]:
        return []

    def wants_flush(self) -> bool:
        return False

    def member_appended(self, change: MemberChange) -> None:
        self.appended.append(change)

    def failed(self, error: BaseException) -> None:
        self.failures.append(error)


class World:
    def __init__(self, seed: int = 0) -> None:
        self.clock = VirtualClock()
        self.loop = VirtualLoop(self.clock)
        self.random = random.Random(seed)
        self.members: dict[str, Member] = {}
        self.cut: set[tuple[str, str]] = set()
        self.arrival: dict[tuple[str, str], float] = {}
        self.filter: Callable[[str, str, list[Any]], list[Any] | None] | None = None
        self.sent: list[tuple[str, str, list[Any]]] = []

    def start(self, name: str, members: tuple[str, ...], folder: Path | None = None) -> Member:
        member = Member(self, name, members, folder)
        self.members[name] = member
        member.replica.start(self.loop)
        for other in self.members.values():
            if other is not member:
                other.replica.peer_up(name)
                member.replica.peer_up(other.name)
        return member

    def kill(self, name: str) -> Member:
        """As SIGKILL: what the journal did not commit is gone."""
        member = self.members.pop(name)
        member.replica._loop = None
        member.journal._db.close()
        for other in self.members.values():
            other.replica.peer_down(name)
        return member

    def send(self, sender: str, to: str, message: list[Any]) -> bool:
        self.sent.append((sender, to, message))
        if to not in self.members or (sender, to) in self.cut:
            return False
        data = msgpack.packb(message)
        delay = self.random.uniform(0.0005, 0.002)
        due = max(self.clock.seconds + delay, self.arrival.get((sender, to), 0.0) + 1e-6)
        self.arrival[(sender, to)] = due
        receiver = self.members[to]
        self.loop.call_later(due - self.clock.seconds, self._deliver, sender, receiver, data)
        return True

    def _deliver(self, sender: str, receiver: Member, data: bytes) -> None:
        if self.members.get(receiver.name) is not receiver or sender not in self.members:
            return
        if (sender, receiver.name) in self.cut:
            return
        message = msgpack.unpackb(data)
        if self.filter is not None:
            filtered = self.filter(sender, receiver.name, message)
            if filtered is None:
                return
            message = filtered
        receiver.replica.receive(sender, message)

    def isolate(self, name: str) -> None:
        for other in self.members:
            if other != name:
                self.cut |= {(name, other), (other, name)}

    def heal(self) -> None:
        self.cut.clear()

    def run(self, seconds: float) -> None:
        self.loop.run_until(self.clock.seconds + seconds)

    def run_until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        end = self.clock.seconds + seconds
        while not condition():
            if self.clock.seconds > end:
                raise TimeoutError("the condition did not come true in virtual time")
            self.run(0.005)

    def leader(self) -> Member:
        """The leader that is ready, of the highest term; waits for one."""

        def ready() -> list[Member]:
            return [m for m in self.members.values() if m.replica.is_leader]

        self.run_until(lambda: bool(ready()))
        return max(ready(), key=lambda m: m.replica.term)

    def enqueue(self, member: Member, number: int, timeout: float | None = 5.0) -> Answer:
        answer = Answer()
        member.replica.propose(enqueue_op(number), timeout, answer.set)
        return answer

    def settled(self) -> bool:
        """Everybody has applied the same."""
        hashes = {m.replica.machine.state_hash for m in self.members.values()}
        indexes = {m.replica.applied_index for m in self.members.values()}
        return len(hashes) == 1 and len(indexes) == 1


class Answer:
    """An outcome that is not there yet."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def set(self, outcome: Any) -> None:
        self.values.append(outcome)

    @property
    def is_there(self) -> bool:
        return bool(self.values)

    @property
    def value(self) -> Any:
        return self.values[0]


def pid(number: int) -> bytes:
    return b"testpi" + number.to_bytes(6, "big")


def enqueue_op(number: int, size: int = 10) -> bytes:
    return commands.enqueue(pid(number), Spec("m:t", "default"), [f"job-{number}"], [b"x" * size])


@contextmanager
def world(seed: int = 0, kept_entries: int = 0) -> Iterator[World]:
    """A world whose clock and chance are the engine's while it lasts.

    Without kept entries a snapshot leaves nothing of the log that it holds.
    """
    made = World(seed)
    before = syncobj.monotonicTime, syncobj.random, journal.KEPT_ENTRIES
    syncobj.monotonicTime, syncobj.random = made.clock.monotonic, made.random
    journal.KEPT_ENTRIES = kept_entries
    try:
        yield made
    finally:
        syncobj.monotonicTime, syncobj.random, journal.KEPT_ENTRIES = before
        for member in made.members.values():
            member.replica.stop()


THREE = ("n1", "n2", "n3")


def three(w: World, folder: Path | None = None) -> None:
    for name in THREE:
        if folder is not None:
            (folder / name).mkdir(exist_ok=True)
        w.start(name, THREE, None if folder is None else folder / name)


def leader_and_follower(w: World, folder: Path | None = None) -> tuple[Member, Member]:
    """Two of three members that have a leader."""
    three(w, folder)
    leader = w.leader()
    return leader, next(member for member in w.members.values() if member is not leader)


def many(w: World, leader: Member, numbers: range) -> None:
    """As many entries as operations: each waits for the one before."""
    for number in numbers:
        answer = w.enqueue(leader, number)
        w.run_until(lambda answer=answer: answer.is_there)
