"""A whole cluster in one process without Raft: a LocalHouse, an Aggregator, pretended nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count

from exkiq.aggregator import Aggregator, Settings
from exkiq.clock import ManualClock
from exkiq.dispatchers import Dispatcher, LRUNode
from exkiq.machine import Applied, Record, Spec, State, commands
from exkiq.queues import LocalHouse
from exkiq.wire import Kind


class Pids:
    """Ids of operations, in order."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def __call__(self) -> bytes:
        return next(self._numbers).to_bytes(12, "big")


class PretendNode:
    """A node that runs jobs: it takes what is claimed for it and finishes when told to."""

    def __init__(self, cluster: PretendCluster, name: str, slots: int, queues: dict[str, int]):
        self.cluster = cluster
        self.name = name
        self.slots = slots
        self.queues = queues
        self.pools: dict[str, int] = {}  # slots of pools, by queue; `slots` are the common ones
        self.unable: list[str] = []
        self.session = 0
        self.running: dict[str, int] = {}
        self.group_of: dict[str, str] = {}
        self.started: list[str] = []
        self.most_at_once = 0

    def begin(self, run_id: str = "run-1") -> None:
        house = self.cluster.house
        house.propose_nowait(commands.session_begin(self.cluster.pid(), self.name, run_id, "a:1"))
        self.session = house.machine.sessions[self.name].id
        self.running.clear()

    def applied(self, applied: Applied) -> None:
        for claimed in applied.claimed:
            if claimed.node == self.name:
                for record in claimed.records:
                    self.running[record.id] = claimed.fence
                    self.group_of[record.id] = self.group(record.spec.queue)
                    self.started.append(record.id)
                self.most_at_once = max(self.most_at_once, len(self.running))

    def demand(self) -> list[object]:
        session = self.cluster.house.machine.sessions[self.name]
        free = {"": self.slots} | self.pools
        for job_id in self.running:
            free[self.group_of[job_id]] -= 1
        seen = session.claimed_total
        return [int(Kind.DEMAND), self.session, seen, free, self.queues, self.unable]

    def group(self, queue: str) -> str:
        return queue if queue in self.pools else ""

    def announce(self) -> None:
        self.cluster.aggregator.demand(self.name, self.demand())  # type: ignore[arg-type]
        self.cluster.house.turn()

    def finish(self, ids: Iterable[str] | None = None) -> None:
        """Complete jobs; as in the node, demand is heard before the operation is flushed."""
        done = list(self.running if ids is None else ids)
        fences = [self.running.pop(job_id) for job_id in done]
        op = commands.complete(self.cluster.pid(), self.session, done, fences)
        self.cluster.aggregator.demand(self.name, self.demand())  # type: ignore[arg-type]
        self.cluster.house.propose_nowait(op)


class PretendCluster:
    """The leader `me` and its nodes."""

    def __init__(
        self,
        make_dispatcher: Callable[[], Dispatcher] = LRUNode,
        dispatchers: dict[str, Callable[[], Dispatcher]] | None = None,
    ) -> None:
        self.clock = ManualClock()
        self.pid = Pids()
        self.house = LocalHouse(self.clock, "me")
        self.aggregator = Aggregator(
            lambda: self.house.machine,
            Settings("me", self.pid, make_dispatcher, dispatchers or {}),
            self.clock,
        )
        self.house.accompany(self.aggregator)
        self.nodes: dict[str, PretendNode] = {}
        self.entries: list[Applied] = []
        self.house.subscribe(self.entries.append)
        self.aggregator.begin(1)
        self._ids = count(1)

    def node(
        self,
        name: str,
        slots: int,
        queues: dict[str, int] | None = None,
        *,
        pools: dict[str, int] | None = None,
        unable: Sequence[str] = (),
    ) -> PretendNode:
        node = PretendNode(self, name, slots, queues or {"default": 1})
        node.pools, node.unable = pools or {}, list(unable)
        self.nodes[name] = node
        self.house.subscribe(node.applied)
        node.begin()
        node.announce()
        return node

    def enqueue(
        self,
        jobs: int = 1,
        queue: str = "default",
        *,
        priority: int = 0,
        delay_ms: int = 0,
        ids: Sequence[str] | None = None,
        task: str = "app:work",
    ) -> list[str]:
        names = list(ids or [f"{queue}-{next(self._ids):04}" for _ in range(jobs)])
        spec = Spec(task, queue, priority)
        for at in range(0, len(names), 1000):
            chunk = names[at : at + 1000]
            self.house.propose_nowait(
                commands.enqueue(self.pid(), spec, chunk, [b""] * len(chunk), delay_ms=delay_ms)
            )
        return names

    def advance(self, ms: int) -> None:
        """Time passes and the leader looks, as its timer makes it."""
        self.clock.advance(ms)
        self.house.turn()

    def record(self, job_id: str) -> Record:
        return self.house.machine.jobs[job_id]

    def state(self, job_id: str) -> State:
        return self.record(job_id).state


def claims_of(cluster: PretendCluster) -> list[str]:
    return [
        record.id
        for applied in cluster.entries
        for claimed in applied.claimed
        for record in claimed.records
    ]
