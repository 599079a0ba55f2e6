"""A pretend pool: jobs that take virtual time and succeed, fail, crash, dawdle or haunt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from exkiq.pool import Assignment, Report
from tests.sim.clock import Handle, Host

HURRIED_SLOTS = 32
RARE = "m:rare"  # a task that some nodes cannot run


@dataclass(frozen=True)
class Habits:
    """How jobs behave: shares of all runs, and seconds."""

    slots: int = 4
    seconds: float = 0.05
    fails: float = 0.1
    crashes: float = 0.03
    is_slow: float = 0.03
    slow_seconds: float = 3.0
    hangs: float = 0.01
    hang_seconds: float = 8.0
    haunts: float = 0.3  # of those abandoned: go on, and report when their session is over
    checkpoints: float = 0.05
    lacks: float = 0.8  # of the lives of nodes: without the code of the rare task, until the end


@dataclass(eq=False)
class Run:
    """A line of the ledger: one execution."""

    node: str
    life: int
    id: str
    fence: int
    started: float
    started_ms: int
    ended: float | None = None
    is_zombie: bool = False


class PretendPool:
    """The `Runner` of a node. Everything it runs is in `ledger`."""

    def __init__(
        self, host: Host, chance: Random, habits: Habits, ledger: Callable[[Run], None]
    ) -> None:
        self._host, self._chance, self._habits, self._ledger = host, chance, habits, ledger
        self.report: Callable[[Report], None] = lambda _: None
        self.runs: dict[tuple[str, int], tuple[Run, Handle, Assignment]] = {}
        self.most = 0
        self.is_hurried = False
        self._lacks = chance.random() < habits.lacks
        self._open: Report | None = None

    @property
    def free(self) -> int:
        return (HURRIED_SLOTS if self.is_hurried else self._habits.slots) - len(self.runs)

    @property
    def free_by_group(self) -> dict[str, int]:
        return {"": max(0, self.free)}

    @property
    def unable(self) -> tuple[str, ...]:
        return (RARE,) if self._lacks and not self.is_hurried else ()

    def hurry(self) -> None:
        """The rest is to end soon: also what runs, and much of it at a time."""
        self.is_hurried = True
        for key, (run, handle, job) in self.runs.items():
            handle.cancel()
            handle = self._host.call_later(self._seconds(), self._finish, run, job)
            self.runs[key] = run, handle, job

    def run(self, assignments: list[Assignment]) -> None:
        for job in assignments:
            run = Run(
                self._host.name,
                self._host.life,
                job.id,
                job.fence,
                self._host.local,
                self._host.now_ms(),
            )
            self._ledger(run)
            handle = self._host.call_later(self._seconds(), self._finish, run, job)
            self.runs[(job.id, job.fence)] = run, handle, job
        self.most = max(self.most, len(self.runs))

    def stop_job(self, job_id: str, fence: int) -> None:
        """It was cancelled: it ends now, whatever its habits."""
        found = self.runs.get((job_id, fence))
        if found is not None:
            run, handle, job = found
            handle.cancel()
            self.runs[job_id, fence] = run, self._host.call_later(0.01, self._finish, run, job), job

    def committed(self, ids: list[str]) -> None:
        """No job here waits for it."""

    def abandon(self) -> None:
        for run, handle, _ in self.runs.values():
            if self._chance.random() < self._habits.haunts:
                run.is_zombie = True
            else:
                handle.cancel()
                run.ended = self._host.local
        self.runs.clear()
        self._open = None

    def _seconds(self) -> float:
        habits = self._habits
        if self.is_hurried:
            return min(0.01, habits.seconds)
        if self._chance.random() < habits.hangs:
            return habits.hang_seconds
        mean = habits.slow_seconds if self._chance.random() < habits.is_slow else habits.seconds
        return self._chance.expovariate(1 / mean)

    def _finish(self, run: Run, job: Assignment) -> None:
        self.runs.pop((run.id, run.fence), None)
        run.ended = self._host.local
        report, dice, habits = self._report(), self._chance.random(), self._habits
        if dice < habits.checkpoints:
            report.checkpoints.append((run.id, run.fence, b"\x01"))
        if dice < habits.crashes:
            report.lost.append((run.id, run.fence))
        elif dice < habits.crashes + habits.fails:
            decision = self._verdict(job) if job.attempt <= job.retries else self._last()
            error = ["RuntimeError", "pretended", ""]
            report.failed.append([run.id, run.fence, decision, error, 1])
        else:
            done = report.done
            done.ids.append(run.id)
            done.fences.append(run.fence)
            done.values.append(_value(job))
            done.run_ms.append(1)

    def _verdict(self, job: Assignment) -> list[object]:
        other = "mail" if job.queue == "default" else "default"
        kind = self._chance.choices(("retry", "requeue", "move"), (10, 2, 1))[0]
        if kind == "retry":
            return ["retry", self._chance.choice((0, 20, 300))]
        return ["move", other] if kind == "move" else [kind]

    def _last(self) -> list[object]:
        return [self._chance.choice(("failed", "failed", "failed", "abandon"))]

    def _report(self) -> Report:
        if self._open is None:
            self._open = Report()
            self._host.call_soon(self._flush)
        return self._open

    def _flush(self) -> None:
        report, self._open = self._open, None
        if report is not None:
            self.report(report)


def _value(job: Assignment) -> bytes | None:
    """Steps of session jobs put their event behind the state; other jobs give nothing."""
    return (job.checkpoint or b"") + job.payload if ".on_" in job.task else None
