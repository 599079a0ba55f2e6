"""The failover clock: the leader is killed again and again under a steady load."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from tests.cluster.harness import until
from tests.faults import ledger
from tests.faults.history import Disturbance
from tests.faults.load import longest_gap
from tests.faults.trial import Terms, Trial

RATE = 200.0  # jobs a second, of three clients, open loop
STEADY_S = (0.5, 1.5)  # between a whole cluster and the next kill
STARTED_S_MAX = 30.0
AFTER_S = 1.0  # watched after the first start
STARTED, GAP = "kill to next job started", "longest gap between acknowledged sends"


class Failover:
    """Duties: wait for a whole cluster; kill its leader; measure; start it again.

    What counts as the next job started is one that was sent after the kill: those under way to
    the other nodes start in any case.
    """

    def __init__(self, trial: Trial, kills: int, say: Callable[[str], None]) -> None:
        self.started: list[float] = []
        self.gaps: list[float] = []
        self._trial, self._kills, self._say = trial, kills, say
        self._tail = ledger.Tail(trial.nodes.folder)
        self._chance = Random(f"failover {trial.terms.seed}")

    def run(self, _: Trial) -> None:
        for number in range(self._kills):
            self._say(f"kill {number + 1} of {self._kills}")
            self._trial.nodes.wait_ready(60.0)
            time.sleep(self._chance.uniform(*STEADY_S))
            self._once()

    def _once(self) -> None:
        nodes, load = self._trial.nodes, self._trial.load
        leader = nodes.leader()
        self._tail.starts()
        killed = time.monotonic()
        nodes.kill(leader, how=signal.SIGKILL)
        fault = Disturbance("kill-leader", (leader,), killed)
        self._trial.injector.disturbances.append(fault)

        def first() -> float | None:
            new = [at for job, at in self._tail.starts() if self._is_sent_after(job, killed)]
            return min(new, default=None)

        started = until(first, STARTED_S_MAX, "a job started after the kill")
        self.started.append(started - killed)
        time.sleep(AFTER_S)
        recent = [at for at in load.acks[-int(RATE * STARTED_S_MAX) :] if at > killed - 1.0]
        self.gaps.append(longest_gap(recent))
        self._trial.injector.done["kill-leader"] += 1
        self._trial.note(f"{leader} killed: {self.started[-1]:.3f} s, gap {self.gaps[-1]:.3f} s")
        nodes.start(leader)
        fault.end = time.monotonic()

    def _is_sent_after(self, job: str, moment: float) -> bool:
        send = self._trial.load.sends.get(job)
        return send is not None and send.invoked > moment


def failover(
    folder: Path, kills: int, nodes: int, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Milliseconds of both clocks, and whether every promise was kept meanwhile."""
    terms = Terms(0.0, (), nodes=nodes, seed=seed, rate=RATE, clients=3, calls={"single": 1})
    trial = Trial(folder, terms, lambda trial: None)
    clock = Failover(trial, kills, say)
    report = trial.run(clock.run)
    return {
        "kept": report.is_kept,
        "kills": len(clock.started),
        "nodes": nodes,
        STARTED: spread(clock.started),
        GAP: spread(clock.gaps),
        "all of them, in order": [round(seconds * 1000) for seconds in clock.started],
        "verdict": report.as_json(),
    }


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds: the value that half, and 99 of 100, do not exceed, and the largest."""
    ordered = sorted(seconds)

    def at(percent: int) -> float:
        return round(ordered[max(0, -(-len(ordered) * percent // 100) - 1)] * 1000, 1)

    return {"p50": at(50), "p99": at(99), "max": at(100)} if ordered else {}
