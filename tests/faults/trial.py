"""One run: nodes up, load and faults, heal, wait for the end of all jobs, collect, judge."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exkiq import Client
from tests.cluster.harness import until
from tests.faults import committed, ledger
from tests.faults.checker import DRAIN_S_MAX, Verdict, judge
from tests.faults.history import OK, History, NodeState
from tests.faults.injector import Hostile, Injector
from tests.faults.load import CALLS, LINES, PAUSED_QUEUE, QUEUES, SHORT, Load, longest_gap
from tests.faults.nodes import Nodes
from tests.faults.schedule import plan

SERVED = ",".join(f"{queue}:1" for queue in (*QUEUES, PAUSED_QUEUE, *LINES))
OPTIONS = ("--drain-timeout", "2", "--concurrency", "10", "--queues", SERVED)
ASKED_AT_ONCE = 200
LISTED_SECONDS = 60.0
LEVEL_S = 20.0


@dataclass(frozen=True)
class Terms:
    """What a run is like; the same terms give the same schedule of faults."""

    seconds: float
    kinds: Sequence[str]
    nodes: int = 3
    seed: int = 1
    rate: float = 80.0
    clients: int = 5
    alone: float = 0.5
    pace: float = 1.0
    longest: float = 6.0
    calls: Mapping[str, int] = field(default_factory=lambda: CALLS)
    durations: Sequence[float] = SHORT


@dataclass
class Report:
    """What a run came to."""

    terms: Terms
    verdict: Verdict
    history: History
    faults: Counter[str]
    skipped: Counter[str]
    acknowledged: int
    left_out: int
    strangers: int
    longest_gap: float
    failures: list[str] = field(default_factory=list)
    timeline: list[str] = field(default_factory=list)

    @property
    def is_kept(self) -> bool:
        return not self.verdict.broken and not self.failures

    def as_json(self) -> dict[str, Any]:
        lost = sum(n for kind, n in self.verdict.counts.items() if kind.startswith("H1 "))
        return {
            "kept": self.is_kept,
            "seed": self.terms.seed,
            "nodes": self.terms.nodes,
            "seconds": self.terms.seconds,
            "faults": sum(self.faults.values()),
            "faults_by_kind": dict(sorted(self.faults.items())),
            "left_out": dict(sorted(self.skipped.items())),
            "strangers": self.strangers,
            "asked": len(self.history.sends),
            "outcomes": dict(Counter(send.outcome for send in self.history.sends.values())),
            "acknowledged": self.acknowledged,
            "lost": lost,
            "double_claims": self.verdict.counts["H5 double claim"],
            "longest_gap_s": round(self.longest_gap, 3),
            "ends": dict(Counter(str(state) for state in self.history.finals.values())),
            "log_checked": self.history.log_ids is not None,
            **self.verdict.figures,
            "broken": self.verdict.broken,
            "broken_counts": dict(self.verdict.counts),
            "harness": self.failures,
            "timeline": self.timeline,
        }


class Trial:
    """Duties: start the cluster; run the schedule under load; heal; collect; judge.

    `look(trial)` is called now and then while it runs, for those who show progress.
    """

    def __init__(self, folder: Path, terms: Terms, look: Callable[[Trial], None]) -> None:
        self.terms, self.began = terms, time.monotonic()
        self.stage = "starting"
        self.timeline: list[str] = []
        self._look = look
        self.nodes = Nodes(folder, terms.nodes, *OPTIONS, seed=terms.seed)
        planned = plan(
            terms.seed,
            terms.seconds,
            terms.kinds,
            alone=terms.alone,
            pace=terms.pace,
            longest=terms.longest,
        )
        self.injector = Injector(self.nodes, planned, self.note)
        self.load = Load(
            self.nodes.url,
            clients=terms.clients,
            rate=terms.rate,
            seed=terms.seed,
            calls=terms.calls,
            durations=terms.durations,
        )
        self.left, self.strangers = terms.seconds, 0

    def note(self, text: str) -> None:
        self.timeline.append(f"{time.monotonic() - self.began:8.3f} {text}")

    def run(self, scenario: Callable[[Trial], None] | None = None) -> Report:
        """The whole of it; a scenario stands in for the schedule of faults."""
        history = History()
        try:
            self.nodes.start()
            self.nodes.wait_ready(60.0)
            self.note("load begins")
            self.load.start()
            if scenario is None:
                self._under_faults()
            else:
                scenario(self)
            self.nodes.heal()
            self.note("healed")
            self._heal(history)
            self._collect(history)
            self._stop_and_read(history)
        except BaseException:
            sys.stderr.write("\n".join((*self.timeline, self.nodes.logs())))
            raise
        finally:
            self.nodes.stop()
            self.nodes.unmount()
        self.stage = "judging"
        verdict = judge(history)
        self.note(f"{len(verdict.broken)} broken promises")
        return self._report(history, verdict)

    # ---- steps -------------------------------------------------------------------------------

    def _under_faults(self) -> None:
        self.stage = "faults"
        hostile = Hostile(list(self.nodes.ports.values()), self.terms.seed)
        end = time.monotonic() + self.terms.seconds

        def look() -> None:
            self.left = max(0.0, end - time.monotonic())
            self.nodes.note_stopped()
            self._look(self)

        self.injector.run(self.terms.seconds, look)
        hostile.stop()
        self.strangers = hostile.sent

    def _heal(self, history: History) -> None:
        """The load ends after the heal, so that the last calls have their answer."""
        self.stage = "healed, waiting for the end of all jobs"
        history.healed = time.monotonic()
        self.load.stop()
        until(lambda: self.nodes.leader_now(), DRAIN_S_MAX, "a leader after the heal")
        with Client(self.nodes.url) as client:

            def is_drained() -> bool:
                self._look(self)
                stats = client.stats(consistent=True)
                return not any(stats[s] for s in ("queued", "running", "scheduled", "retry"))

            try:
                until(is_drained, DRAIN_S_MAX, "the end of all jobs")
                until(lambda: self._are_level(history), DRAIN_S_MAX, "one state")
                history.drained = time.monotonic()
            except AssertionError as error:
                self.note(str(error))
        self.note("drained" if history.drained else "not drained")

    def _states(self) -> dict[str, NodeState]:
        found = {}
        for name in self.nodes.names:
            status = self.nodes.status(name)
            raft = status["raft"]
            leader = status["cluster"]["leader"]
            found[name] = NodeState(leader, raft["applied_index"], raft["state_hash"])
        return found

    def _are_level(self, history: History) -> bool:
        """The log goes on for a moment after the last job: looked at until it is the same."""
        history.nodes = self._states()
        return len({state.applied for state in history.nodes.values()}) == 1

    def _collect(self, history: History) -> None:
        self.stage = "collecting"
        history.sends, history.cancels = self.load.sends, self.load.cancels
        history.disturbances = self.injector.disturbances
        history.stopped = self.nodes.stopped
        asyncio.run(self._finals(history))
        with suppress(AssertionError):  # what the nodes said last is judged
            until(lambda: self._are_level(history), LEVEL_S, "one state")

    async def _finals(self, history: History) -> None:
        with Client(self.nodes.url, enqueue_timeout=LISTED_SECONDS) as client:

            async def one(job_id: str) -> None:
                told = await client.arequest("job", job_id)
                history.finals[job_id] = None if told is None else told["state"]

            ids = list(history.sends)
            for first in range(0, len(ids), ASKED_AT_ONCE):
                await asyncio.gather(*map(one, ids[first : first + ASKED_AT_ONCE]))

    def _stop_and_read(self, history: History) -> None:
        self.nodes.kill(*self.nodes.alive)
        history.runs = ledger.runs(self.nodes.folder)
        history.tracebacks = self.nodes.tracebacks()
        logs = [committed.read(self.nodes.folder, name) for name in self.nodes.names]
        committed.judge(history, logs)

    def _report(self, history: History, verdict: Verdict) -> Report:
        return Report(
            terms=self.terms,
            verdict=verdict,
            history=history,
            faults=self.injector.done,
            skipped=self.injector.skipped,
            acknowledged=sum(send.outcome == OK for send in history.sends.values()),
            left_out=self.load.left_out,
            strangers=self.strangers,
            longest_gap=longest_gap(self.load.acks),
            failures=self.injector.failures,
            timeline=self.timeline,
        )
