"""Many pure founding machines in one simulated world: a seed makes everything."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from exkiq.discovery.effects import Effect, Save, Send, Start
from exkiq.discovery.facts import Facts, Member
from exkiq.discovery.founding import Founding
from exkiq.discovery.roster import Peer, Roster
from exkiq.wire.messages import Kind, check

TICK_MS = 100


@dataclass
class Rates:
    """How rough the world is."""

    link_ms: tuple[int, int] = (1, 1_500)  # from both nodes being up to their link
    slow_link: float = 0.0  # chance that a pair does not find each other for a long while
    slow_link_ms: tuple[int, int] = (5_000, 25_000)
    skew_ms: tuple[int, int] = (0, 300)  # one end of a link comes up or goes down later
    delay_ms: tuple[int, int] = (1, 400)
    start_ms: tuple[int, int] = (0, 0)
    drop: float = 0.0  # chance that a link breaks, looked at every 250 ms
    crash_at_effect: float = 0.0  # chance of a crash before carrying out one more effect
    crashes_max: int = 0
    down_ms: tuple[int, int] = (100, 6_000)
    forgets_disk: float = 0.0
    forgets_max: int = 0
    rough_until_ms: int = 20_000  # then nothing breaks any more


@dataclass
class Half:
    """One end of a link."""

    session: int
    is_up: bool = False
    arrives_ms: int = 0  # nothing overtakes what was sent before


@dataclass
class Node:
    name: str
    expect: int
    incarnation: str
    disk: Facts = field(default_factory=Facts)
    port: int = 1
    machine: Founding | None = None
    run: int = 0
    halves: dict[str, Half] = field(default_factory=dict)
    started_in: str = ""
    founded_at_ms: int = -1

    @property
    def member(self) -> Member:
        return Member(self.name, f"127.0.0.1:{self.port}", self.incarnation)


class World:
    """Nodes, links, crashes; `ids` are all cluster ids that anybody ever made durable."""

    def __init__(
        self, seed: int, expects: dict[str, int], rates: Rates, join_wait_ms: int = 3_000
    ) -> None:
        self.random = random.Random(seed)
        self.rates = rates
        self.join_wait_ms = join_wait_ms
        self.now_ms = 0
        self.nodes = {n: Node(n, expect, f"{n}#1") for n, expect in expects.items()}
        self.ids: set[str] = set()
        self.founders: list[str] = []
        self.first_up_ms: int | None = None
        self.crashes = 0
        self.forgets = 0
        self.messages = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._ids_made = 0
        for node in self.nodes.values():
            self.at(self.between(rates.start_ms), lambda node=node: self.boot(node))
        self.at(250, self._break_links)

    # ---- time --------------------------------------------------------------------------------

    def at(self, delay_ms: int, do: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now_ms + delay_ms, self._count, do))

    def between(self, span: tuple[int, int]) -> int:
        return self.random.randint(*span)

    def run(self, until_ms: int, stop: Callable[[], bool] = lambda: False) -> None:
        while self._events and self._events[0][0] <= until_ms and not stop():
            self.now_ms, _, do = heapq.heappop(self._events)
            do()

    @property
    def is_rough(self) -> bool:
        return self.now_ms < self.rates.rough_until_ms

    @property
    def all_settled(self) -> bool:
        return all(node.machine and node.started_in for node in self.nodes.values())

    # ---- nodes -------------------------------------------------------------------------------

    def new_id(self) -> str:
        self._ids_made += 1
        return f"c{self.random.randrange(1 << 32):08x}-{self._ids_made}"

    def boot(self, node: Node) -> None:
        if node.machine is not None:
            return
        node.run += 1
        node.port += 1
        node.started_in = ""
        node.machine = Founding(
            Roster(node.member, "default"),
            node.disk,
            expect=node.expect,
            join_wait_ms=self.join_wait_ms,
            new_id=self.new_id,
        )
        for other in self.nodes.values():
            if other is not node and other.machine is not None:
                self._dial(node, other)
        self._feed(node, lambda machine: machine.begin(self.now_ms))
        self._tick(node, node.run)

    def _tick(self, node: Node, run: int) -> None:
        if node.machine is None or node.run != run or node.started_in:
            return
        self._feed(node, lambda machine: machine.tick(self.now_ms))
        self.at(TICK_MS, lambda: self._tick(node, run))

    def crash(self, node: Node) -> None:
        self.crashes += 1
        node.machine = None
        for name in list(node.halves):
            self._cut(node, self.nodes[name])
        if self.forgets < self.rates.forgets_max and self.random.random() < self.rates.forgets_disk:
            self.forgets += 1
            node.disk = Facts()
            node.incarnation = f"{node.name}#{node.run + 1}"
        self.at(self.between(self.rates.down_ms), lambda: self.boot(node))

    def _feed(self, node: Node, event: Callable[[Founding], list[Effect] | None]) -> bool:
        if node.machine is None:
            return True
        effects = event(node.machine)
        for effect in effects or []:
            if self._is_time_to_crash():
                self.crash(node)
                return True
            self._do(node, effect)
        return effects is not None

    def _is_time_to_crash(self) -> bool:
        return (
            self.is_rough
            and self.crashes < self.rates.crashes_max
            and self.random.random() < self.rates.crash_at_effect
        )

    def _do(self, node: Node, effect: Effect) -> None:
        match effect:
            case Save(facts):
                assert not node.disk.cluster_id, "a node left its cluster"
                node.disk = facts
                if facts.cluster_id:
                    self.ids.add(facts.cluster_id)
                    node.founded_at_ms = self.now_ms
                    if facts.founder == node.name:
                        self.founders.append(node.name)
                    self._tell_hello(node)
            case Start(membership):
                assert membership.cluster_id == node.disk.cluster_id, "started before it was saved"
                assert membership.members == node.disk.members
                node.started_in = membership.cluster_id
            case Send(name, message):
                check(message)
                self.send(node, name, message)

    # ---- links -------------------------------------------------------------------------------

    def _dial(self, a: Node, b: Node) -> None:
        runs = (a.run, b.run)

        def connect() -> None:
            if (a.run, b.run) != runs or a.machine is None or b.machine is None:
                return
            if b.name in a.halves or a.name in b.halves or self._are_strangers(a, b):
                return
            self._count += 1
            session = self._count
            for near, far in ((a, b), (b, a)):
                near.halves[far.name] = Half(session, arrives_ms=self.now_ms)
                # the hello is as old as the handshake when the link comes up
                peer = Peer(far.member, far.disk.cluster_id)
                self._later(near, far, lambda n=near, f=far, p=peer: self._up(n, f, p))

        is_slow = self.random.random() < self.rates.slow_link
        self.at(self.between(self.rates.slow_link_ms if is_slow else self.rates.link_ms), connect)

    @staticmethod
    def _are_strangers(a: Node, b: Node) -> bool:
        ids = {a.disk.cluster_id, b.disk.cluster_id} - {""}
        return len(ids) == 2

    def _later(self, near: Node, far: Node, do: Callable[[], None]) -> None:
        """Something that `near` will see on its link to `far`, in order."""
        half, run = near.halves[far.name], near.run
        skew = self.rates.delay_ms if half.is_up else self.rates.skew_ms
        half.arrives_ms = max(half.arrives_ms, self.now_ms + self.between(skew))
        session = half.session

        def arrive() -> None:
            now = near.halves.get(far.name)
            if near.run == run and now is not None and now.session == session:
                do()

        self.at(half.arrives_ms - self.now_ms, arrive)

    def _up(self, near: Node, far: Node, peer: Peer) -> None:
        near.halves[far.name].is_up = True
        self.first_up_ms = self.now_ms if self.first_up_ms is None else self.first_up_ms
        self._feed(near, lambda machine: machine.link_up(peer, self.now_ms))

    def _tell_hello(self, node: Node) -> None:
        for name in node.halves:
            far, peer = self.nodes[name], Peer(node.member, node.disk.cluster_id)
            if node.name in far.halves:
                self._later(far, node, lambda f=far, p=peer: self._up(f, node, p))

    def _cut(self, a: Node, b: Node) -> None:
        for near, far in ((a, b), (b, a)):
            half = near.halves.get(far.name)
            if half is None:
                continue
            self._later(near, far, lambda n=near, f=far: self._down(n, f))
        if a.machine is None:
            a.halves.pop(b.name, None)

    def _down(self, near: Node, far: Node) -> None:
        near.halves.pop(far.name, None)
        self._feed(near, lambda machine: machine.link_down(far.name, self.now_ms))
        self._redial(near, far)

    def _redial(self, near: Node, far: Node) -> None:
        # both ends must have noticed before there can be a new link
        if near.machine is not None and far.machine is not None:
            if far.name in near.halves or near.name in far.halves:
                return
            self._dial(near, far)

    def _break_links(self) -> None:
        if not self.is_rough:
            return
        for a in self.nodes.values():
            for name in list(a.halves):
                if a.name < name and self.random.random() < self.rates.drop:
                    self._cut(a, self.nodes[name])
        self.at(250, self._break_links)

    def send(self, node: Node, name: str, message: list[object]) -> None:
        far = self.nodes[name]
        mine, theirs = node.halves.get(name), far.halves.get(node.name)
        if mine is None or theirs is None or mine.session != theirs.session:
            return
        self.messages += 1
        self._later(far, node, lambda: self._receive(far, node, message))

    def _receive(self, node: Node, sender: Node, message: list[object]) -> None:
        is_taken = self._feed(
            node, lambda machine: machine.received(sender.name, message, self.now_ms)
        )
        if not is_taken and message[0] == Kind.JOIN:
            self._answer_join(node, sender)

    # ---- a pretended Raft --------------------------------------------------------------------

    def _answer_join(self, node: Node, joiner: Node) -> None:
        cluster_id = node.started_in
        started = [n for n in self.nodes.values() if n.machine and n.started_in == cluster_id]
        listed = max((n.disk.members for n in started), key=len)
        leader = min(started, key=lambda n: n.name)
        if not cluster_id or 2 * len(started) <= len(listed):
            self.send(node, joiner.name, [int(Kind.NOT_LEADER), None, None])
        elif node is leader:
            rows = [[m.name, m.address, m.incarnation] for m in listed if m.name != joiner.name]
            joined = joiner.member
            rows.append([joined.name, joined.address, joined.incarnation])
            self.send(node, joiner.name, [int(Kind.WELCOME), cluster_id, rows])
        else:
            shown = leader.member
            self.send(node, joiner.name, [int(Kind.NOT_LEADER), shown.name, shown.address])
