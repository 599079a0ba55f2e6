"""Planted faults of the state machine, of the leader's hand and of the nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exkiq.aggregator import claims
from exkiq.aggregator.reaper import Reaper
from exkiq.aggregator.timekeeper import Timekeeper
from exkiq.machine import Machine, delivery, limits
from exkiq.machine import machine as machine_module
from exkiq.machine.capture import Capture
from exkiq.machine.commands import Op
from exkiq.machine.lane import Lane
from exkiq.machine.store import Store
from exkiq.raft.log_clock import LogClock
from exkiq.session import NodeSession
from tests.sim.mutant import CUTS, DEATHS, Mutant, Parts


def _verb(code: Op, wrap: Callable[[Any], Any]) -> Parts:
    verbs = dict(machine_module.VERBS)
    verbs[code] = wrap(verbs[code])
    return [(machine_module, "VERBS", verbs)]


# ---- what the machine checks -----------------------------------------------------------------


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


def _former_leaders() -> Parts:
    return [(machine_module, "LEADER_OPS", frozenset())]


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


def _repeated_jobs() -> Parts:
    def wrap(verb: Any) -> Any:
        def again(store: Any, items: list[Any], applied: Any) -> Any:
            ids = [f"{i}~" if i in store.jobs else i for i in items[3]]
            return verb(store, [*items[:3], ids, *items[4:]], applied)

        return again

    return _verb(Op.ENQUEUE, wrap)


def _forgotten_answers() -> Parts:
    return [(limits, "REMEMBERED_MAX", 0)]


def _uncounted_loss() -> Parts:
    def survive(store: Any, records: Any, applied: Any) -> list[Any]:
        return list(records)

    return [(delivery, "_survivors", survive)]


def _forgotten_stop() -> Parts:
    take = Store.take_running

    def taken(self: Any, session: Any, record: Any) -> bool:
        take(self, session, record)
        return False

    return [(Store, "take_running", taken)]


def _back_to_the_tail() -> Parts:
    return [(Lane, "insert", Lane.extend)]


def _last_first() -> Parts:
    waiting = Machine.waiting
    return [(Machine, "waiting", lambda self, queue: reversed(list(waiting(self, queue))))]


def _paused_claims() -> Parts:
    def wrap(verb: Any) -> Any:
        def going_on(store: Any, items: list[Any], applied: Any) -> Any:
            paused = [queue for queue in store.queues.values() if queue.paused]
            for queue in paused:
                queue.paused = False
            try:
                return verb(store, items, applied)
            finally:
                for queue in paused:
                    queue.paused = True

        return going_on

    def waiting(self: Any, queue: str) -> Any:
        return list(self.queues[queue].waiting()) if queue in self.queues else []

    def count(self: Any, queue: str) -> int:
        return len(waiting(self, queue))

    return [
        *_verb(Op.CLAIM, wrap),
        (Machine, "waiting", waiting),
        (Machine, "waiting_count", count),
        (claims, "_is_open", lambda *_: True),
    ]


def _not_unique() -> Parts:
    def wrap(verb: Any) -> Any:
        return lambda store, items, applied: verb(store, [*items[:-1], 0], applied)

    return _verb(Op.ENQUEUE, wrap)


def _torn_capture() -> Parts:
    return [(Capture, "keep", lambda *_: None)]


# ---- what leader and nodes see to ------------------------------------------------------------


def _forgotten_due() -> Parts:
    is_due = Timekeeper.is_due
    begun: dict[Any, int] = {}

    def of_its_own(self: Any, machine: Any) -> bool:
        began_ms = begun.setdefault(self, machine.now_ms)
        return is_due(self, machine) and (machine.next_deadline_ms() or 0) >= began_ms + 200

    return [(Timekeeper, "is_due", of_its_own)]


def _backward_clock() -> Parts:
    return [(LogClock, "now_ms", lambda self: self._clock.now_ms())]


def _unended_session() -> Parts:
    return [(Reaper, "silent", lambda *_: [])]


def _no_goodbye() -> Parts:
    return [(NodeSession, "end", NodeSession.stop)]


def _kept_claims() -> Parts:
    def take(self: Any, claimed: Any) -> None:
        if self._is_taking:
            self._give(claimed.records)

    return [(NodeSession, "_take", take)]


def _unread_claims() -> Parts:
    return [(NodeSession, "installed", lambda _: None)]


JOB_MUTANTS: dict[str, Mutant] = {
    "no-fence": Mutant("a completion needs no fence", "H5", _no_fence, schedule="late-reports"),
    "any-session": Mutant(
        "a claim needs no session", "H5", _any_session, schedule="claim-for-a-former-session"
    ),
    "former-leaders": Mutant(
        "a former leader's orders count",
        "S26",
        _former_leaders,
        schedule="orders-of-a-former-leader",
    ),
    "early-due": Mutant("jobs are due too early", "H8", _early_due),
    "last-first": Mutant("jobs are handed out last come, first served", "H9", _last_first),
    "repeated-jobs": Mutant("a job's id may be used twice", "H2", _repeated_jobs, DEATHS + CUTS),
    "forgotten-answers": Mutant(
        "an operation that comes again is done again", "H2", _forgotten_answers, DEATHS + CUTS
    ),
    "paused-claims": Mutant("a paused queue's jobs are handed out", "H3", _paused_claims),
    "not-unique": Mutant("a second unique job is no error", "H3", _not_unique),
    "uncounted-loss": Mutant(
        "lost attempts are not counted", "H7", _uncounted_loss, (*DEATHS, "pause")
    ),
    "forgotten-stop": Mutant(
        "a job that was cancelled while it ran is tried again", "H4", _forgotten_stop
    ),
    "back-to-the-tail": Mutant(
        "jobs that were put aside come back behind all others", "H11", _back_to_the_tail
    ),
    "torn-capture": Mutant(
        "a snapshot has some of what came after it", "H12", _torn_capture, ("snapshots", "crash")
    ),
    "forgotten-due": Mutant(
        "what was due before an election is forgotten",
        "H13",
        _forgotten_due,
        schedule="due-in-an-election",
    ),
    "backward-clock": Mutant(
        "the log's time is the wall clock's", "H13", _backward_clock, schedule="clock-set-right"
    ),
    "unended-session": Mutant(
        "a lost node's jobs stay its own",
        "H13",
        _unended_session,
        schedule="node-that-stays-away",
    ),
    "no-goodbye": Mutant(
        "a node leaves without a word", "H13", _no_goodbye, schedule="orderly-stop"
    ),
    "kept-claims": Mutant(
        "a stopping node keeps what it does not run",
        "H13",
        _kept_claims,
        schedule="claims-of-a-stopping-node",
    ),
    "unread-claims": Mutant(
        "claims that came in a snapshot are not looked at",
        "H13",
        _unread_claims,
        schedule="claims-in-a-snapshot",
    ),
}
