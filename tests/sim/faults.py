"""What goes wrong, and how it is put right again. Each fault undoes itself after a while."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from tests.sim.disk import SYNC_SECONDS

if TYPE_CHECKING:
    from tests.sim.node import SimNode
    from tests.sim.world import World


class Faults:
    """Draws faults by weight until it is stopped, then heals everything."""

    def __init__(self, world: World, chance: Random, weights: dict[str, float], gap: float) -> None:
        self._world, self._chance, self._weights, self._gap = world, chance, weights, gap
        self._undo: dict[int, Callable[[], None]] = {}
        self._count = 0
        self._is_on = False

    def start(self) -> None:
        self._is_on = True
        self._next()

    def heal(self) -> None:
        """No new fault; the open ones end now."""
        self._is_on = False
        for number in list(self._undo):
            self._end(number)

    def _next(self) -> None:
        weights = {name: w for name, w in self._weights.items() if hasattr(self, f"_{name}")}
        if not self._is_on or not weights:
            return
        self._world.scheduler.after(self._chance.expovariate(1 / self._gap), self._next)
        name = self._chance.choices(list(weights), list(weights.values()))[0]
        self._world.watch.note("fault", name)
        getattr(self, f"_{name}")()

    def _until(self, seconds: float, undo: Callable[[], None]) -> None:
        self._count += 1
        self._undo[self._count] = undo
        self._world.scheduler.after(seconds, self._end, self._count)

    def _end(self, number: int) -> None:
        undo = self._undo.pop(number, None)
        if undo is not None:
            undo()

    def _some(self, count: int) -> list[str]:
        return self._chance.sample(self._world.names, count)

    def _while(self) -> float:
        return self._chance.choice((0.05, 0.3, 1.0, 3.0, 6.0)) * self._chance.uniform(0.5, 1.5)

    # ---- nodes -------------------------------------------------------------------------------

    def _die(self, names: list[str], *, is_told: bool) -> None:
        for name in names:
            self._world.kill(name, is_told=is_told)
            self._until(self._while(), lambda name=name: self._world.start(name))

    def _crash(self) -> None:
        self._die([self._leader_or_any()], is_told=True)

    def _power(self) -> None:
        self._die(self._some(1), is_told=False)

    def _majority(self) -> None:
        count = self._chance.choice((len(self._world.names) // 2 + 1, len(self._world.names)))
        self._die(self._some(count), is_told=self._chance.random() < 0.5)

    def _pause(self) -> None:
        name, seconds = self._leader_or_any(), self._while()
        self._world.pause(name, seconds)
        self._until(seconds, lambda: self._world.pause(name, 0.0))

    def _step(self) -> None:
        name = self._leader_or_any()
        ms = self._chance.choice((-3_600_000, 3_600_000, -700, 700, 5_000))
        self._world.step(name, ms)
        self._until(self._while(), lambda: self._world.step(name, -ms))

    def _stop(self) -> None:
        """As SIGTERM: takes no more, gives the lead away, says that it is over."""
        name = self._leader_or_any()
        node = self._world.nodes.get(name)
        if node is None or node.rooms is None:
            return
        self._on(node, node.rooms.session.stop_taking)
        self._on(node, node.replica.transfer_leadership, None)
        after = self._world.scheduler.after
        after(0.3, self._on, node, node.rooms.session.end)
        after(0.5, self._stopped, node)

    def _stopped(self, node: SimNode) -> None:
        if self._world.nodes.get(node.name) is node:
            self._die([node.name], is_told=True)

    def _on(self, node: SimNode, act: Callable[..., None], *args: object) -> None:
        scheduler = self._world.scheduler
        scheduler.at(scheduler.now, node.host, act, *args)

    def _transfer(self) -> None:
        """The lead changes hands because somebody wants it."""
        node = self._world.nodes.get(self._leader_or_any())
        if node is not None and node.replica.is_leader:
            self._on(node, node.replica.transfer_leadership, None)

    # ---- members -----------------------------------------------------------------------------

    def _join(self) -> None:
        self._world.lifecycle.join()

    def _remove(self) -> None:
        self._world.lifecycle.remove(self._leader_or_any())

    def _replace(self) -> None:
        name = self._leader_or_any()
        if self._world.lifecycle.lose_disk(name):
            self._until(self._while(), lambda: self._world.start(name))

    def _bitflip(self) -> None:
        """A bit changes while a node is down; half of them because power failed."""
        name = self._leader_or_any()
        self._world.lifecycle.damage(name, is_told=self._chance.random() < 0.5)
        self._until(self._while(), lambda: self._world.start(name))

    # ---- network -----------------------------------------------------------------------------

    def _cut(self, ways: list[tuple[str, str]], seconds: float | None = None) -> None:
        """Afterwards what waited is delivered, or the connections turn out to be broken."""
        network, is_broken = self._world.network, self._chance.random() < 0.3
        for way in ways:
            network.cut(*way)

        def mend() -> None:
            for way in ways:
                if is_broken:
                    network.reset(*way)
                network.mend(*way)

        self._until(self._while() if seconds is None else seconds, mend)

    def _isolate(self) -> None:
        name = self._leader_or_any()
        others = [other for other in self._world.names if other != name]
        ways = [(name, other) for other in others] + [(other, name) for other in others]
        self._cut(ways, self._while())

    def _halves(self) -> None:
        one = self._some(len(self._world.names) // 2)
        rest = [name for name in self._world.names if name not in one]
        ways = [(a, b) for a in one for b in rest] + [(b, a) for a in one for b in rest]
        self._cut(ways, self._while())

    def _oneway(self) -> None:
        name = self._leader_or_any()
        others = [other for other in self._world.names if other != name]
        others = others[: self._chance.randint(1, len(others))]
        is_out = self._chance.random() < 0.5
        self._cut([(name, o) if is_out else (o, name) for o in others], self._while())

    def _flap(self) -> None:
        one, other = self._some(2)
        for step in range(8):
            self._world.scheduler.after(step * 0.3, self._flap_once, one, other)

    def _flap_once(self, one: str, other: str) -> None:
        if self._is_on:
            self._cut([(one, other), (other, one)], 0.15)

    def _bridge(self) -> None:
        """Two halves that see each other only through one node."""
        others = self._some(len(self._world.names))[1:]  # the first is the bridge
        one, rest = others[::2], others[1::2]
        self._cut([(a, b) for a in one for b in rest] + [(b, a) for a in one for b in rest])

    def _ring(self) -> None:
        """Each sees only its neighbours; of three nodes a line is left."""
        names = self._some(len(self._world.names))
        count = len(names)
        near = {(i, (i + 1) % count) for i in range(count)} if count > 3 else {(0, 1), (1, 2)}
        ways = [(i, j) for i in range(count) for j in range(count) if i != j]
        far = [(i, j) for i, j in ways if (i, j) not in near and (j, i) not in near]
        self._cut([(names[i], names[j]) for i, j in far])

    def _halfopen(self) -> None:
        """One end is gone and the other does not know."""
        one, other = self._some(2)
        self._world.network.drop(one, other)

    def _reset(self) -> None:
        self._world.network.reset(*self._some(2))

    def _slowlink(self) -> None:
        one, other = self._some(2)
        slow = self._world.network.slow
        slow[(one, other)] = self._chance.choice((0.01, 0.1, 0.4))
        self._until(self._while(), lambda: slow.pop((one, other), None) and None)

    # ---- disks -------------------------------------------------------------------------------

    def _slowdisk(self) -> None:
        disk = self._world.disks[self._leader_or_any()]
        disk.sync_seconds = self._chance.choice((0.005, 0.05, 0.3))
        self._until(self._while(), lambda: setattr(disk, "sync_seconds", SYNC_SECONDS))

    def _baddisk(self) -> None:
        """A sync fails; what it wrote may be there all the same."""
        disk = self._world.disks[self._leader_or_any()]
        disk.refuses, disk.keeps_refused = True, self._chance.random() < 0.5

    def _fulldisk(self) -> None:
        disk = self._world.disks[self._leader_or_any()]
        disk.is_full = True
        self._until(self._while(), lambda: setattr(disk, "is_full", False))

    def _cutcommit(self) -> None:
        """Power fails at a commit; rather at one that ends a compaction or an installation."""
        disk = self._world.disks[self._leader_or_any()]
        is_any = self._chance.random() < 0.5

        def strikes(journal: object) -> bool:
            return (
                is_any
                or vars(journal)["_cut_below"] is not None
                or (vars(journal)["_cut_from"] == 0)
            )

        if self._chance.random() < 0.5:
            disk.cut_before = strikes
        else:
            disk.cut_after = strikes
        self._until(5.0, lambda: vars(disk).update(cut_before=None, cut_after=None))

    def _leader_or_any(self) -> str:
        leaders = [n.name for n in self._world.nodes.values() if n.replica.is_leader]
        if leaders and self._chance.random() < 0.5:
            return self._chance.choice(leaders)
        return self._chance.choice(self._world.names)
