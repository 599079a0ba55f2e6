"""The stage of the directed schedules: who leads, who hears whom, what a node is handed."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from exkiq.machine import Spec, commands
from exkiq.wire.messages import Kind
from tests.sim.node import SimNode
from tests.sim.options import Options
from tests.sim.violation import Violation
from tests.sim.world import Outcome, World

CALM = Options(seconds=6.0, faults={})
FILLER = b"\x01"  # an entry of the engine's own kind: it changes nothing, at any length
FAR = 3600.0
STEP = 0.01

Message = dict[str, Any]
Rule = Callable[[str, str, Message], bool]


class NotStaged(Exception):
    """The situation that a schedule is about did not come about: it has shown nothing."""


# ---- the course of a schedule ----------------------------------------------------------------


def begin(made: World, seconds: float = 2.0, *, asks: bool = True) -> None:
    """All nodes run; clients ask for a while."""
    for name in made.names:
        made.start(name)
    made.scheduler.run_until(2.0)
    if asks:
        made.clients.start()
    wait(made, seconds)


def end(made: World) -> Outcome:
    """Everything works again, and the checks at the end."""
    made.network.filter = None
    for way in [way for way, count in made.network.cuts.items() if count]:
        while made.network.cuts[way]:
            made.network.mend(*way)
    for node in made.nodes.values():
        set_election(made, node.name, 0.5)
    made.heal()
    return made.finish()


def wait(made: World, seconds: float) -> None:
    """Virtual time passes."""
    made._steps(made.scheduler.now + seconds)


def stage(made: World, holds: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Wait for a situation. Errors: NotStaged."""
    if not _comes(made, holds, seconds):
        raise NotStaged(what)


def promise(
    made: World, holds: Callable[[], bool], kind: str, text: str, seconds: float = 5.0
) -> None:
    """Wait for what has to come about. Errors: Violation."""
    if not _comes(made, holds, seconds):
        raise Violation(kind, f"{text} within {seconds} s")


def _comes(made: World, holds: Callable[[], bool], seconds: float) -> bool:
    limit = made.scheduler.now + seconds
    while not holds():
        if made.scheduler.now >= limit:
            return False
        made.scheduler.run_until(made.scheduler.now + STEP)
    return True


# ---- who leads -------------------------------------------------------------------------------


def leader(made: World) -> SimNode:
    """The newest leader; waits for one."""
    stage(made, lambda: _leaders(made) != [], "a leader")
    return max(_leaders(made), key=lambda node: node.replica.term)


def _leaders(made: World) -> list[SimNode]:
    return [node for node in made.nodes.values() if node.replica.is_leader]


def others(made: World, *names: str) -> list[str]:
    """The names of all nodes but these."""
    return [name for name in made.names if name not in names]


def engine(made: World, name: str) -> Any:
    """A node's engine."""
    return made.nodes[name].replica._engine


def elect(made: World, name: str, *, is_ready: bool = True) -> SimNode:
    """Have this node lead; a leader that it follows hands over. `is_ready`: it may be asked."""
    former = made.nodes.get(engine(made, name).leader or "")
    if former is not None and former.name != name and former.replica.is_leader:
        former.replica.transfer_leadership(name)
    candidate(made, name, lambda: bool(engine(made, name).is_leader))
    node = made.nodes[name]
    if is_ready:
        stage(made, lambda: node.replica.is_leader, f"{name} leads")
    return node


def candidate(made: World, name: str, holds: Callable[[], bool]) -> None:
    """Only this node campaigns, until `holds`."""
    limit = made.scheduler.now + 20.0
    while not holds():
        if made.scheduler.now >= limit:
            raise NotStaged(f"{name} is not elected")
        if not engine(made, name).is_candidate:
            set_election(made, name, 0.0)
        for other in others(made, name):
            set_election(made, other, FAR)
        made.scheduler.run_until(made.scheduler.now + STEP)


def set_election(made: World, name: str, seconds: float) -> None:
    """When this node's patience ends; a leader has none."""
    node = made.nodes.get(name)
    is_member = node is not None and node.rooms is not None
    if is_member and not engine(made, name).is_leader:
        # by its own clock: the engine's stands still for a node whose turn it is not
        engine(made, name)._SyncObj__raftElectionDeadline = node.host.monotonic() + seconds


# ---- who hears whom --------------------------------------------------------------------------


def cut_off(made: World, *names: str) -> Callable[[], None]:
    """Cut these nodes from all others; gives what mends it."""
    ways = [way for a in names for b in others(made, *names) for way in ((a, b), (b, a))]
    for way in ways:
        made.network.cut(*way)

    def mend() -> None:
        for way in ways:
            made.network.mend(*way)

    return mend


def lose(made: World, rule: Rule) -> None:
    """The messages of the engines for which `rule(sender, to, message)` is true get lost."""

    def lost(sender: str, to: str, message: list[Any]) -> float | None:
        return None if message[0] == Kind.RAFT and rule(sender, to, message[1]) else 0.0

    made.network.filter = lost


def hand(made: World, sender: str, to: str, message: list[Any]) -> None:
    """A node receives this now, said to be from `sender`."""
    node = made.nodes[to]
    made.scheduler.at(made.scheduler.now, node.host, node.replica.receive, sender, message)
    made.scheduler.run_until(made.scheduler.now + STEP)


def append(made: World, name: str, *bodies: bytes) -> None:
    """A leader puts these entries into its log at once, without waiting for the first."""
    node = made.nodes[name]
    for body in bodies:
        engine(made, name).append(body)
    made.scheduler.at(made.scheduler.now, node.host, node.replica.wake)
    made.scheduler.run_until(made.scheduler.now + STEP)


def enqueue(made: World, name: str, *ids: str, delay_ms: int = 0) -> None:
    """A node is asked for jobs, whatever becomes of them."""
    node = made.nodes[name]
    op = new_jobs(*ids, delay_ms=delay_ms)
    made.scheduler.at(made.scheduler.now, node.host, node.ask, op, 2.0, lambda _: None)
    made.scheduler.run_until(made.scheduler.now + STEP)


def new_jobs(*ids: str, delay_ms: int = 0) -> bytes:
    """An operation that makes these jobs."""
    spec = Spec("m:t", "default", 0, 1, 0, 3)
    return commands.enqueue(operation_id(ids[0]), spec, ids, [b"x"] * len(ids), delay_ms=delay_ms)


def operation_id(text: str) -> bytes:
    """Always the same for a text."""
    return blake2b(text.encode(), digest_size=12).digest()


def are_level(made: World) -> bool:
    """Whether all that run have applied the same."""
    applied = {node.replica.applied_index for node in made.nodes.values()}
    return len(applied) == 1 and applied == {made.watch.last}
