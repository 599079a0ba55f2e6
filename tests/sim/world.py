"""A whole cluster on virtual ground, from one seed; and a run of it: faults, heal, drain."""

from __future__ import annotations

import logging
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from pathlib import Path
from random import Random

from pysyncobj import syncobj
from pysyncobj.node import Node

from exkiq.errors import DataError, NotRunning
from exkiq.machine import check_invariants
from exkiq.raft import chunks, engine, journal, snapshot, snapshot_file
from exkiq.raft.journal import JournalError
from exkiq.wire.hello import Hello
from tests.sim.clients import Clients
from tests.sim.clock import BUSY, Host, PowerCut, Scheduler
from tests.sim.disk import Disk, Files, RealJournal, SimJournal
from tests.sim.faults import Faults
from tests.sim.lifecycle import Lifecycle
from tests.sim.network import Network
from tests.sim.node import Ground, SimNode
from tests.sim.options import Options
from tests.sim.pool import PretendPool
from tests.sim.violation import Violation
from tests.sim.watch import Watch, check_surely_not_done
from tests.sim.watch_states import check_equal_states

STEP_SECONDS = 0.05
QUIET_SECONDS = 1.0  # at the beginning: most nodes know each other and a leader by then
LEADER_SECONDS = 10.0  # after the heal
DRAIN_SECONDS = 60.0


@dataclass
class Outcome:
    """What a run was like."""

    virtual_seconds: float
    entries: int
    acknowledged: int
    commands: int
    jobs: int
    runs: int
    overlaps: int
    leadings: int
    lives: int
    settled_after: float
    trace: str


class World:
    """The nodes and everything around them."""

    def __init__(self, seed: int, options: Options, folder: Path) -> None:
        self.options = options
        self.chance = Random(seed)
        self.scheduler = Scheduler(self._power_cut)
        self.folder = folder
        self.names = [f"n{number}" for number in range(1, options.nodes + 1)]
        founders = tuple((name, "1") for name in self.names)
        self.disks = {name: Disk(name, folder / name, members=founders) for name in self.names}
        self.files = Files(self.disks)
        self.watch = Watch(self.disks, lambda: self.scheduler.now)
        self.network = Network(self.scheduler, self.chance, options.delay, options.jitter)
        self.nodes: dict[str, SimNode] = {}
        self.wall_ms = dict.fromkeys(self.names, 0)
        self.rates: dict[str, float] = {}  # how fast each one's clocks go
        self.lives = 0
        self.is_healed = False
        self.lifecycle = Lifecycle(self)
        self.clients = Clients(
            self.scheduler,
            self.chance,
            options.load,
            lambda: self.nodes,
            self.names,
            0.002,
            lambda command, outcome: self.watch.told(command.pid, command.ids, outcome),
        )
        self.faults = Faults(self, self.chance, options.faults, options.gap)
        for disk in self.disks.values():
            disk.folder.mkdir()
        for name in self.names:
            self.rates[name] = 1 + self.chance.choice((0.0, 1e-6, -1e-6, 2e-4, -2e-4))

    # ---- nodes -------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """A process on what its disk holds."""
        if name in self.nodes:
            return
        self.lives += 1
        host = Host(self.scheduler, name, self.lives, self.wall_ms.setdefault(name, 0))
        host.rate = self.rates.get(name, 1.0)
        self.scheduler.run_as(host, self._boot, host)

    def _boot(self, host: Host) -> None:
        disk = self.disks[host.name]
        disk.refuses, disk.cut_before, disk.cut_after = False, None, None
        pool = PretendPool(host, self.chance, self.options.habits, self.watch.runs.append)
        pool.is_hurried = self.is_healed
        disk.is_real = self.options.disk != "memory"
        kind = SimJournal if self.options.disk == "memory" else RealJournal
        self.watch.note(host.name, "starts", host.life)
        try:
            journal = kind(disk, host, self.watch.synced)
            node = SimNode(Ground(host, disk, journal, self.network, pool, self, self.chance, 0.3))
        except DataError as error:
            host.is_alive = False
            self.lifecycle.refused(disk, error)
            return
        self.nodes[host.name] = node
        self.lifecycle.accepted(disk)
        node.begin()
        self.network.attach(node)

    def kill(self, name: str, *, is_told: bool = True) -> None:
        """As SIGKILL: what the journal did not commit is gone."""
        node = self.nodes.get(name)
        if node is None:
            return
        if node.host.local > self.scheduler.now + BUSY and self.scheduler.host is None:
            # What it does until then has been done: it dies at its next instruction.
            self.scheduler.at(node.host.local, None, self._kill_late, node, is_told)
            return
        del self.nodes[name]
        node.host.is_alive = False
        node.replica._loop = None
        node.leave_files()
        for run, *_ in node.pool.runs.values():
            run.ended = node.host.local
        self.watch.note(name, "dies")
        self.network.detach(name, is_told=is_told)
        if not is_told:
            self.files.power_cut(self.disks[name], self.chance)

    def _kill_late(self, node: SimNode, is_told: bool) -> None:
        if self.nodes.get(node.name) is node:
            self.kill(node.name, is_told=is_told)
            self.scheduler.after(self.chance.uniform(0.1, 1.0), self.start, node.name)

    def _power_cut(self, host: Host) -> None:
        self.kill(host.name, is_told=False)
        self.scheduler.after(self.chance.uniform(0.1, 2.0), self.start, host.name)

    def pause(self, name: str, seconds: float) -> None:
        if name in self.nodes:
            self.nodes[name].host.pause(self.scheduler.now + seconds)

    def step(self, name: str, ms: int) -> None:
        self.wall_ms[name] += ms
        self.watch.has_steps = True
        if name in self.nodes:
            self.nodes[name].host.wall_step_ms = self.wall_ms[name]

    # ---- what the nodes tell -----------------------------------------------------------------

    def applied(self, node: SimNode, applied: object) -> None:
        self._raise_here(self.watch.applied, node, applied)

    def installed(self, node: SimNode) -> None:
        self._raise_here(self.watch.installed, node)

    def leadership(self, node: SimNode) -> None:
        self._raise_here(self.watch.leadership, node)

    def hello(self, name: str) -> Hello:
        node = self.nodes.get(name)
        return Hello("fresh", name) if node is None else node.hello

    def failed(self, node: SimNode, error: BaseException) -> None:
        """A node stops: fine for a disk that refuses, else it is what we look for."""
        if isinstance(error, Violation):
            raise Found(error)
        self.watch.failed(node, error)
        if isinstance(error, NotRunning):
            self.scheduler.after(0.0, self.lifecycle.left, node)
        elif isinstance(error, JournalError):
            self.scheduler.after(0.0, self._gone, node)
        else:
            raise Found(Violation("stop", f"{node.name}: {type(error).__name__}: {error}"))

    def _gone(self, node: SimNode) -> None:
        if self.nodes.get(node.name) is node:
            self.kill(node.name)
            self.scheduler.after(self.chance.uniform(0.2, 2.0), self.start, node.name)

    def found(self, violation: Violation) -> Found:
        return Found(violation)

    def _raise_here(self, check: object, *args: object) -> None:
        """Past the product's handlers, which would make it a failure of the node."""
        try:
            check(*args)  # type: ignore[operator]
        except Violation as violation:
            raise Found(violation) from violation

    # ---- a run -------------------------------------------------------------------------------

    def run(self) -> Outcome:
        for name in self.names:
            self.start(name)
        self.scheduler.run_until(QUIET_SECONDS)
        self.clients.start()
        self.faults.start()
        self._steps(QUIET_SECONDS + self.options.seconds)
        self.heal()
        return self.finish()

    def _steps(self, end: float) -> None:
        while self.scheduler.now < end:
            self.scheduler.run_until(min(end, self.scheduler.now + STEP_SECONDS))
            self.watch.check_told()
            self.watch.check_leaders(self.nodes.values())

    def heal(self) -> None:
        """Everything works again, and stays so."""
        self.watch.note("heal")
        self.faults.heal()
        self.is_healed = True
        self.clients.stop()
        for name in self.names:
            self.start(name)
        for node in self.nodes.values():
            node.pool.hurry()
        self.clients.resume_all()

    def finish(self) -> Outcome:
        """The liveness phase and the checks at the end."""
        healed = self.scheduler.now
        while not self._has_leader():
            if self.scheduler.now > healed + LEADER_SECONDS:
                raise Violation("H13 leader", f"none {LEADER_SECONDS} s after the heal")
            self._steps(self.scheduler.now + STEP_SECONDS)
        while (open_ := self._open()) is not None:
            if self.scheduler.now > healed + DRAIN_SECONDS:
                raise Violation(f"H13 {open_[0]}", open_[1])
            self._steps(self.scheduler.now + STEP_SECONDS)
            if not self.clients.waiting and any(self.watch.model.paused.values()):
                self.clients.resume_all()  # a pause was asked again after the heal
        settled_after = self.scheduler.now - healed
        return self._outcome(settled_after, self._check_end())

    def _has_leader(self) -> bool:
        return any(node.replica.is_leader for node in self.nodes.values())

    def _open(self) -> tuple[str, str] | None:
        """What is not as it should be at the end."""
        applied = {n.name: n.replica.applied_index for n in self.nodes.values()}
        if len(applied) < len(self.names):
            return "nodes", f"only {sorted(applied)} run"
        if set(self.names) != set(self.watch.model.members):
            return "members", f"{self.names} run, members are {sorted(self.watch.model.members)}"
        if min(applied.values()) < self.watch.last:
            return "catch-up", f"applied {applied}, committed {self.watch.last}"
        left = [job for job in self.watch.model.jobs.values() if job.state != "ended"]
        if left:
            states = sorted({(job.state, job.queue) for job in left})
            return "drain", f"{len(left)} jobs never end, as {left[0].id}: {states}"
        if self.clients.waiting:
            return "clients", f"{self.clients.waiting} requests without any end"
        return None

    def _check_end(self) -> int:
        model = self.watch.model
        for command in self.clients.commands:
            lost = [i for i in command.ids if command.is_acknowledged and i not in model.jobs]
            if lost:
                raise Violation("H1", f"{command.kind} was acknowledged, {lost} are nowhere")
        not_done = [(c.pid, c.surely_not) for c in self.clients.commands if not c.maybe_done]
        check_surely_not_done(model, [(pid, e) for pid, e in not_done if e is not None])
        for node in self.nodes.values():
            faults = check_invariants(node.replica.machine)
            if faults:
                raise Violation("H11", f"{node.name}: {faults[:3]}")
            self.watch.compare(node)
        check_equal_states(self.nodes.values())
        return self.watch.check_ledger()

    def _outcome(self, settled_after: float, overlaps: int) -> Outcome:
        return Outcome(
            virtual_seconds=self.scheduler.now,
            entries=self.watch.last,
            acknowledged=sum(command.is_acknowledged for command in self.clients.commands),
            commands=len(self.clients.commands),
            jobs=len(self.watch.model.jobs),
            runs=len(self.watch.runs),
            overlaps=overlaps,
            leadings=self.watch.leadings,
            lives=self.lives,
            settled_after=settled_after,
            trace=self.watch.trace.hexdigest(),
        )


class Found(PowerCut):
    """A violation on its way out; nothing of the product may catch it."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(str(violation))
        self.violation = violation


onlookers: list[Callable[[World], None]] = []  # who wants to see each world that is made


@contextmanager
def world(seed: int, options: Options) -> Iterator[World]:
    """A world whose clock and chance are the engine's while it lasts."""
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="sim-", dir=shm if shm.is_dir() else None))
    made = World(seed, options, folder)
    for look in onlookers:
        look(made)
    crc = cache(lambda name: zlib.crc32(name.encode()))
    ours = {
        (syncobj, "monotonicTime"): made.scheduler.monotonic,
        (syncobj, "random"): made.chance,
        # sets of nodes are walked in an order that hangs on their hashes: strings have another
        # one in each process
        (Node, "__hash__"): lambda node: crc(node._id),
        (Node, "id"): property(attrgetter("_id")),  # the same, in C: it is read a million times
        (engine, "COMPACT_ENTRIES"): options.compact,
        (snapshot_file, "os"): made.files,
        # with few entries in the log a tail would spare every laggard the snapshot
        (journal, "KEPT_ENTRIES"): 0 if options.compact < 1000 else journal.KEPT_ENTRIES,
        (snapshot, "HELD_FACTOR"): 0 if options.compact < 100 else snapshot.HELD_FACTOR,
        (chunks, "CHUNK_BYTES"): 4096 if options.compact < 1000 else chunks.CHUNK_BYTES,
    }
    theirs = {(owner, name): getattr(owner, name) for owner, name in ours}
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        for (owner, name), part in ours.items():
            setattr(owner, name, part)
        yield made
    except Found as found:
        raise found.violation from found
    finally:
        for name in list(made.nodes):
            made.nodes.pop(name).leave_files()  # found by the hashes of this world
        for (owner, name), part in theirs.items():
            setattr(owner, name, part)
        logging.disable(level)
        shutil.rmtree(folder, ignore_errors=True)


def simulate(seed: int, options: Options) -> Outcome:
    """One run. Raises Violation, or whatever of the product came out where nothing may."""
    with world(seed, options) as made:
        return made.run()
