"""Planted faults: one rule of the product switched off at run time, and whether it is noticed.

    name -> (what is broken, the faults that make it show, how to break it)

A mutant is found by a seed when the run breaks with it and does not without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from exkiq.machine import Machine, delivery
from exkiq.machine import machine as machine_module
from exkiq.machine.commands import Op
from exkiq.raft import Journal, Replica, guard, transport
from exkiq.raft.guard import Appending, Guard, Verdict
from exkiq.raft.outcomes import Outbox
from exkiq.raft.transport import EngineTransport
from tests.sim.directed import directed
from tests.sim.disk import SimJournal
from tests.sim.options import drawn
from tests.sim.violation import Violation
from tests.sim.world import simulate

Parts = list[tuple[Any, str, Any]]  # owner, attribute, what stands there instead
DEATHS = ("crash", "power", "majority", "cutcommit")
CUTS = ("isolate", "halves", "oneway", "flap", "reset", "slowlink", "pause")


@dataclass(frozen=True)
class Mutant:
    what: str
    faults: tuple[str, ...]
    parts: Callable[[], Parts]
    nodes: int = 3
    schedule: str = ""  # of the directed ones, where chance would take long


def _ack_before_sync() -> Parts:
    return [(transport, "_VOUCHING", ())]


def _uncounted_sync() -> Parts:
    def put(self: Any, index: int) -> None:
        self._commit_index = index

    def never(self: Any) -> None:
        self._is_sync_due = False

    return [(Journal, "setRaftCommitIndex", put), (Replica, "_sync_on_loop", never)]


def _forgotten_vote() -> Parts:
    load = SimJournal._load

    def forget(self: Any) -> None:
        load(self)
        self._vote = None
        self._term = max(0, self._term - 1)

    return [(SimJournal, "_load", forget)]


def _no_prefix_trim() -> Parts:
    def whole(message: Any, *_: Any) -> Verdict:
        return Verdict(message, appending=Appending(message["seq"]))

    return [(guard, "_trimmed", whole)]


def _votes_twice() -> Parts:
    admit = EngineTransport._admit

    def twice(self: Any, sender: str, message: Any) -> None:
        for _ in range(2 if message["type"] == "response_vote" else 1):
            admit(self, sender, message)

    return [(EngineTransport, "_admit", twice), (Guard, "_counts", lambda *_: True)]


def _snapshot_commit() -> Parts:
    append = Guard._append

    def careless(self: Any, message: Any, view: Any) -> Verdict:
        if "prevLogIdx" in message or message["term"] < view.term:
            return append(self, message, view)
        return Verdict(message, None, Appending(message["seq"]))

    return [(Guard, "_append", careless)]


def _any_answer() -> Parts:
    return [(Guard, "_answer", lambda self, sender, message, view: Verdict(message))]


def _no_alignment() -> Parts:
    return [(Journal, "align", lambda *_: None)]


def _verb(code: Op, wrap: Callable[[Any], Any]) -> Parts:
    verbs = dict(machine_module.VERBS)
    verbs[code] = wrap(verbs[code])
    return [(machine_module, "VERBS", verbs)]


def _no_fence() -> Parts:
    def wrap(verb: Any) -> Any:
        def loose(store: Any, items: list[Any], applied: Any) -> Any:
            running: dict[str, Any] = {}
            for session in store.sessions.values():
                running.update(session.running)
            node = next((running[i] for i in items[3] if i in running), None)
            fences = [
                running[i].fence if i in running else f
                for i, f in zip(items[3], items[4], strict=True)
            ]
            session = items[2] if node is None else node.session
            return verb(store, [*items[:2], session, items[3], fences, *items[5:]], applied)

        return loose

    return _verb(Op.COMPLETE, wrap)


def _any_session() -> Parts:
    def wrap(verb: Any) -> Any:
        def loose(store: Any, items: list[Any], applied: Any) -> Any:
            grants = [
                [node, store.sessions[node].id if node in store.sessions else number, ids]
                for node, number, ids in items[2]
            ]
            return verb(store, [*items[:2], grants], applied)

        return loose

    return _verb(Op.CLAIM, wrap)


def _early_due() -> Parts:
    def wrap(verb: Any) -> Any:
        def early(store: Any, items: list[Any], applied: Any) -> Any:
            store.now_ms += 200
            try:
                return verb(store, items, applied)
            finally:
                store.now_ms -= 200

        return early

    return _verb(Op.DUE, wrap)


def _former_leaders() -> Parts:
    return [(machine_module, "LEADER_OPS", frozenset())]


def _last_first() -> Parts:
    waiting = Machine.waiting
    return [(Machine, "waiting", lambda self, queue: reversed(list(waiting(self, queue))))]


def _uncounted_loss() -> Parts:
    def survive(store: Any, records: Any, applied: Any) -> list[Any]:
        return list(records)

    return [(delivery, "_survivors", survive)]


def _forgetful_outbox() -> Parts:
    def forget(self: Any) -> None:
        self._waiting.clear()
        self._unsent = []

    return [(Outbox, "leader_changed", forget)]


MUTANTS: dict[str, Mutant] = {
    "ack-before-sync": Mutant(
        "answers leave before the commit", (*DEATHS, "slowdisk"), _ack_before_sync
    ),
    "uncounted-sync": Mutant("a leader counts what is not on its disk", DEATHS, _uncounted_sync),
    "forgotten-vote": Mutant("a restart forgets term and vote", DEATHS, _forgotten_vote),
    "no-prefix-trim": Mutant(
        "matching entries are cut", DEATHS + CUTS, _no_prefix_trim, schedule="two-heartbeats"
    ),
    "votes-twice": Mutant("a vote counts twice", CUTS, _votes_twice, nodes=5),
    "snapshot-commit": Mutant(
        "a snapshot's message moves the commit index",
        (*CUTS, "snapshots", "crash"),
        _snapshot_commit,
    ),
    "any-answer": Mutant("answers of all terms and numbers count", CUTS, _any_answer, nodes=5),
    "no-alignment": Mutant(
        "the log is not aligned to the snapshot", (*DEATHS, "snapshots"), _no_alignment
    ),
    "no-fence": Mutant("a completion needs no fence", CUTS, _no_fence),
    "any-session": Mutant("a claim needs no session", DEATHS + CUTS, _any_session),
    "early-due": Mutant("jobs are due too early", (), _early_due),
    "former-leaders": Mutant("a former leader's orders count", CUTS, _former_leaders),
    "last-first": Mutant("jobs are handed out last come, first served", (), _last_first),
    "uncounted-loss": Mutant("lost attempts are not counted", (*DEATHS, "pause"), _uncounted_loss),
    "forgetful-outbox": Mutant("an election drops what waits", DEATHS, _forgetful_outbox),
}


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The product with this fault, while it lasts."""
    parts = mutant.parts()
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in parts]
    for owner, name, part in parts:
        setattr(owner, name, part)
    try:
        yield
    finally:
        for owner, name, part in before:
            setattr(owner, name, part)


def finds(mutant: Mutant, seed: int, seconds: float = 8.0) -> str | None:
    """What a seed says of a mutant: the violation, None when it sees nothing."""

    def run() -> None:
        if mutant.schedule:
            directed(mutant.schedule, seed)
        else:
            faults, nodes = mutant.faults, mutant.nodes
            simulate(seed, drawn(seed, seconds=seconds, faults=faults, nodes=nodes))

    with planted(mutant):
        text = _violation(run)
    return None if text is None or _violation(run) is not None else text


def _violation(run: Callable[[], None]) -> str | None:
    try:
        run()
    except Violation as violation:
        return str(violation)
    except Exception as error:
        return repr(error)
    return None
