"""Each kind of fault: done to the nodes, and undone. `LASTS` of the schedule names them all."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from random import Random

from exkiq import Client
from exkiq.errors import ExkiqError
from tests.faults.nodes import Nodes
from tests.faults.proxy import Effect, Pair

HOUR_MS = 3_600_000
LINKED_SECONDS_MAX = 8.0
CUT = Effect(is_cut=True)


class Scene:
    """What a fault works with: the nodes, chance, and a clock that the end of a run cuts short.

    Two faults never get hold of one node's process at the same time.
    """

    def __init__(self, nodes: Nodes, is_over: threading.Event) -> None:
        self.nodes, self.is_over = nodes, is_over
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def wait(self, seconds: float) -> None:
        self.is_over.wait(seconds)

    def leader_or_any(self, chance: Random) -> str:
        return self.nodes.leader_now() or chance.choice(self.nodes.names)

    def follower(self, chance: Random) -> str:
        leader = self.leader_or_any(chance)
        others = [name for name in self.nodes.names if name != leader]
        return chance.choice([name for name in self.free() if name != leader] or others)

    def free(self) -> list[str]:
        """Those whose processes no fault has got hold of."""
        with self._lock:
            busy, alive = set(self._busy), self.nodes.alive
        return [name for name in self.nodes.names if name not in busy and name in alive]

    @contextmanager
    def held(self, *wanted: str) -> Iterator[list[str]]:
        """Those of these nodes whose processes are free for a fault."""
        with self._lock:
            alive = self.nodes.alive
            mine = [name for name in wanted if name not in self._busy and name in alive]
            self._busy |= set(mine)
        try:
            yield mine
        finally:
            with self._lock:
                self._busy -= set(mine)

    def pairs(self, some: list[str], others: list[str]) -> list[Pair]:
        """Both directions between these and those."""
        return [pair for a in some for b in others if a != b for pair in ((a, b), (b, a))]

    def others(self, *some: str) -> list[str]:
        return [name for name in self.nodes.names if name not in some]


class Doing:
    """One fault under way; `nodes` fills as it learns whom it hits."""

    def __init__(self, scene: Scene, lasts: float, chance: Random) -> None:
        self.scene, self.lasts, self.chance = scene, lasts, chance
        self.nodes: list[str] = []
        self.skipped = ""

    def run(self, kind: str) -> None:
        getattr(self, kind.replace("-", "_"))()

    def hit(self, *names: str) -> None:
        self.nodes = list(dict.fromkeys((*self.nodes, *names)))

    # ---- processes ---------------------------------------------------------------------------

    def kill_leader(self) -> None:
        self._kill([self.scene.leader_or_any(self.chance)])

    def kill_follower(self) -> None:
        self._kill([self.scene.follower(self.chance)])

    def kill_majority(self) -> None:
        names = self.scene.nodes.names
        self._kill(self.chance.sample(names, len(names) // 2 + 1))

    def kill_all(self) -> None:
        self._kill(list(self.scene.nodes.names))

    def _kill(self, names: list[str]) -> None:
        with self.scene.held(*names) as mine:
            self.hit(*mine)
            self.scene.nodes.kill(*mine)
            self.scene.wait(self.lasts)
            if mine:
                self.scene.nodes.start(*self.chance.sample(mine, len(mine)))

    def restart_order(self) -> None:
        """All die at once and come back one after the other, in any order."""
        with self.scene.held(*self.scene.nodes.names) as mine:
            self.hit(*mine)
            self.scene.nodes.kill(*mine)
            for name in self.chance.sample(mine, len(mine)):
                self.scene.wait(self.lasts)
                self.scene.nodes.start(name)

    def rolling_stop(self) -> None:
        """Each drains, ends and comes back before the next one."""
        for name in self.chance.sample(self.scene.nodes.names, len(self.scene.nodes.names)):
            with self.scene.held(name) as mine:
                for one in mine:
                    self.hit(one)
                    self.scene.nodes.kill(one, how=signal.SIGTERM)
                    self.scene.nodes.start(one)
                    self._until_linked(one)
            self.scene.wait(self.lasts)
            if self.scene.is_over.is_set():
                return

    def _until_linked(self, name: str) -> None:
        end = time.monotonic() + LINKED_SECONDS_MAX
        while time.monotonic() < end and not self.scene.is_over.is_set():
            with suppress(ExkiqError, TimeoutError):
                if self.scene.nodes.status(name)["cluster"]["leader"] is not None:
                    return
            self.scene.wait(0.1)

    def pause_leader(self) -> None:
        self._pause(self.scene.leader_or_any(self.chance))

    def pause_follower(self) -> None:
        self._pause(self.scene.follower(self.chance))

    def _pause(self, name: str) -> None:
        with self.scene.held(name) as mine:
            for one in mine:
                self.hit(one)
                self.scene.nodes.pause(one)
                self.scene.wait(self.lasts)
                self.scene.nodes.cont(one)

    def kill_worker(self) -> None:
        name = self.chance.choice(self.scene.free() or self.scene.nodes.names)
        with self.scene.held(name) as mine:
            try:
                self.scene.nodes.status(name)
            except (ExkiqError, TimeoutError):
                self.skipped = "its node is not ready"  # one that loads its jobs may refuse to
                return
            self.hit(*mine)
            for child in self.scene.nodes.children(name) if mine else []:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            self.scene.wait(self.lasts)

    def transfers(self) -> None:
        """The lead goes round."""
        end = time.monotonic() + self.lasts
        while time.monotonic() < end and not self.scene.is_over.is_set():
            with suppress(ExkiqError, TimeoutError), Client(self.scene.nodes.url) as client:
                client.request("cluster_transfer", None, timeout=2.0)
            self.scene.wait(0.1)

    # ---- links -------------------------------------------------------------------------------

    def _spoil(self, pairs: list[Pair], effect: Effect) -> None:
        self.hit(*(name for pair in pairs for name in pair))
        off = self.scene.nodes.network.spoil(pairs, effect)
        self.scene.wait(self.lasts)
        off()

    def _cut(self, pairs: list[Pair]) -> None:
        """What was under way comes late, or the connections break."""
        self._spoil(pairs, CUT)
        if self.chance.random() < 0.5:
            self.scene.nodes.network.reset(pairs)

    def cut_leader(self) -> None:
        leader = self.scene.leader_or_any(self.chance)
        self._cut(self.scene.pairs([leader], self.scene.others(leader)))

    def cut_halves(self) -> None:
        names = self.scene.nodes.names
        half = self.chance.sample(names, len(names) // 2)
        self._cut(self.scene.pairs(half, self.scene.others(*half)))

    def cut_bridge(self) -> None:
        """A chain: each node reaches the next one only. Of three, the middle is the bridge."""
        names = self.chance.sample(self.scene.nodes.names, len(self.scene.nodes.names))
        whole = self.scene.pairs(names, names)
        links = {pair for a, b in pairwise(names) for pair in ((a, b), (b, a))}
        self._cut([pair for pair in whole if pair not in links])

    def one_way(self) -> None:
        """A node is heard and hears nothing, or the reverse."""
        name = self.scene.leader_or_any(self.chance)
        if self.chance.random() < 0.5:
            name = self.chance.choice(self.scene.nodes.names)
        ways = [(name, other) for other in self.scene.others(name)]
        if self.chance.random() < 0.5:
            ways = [(b, a) for a, b in ways]
        self._cut(ways)

    def flap(self) -> None:
        name = self.chance.choice(self.scene.nodes.names)
        pairs = self.scene.pairs([name], self.scene.others(name))
        self.hit(*self.scene.nodes.names)
        end = time.monotonic() + self.lasts
        while time.monotonic() < end and not self.scene.is_over.is_set():
            off = self.scene.nodes.network.spoil(pairs, CUT)
            self.scene.wait(self.chance.uniform(0.2, 1.0))
            off()
            self.scene.nodes.network.reset(pairs)
            self.scene.wait(self.chance.uniform(0.2, 1.0))

    def black_hole(self) -> None:
        """Long enough that every link is given up; what was under way comes much later."""
        name = self.chance.choice(self.scene.nodes.names)
        self._spoil(self.scene.pairs([name], self.scene.others(name)), CUT)

    def half_open(self) -> None:
        """One side's connection is reset while the other hears nothing of it."""
        a, b = self.chance.sample(self.scene.nodes.names, 2)
        self.hit(a, b)
        off = self.scene.nodes.network.spoil([(a, b)], CUT)
        self.scene.nodes.network.reset([(b, a)])
        self.scene.wait(self.lasts)
        off()

    def reset(self) -> None:
        names = self.scene.nodes.names
        self.hit(*names)
        self.scene.nodes.network.reset(self.scene.pairs(names, names))
        self.scene.wait(self.lasts)

    def _everywhere(self, effect: Effect) -> None:
        names = self.scene.nodes.names
        self._spoil([(a, b) for a in names for b in names if a != b], effect)

    def loss(self) -> None:
        self._everywhere(Effect(loss=self.chance.uniform(0.05, 0.3)))

    def delay(self) -> None:
        self._everywhere(Effect(delay=self.chance.uniform(0.02, 0.25), jitter=0.1))

    def bandwidth(self) -> None:
        self._everywhere(Effect(rate=self.chance.uniform(50_000, 400_000)))

    # ---- clocks and disks --------------------------------------------------------------------

    def clock_step(self) -> None:
        name = self.chance.choice(self.scene.nodes.names)
        self.hit(*self.scene.nodes.names)  # who leads sets the time of all
        step = self.chance.choice((-HOUR_MS, -5_000, 5_000, HOUR_MS))
        self.scene.nodes.set_clock(name, step)
        self.scene.wait(self.lasts)
        self.scene.nodes.set_clock(name, 0)

    def full_disk(self) -> None:
        """The node ends with one line, and is itself again once there is room."""
        nodes = self.scene.nodes
        name = nodes.small_disk
        if name is None:
            self.skipped = "no rights to mount a small disk"
            return
        with self.scene.held(name) as mine:
            if not mine:
                return
            self.hit(name)
            nodes.forgive(name)
            nodes.fill_disk()
            self.scene.wait(self.lasts)
            nodes.free_disk()
            nodes.kill(name)
            nodes.start(name)
