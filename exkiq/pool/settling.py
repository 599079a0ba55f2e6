"""What children say, and their deaths, turned into reports."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any, cast

from exkiq.failure_modes import check_decision, decide_by_default
from exkiq.pool.assignment import Assignment, chance_of
from exkiq.pool.children import ChildProcess, Ending
from exkiq.pool.error_text import cut_message, cut_traceback
from exkiq.pool.report import FailedRow, Report, Reporter
from exkiq.pool.words import Word
from exkiq.telemetry import log
from exkiq.wire.messages import UNABLE_MAX

REASON_CHARS_MAX = 300

# Successes that a child is still to be told of; those of a session that is over never come.
AWAITING_MAX = 10_000

VALUE_TYPES = frozenset((bytes, NoneType))
INT_TYPE = frozenset((int,))


class Settling:
    """Settles jobs: each has one outcome, the first that comes.

    1. what a child says counts only for jobs that run in it, by id and fence;
    2. a failed attempt is one WARNING, with `exkiq_job` and `exkiq_crash_reason`; that of a job
       which was cancelled an INFO;
    3. a death with one job in the child is that job's failure, decided by the default rule
       since there is no user code here; with several the culprit is unknown and all are lost;
       what the child never took up goes back uncounted.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.awaiting: dict[str, ChildProcess] = {}  # who is to be told of a commit
        self._reporter = reporter
        self._handlers: dict[Word, Callable[[ChildProcess, list[Any]], None]] = {
            Word.CHECKPOINTS: self._checkpoints,
            Word.DONE: self._done,
            Word.FAILED: self._failed,
            Word.RETURNED: self._returned,
            Word.NOTES: self._notes,
            Word.OVERDUE: self._overdue,
            Word.CANCELLED: self._cancelled,
            Word.PROGRESS: self._progress,
            Word.ABILITY: self._ability,
            Word.AWAITING: self._awaiting,
        }

    def heard(self, child: ChildProcess, word: Word, rest: list[Any]) -> None:
        self._handlers[word](child, rest)

    def _checkpoints(self, child: ChildProcess, rest: list[Any]) -> None:
        for job_id, fence, value in rest[0]:
            if isinstance(value, bytes) and child.ledger.find(job_id, fence) is not None:
                child.ledger.save(job_id, value)
                self._reporter.open().checkpoints.append((job_id, fence, value))

    def _done(self, child: ChildProcess, rest: list[Any]) -> None:
        ids, fences, values, run_ms = _columns(rest)
        valid = child.ledger.end_all(ids, fences)
        report = self._reporter.open()
        done = report.done
        if child.ledger.awaiting:
            self._await(child, report, ids)
        if len(valid) == len(ids):
            done.ids += ids
            done.fences += fences
            done.values += values
            done.run_ms += run_ms
            return
        for i in valid:
            done.ids.append(ids[i])
            done.fences.append(fences[i])
            done.values.append(values[i])
            done.run_ms.append(run_ms[i])

    def _await(self, child: ChildProcess, report: Report, ids: list[str]) -> None:
        found = child.ledger.awaiting.intersection(ids)
        child.ledger.awaiting -= found
        report.awaiting |= found
        self.awaiting.update(dict.fromkeys(found, child))
        while len(self.awaiting) > AWAITING_MAX:
            del self.awaiting[next(iter(self.awaiting))]

    def _failed(self, child: ChildProcess, rest: list[Any]) -> None:
        for row in map(_failed_row, rest[0]):
            job = child.ledger.find(row[0], row[1])
            if job is not None:
                self._fail(child, job, row)

    def _returned(self, child: ChildProcess, rest: list[Any]) -> None:
        for job_id, fence in rest[0]:
            job = child.ledger.find(job_id, fence)
            if job is not None:
                self._hand_back(child, job)

    def _notes(self, child: ChildProcess, rest: list[Any]) -> None:
        for job_id, text, level in rest[0]:
            subject = f"job {job_id} in {child}: " if job_id else f"{child}: "
            log.log(int(level), "%s%s", subject, text, extra={"exkiq_job": job_id})

    def _progress(self, child: ChildProcess, rest: list[Any]) -> None:
        for job_id, fence, value in rest[0]:
            if isinstance(value, bytes) and child.ledger.find(job_id, fence) is not None:
                self._reporter.open().progress.append((job_id, fence, value))

    def _ability(self, child: ChildProcess, rest: list[Any]) -> None:
        tasks, withheld = rest[0][-1]
        if not all(isinstance(task, str) for task in tasks):
            raise TypeError("tasks that are no names")
        child.unable = frozenset(tasks[:UNABLE_MAX])
        child.withheld = {str(group): int(count) for group, count in withheld.items()}

    def _awaiting(self, child: ChildProcess, rest: list[Any]) -> None:
        for job_id, fence in rest[0]:
            if child.ledger.find(job_id, fence) is not None:
                child.ledger.awaiting.add(job_id)

    def _overdue(self, child: ChildProcess, rest: list[Any]) -> None:
        for row in rest[0]:
            if child.ledger.find(row[0], row[1]) is None:
                continue  # it ended in the same moment
            self._failed(child, [[row]])
            child.replace(Ending.HAND_BACK)

    def _cancelled(self, child: ChildProcess, _: list[Any]) -> None:
        if child.ledger.running:
            child.replace(Ending.HAND_BACK)  # what is left sits in threads and would go on

    # --- what the node itself decides

    def timed_out(self, child: ChildProcess, job: Assignment) -> None:
        """The job is over its timeout, and its child did nothing about it: it is replaced."""
        if child.ledger.find(job.id, job.fence) is None:
            return  # it ended in the same moment
        text = f"ran longer than its timeout of {job.timeout_ms} ms, and blocked its child"
        row = _row(job, "JobTimeout", text, child.run_ms(job))
        self._fail(child, job, row)
        child.replace(Ending.HAND_BACK)

    def late(self, child: ChildProcess, jobs: Sequence[Assignment]) -> None:
        """The child has not begun these in time."""
        held = [job for job in jobs if child.ledger.find(job.id, job.fence) is not None]
        if held:
            text = "%s has not begun %d jobs in time: they go back to the front of their queues"
            log.warning(text, child, len(held))
        for job in held:
            self._hand_back(child, job)

    def died(self, child: ChildProcess) -> list[Assignment]:
        """Settle what still ran in a child that is gone; returns the jobs under suspicion."""
        self.awaiting = {key: other for key, other in self.awaiting.items() if other is not child}
        for job in child.untouched:
            if child.ledger.find(job.id, job.fence) is not None:
                self._hand_back(child, job)
        stopped = [child.ledger.running[job_id] for job_id in child.ledger.stopping]
        for job in stopped:
            row = _row(job, "JobCancelled", "cancelled while it ran", child.run_ms(job))
            self._fail(child, job, row)
        jobs = list(child.ledger.running.values())
        if child.ending is not Ending.CRASH:
            for job in jobs:
                self._hand_back(child, job)
            return []
        level = logging.INFO if stopped and not jobs else logging.WARNING
        log.log(level, "%s died (%s) with %d jobs in it", child, child.exit_reason, len(jobs))
        reason = f"the child process that ran it died: {child.exit_reason}"
        if len(jobs) == 1 and not stopped:
            self._fail(child, jobs[0], _row(jobs[0], "ChildDied", reason, child.run_ms(jobs[0])))
            jobs = []
        child.ledger.clear()
        for job in jobs:
            self._lose(job, reason)
        return jobs

    def _fail(self, child: ChildProcess, job: Assignment, row: FailedRow) -> None:
        error_type, message, _ = cast("list[str]", row[3])
        reason = f"{error_type}: {message}"[:REASON_CHARS_MAX]
        if job.id in child.ledger.stopping:
            _tell(logging.INFO, "was cancelled", job, reason, "it is over")
        else:
            _tell(logging.WARNING, "failed", job, reason, _in_words(row[2]))
        child.ledger.end(job.id)
        self._reporter.open().failed.append(row)

    def _lose(self, job: Assignment, reason: str) -> None:
        _tell(logging.WARNING, "was lost", job, f"ChildDied: {reason}", "back to its queue")
        self._reporter.open().lost.append((job.id, job.fence))

    def _hand_back(self, child: ChildProcess, job: Assignment) -> None:
        checkpoint = child.ledger.checkpoint_of(job)
        child.ledger.end(job.id)
        self._reporter.open().returned.append((job.id, job.fence, checkpoint))

    def hand_back_unstarted(self, jobs: list[Assignment]) -> None:
        """Give back jobs that no child has seen."""
        if jobs:
            self._reporter.open().returned += [(job.id, job.fence, job.checkpoint) for job in jobs]


# What comes from a child is looked at before anything is settled: user code can write to the
# line, and a job that is ended here without a report would be lost for good.


def _columns(rest: list[Any]) -> list[list[Any]]:
    """The columns of DONE. Errors: ValueError or TypeError when they are none."""
    ids, fences, values, run_ms = rest
    if not len(ids) == len(fences) == len(values) == len(run_ms):
        raise ValueError("columns of unequal length")
    if not VALUE_TYPES.issuperset(map(type, values)):
        raise TypeError("values that are not encoded")
    if not INT_TYPE.issuperset(map(type, run_ms)):
        raise TypeError("run times that are no milliseconds")
    return rest


def _failed_row(row: Any) -> FailedRow:
    """A row of FAILED. Errors: ValueError or TypeError when it is none."""
    job_id, fence, decision, (error_type, message, trace), run_ms = row
    if not all(isinstance(text, str) for text in (error_type, message, trace)):
        raise TypeError("an error that is no text")
    texts = [cut_message(error_type), cut_message(message), cut_traceback(trace)]
    return [job_id, fence, check_decision(decision), texts, int(run_ms)]


def _row(job: Assignment, error_type: str, message: str, run_ms: int) -> FailedRow:
    decision = decide_by_default(job.attempt, job.retries, chance_of(job))
    return [job.id, job.fence, decision, [error_type, message, ""], run_ms]


def _tell(level: int, what: str, job: Assignment, reason: str, then: str) -> None:
    extra = {"exkiq_job": job.id, "exkiq_crash_reason": reason}
    text = "job %s (%s) %s in attempt %d: %s; %s"
    log.log(level, text, job.id, job.task, what, job.attempt, reason, then, extra=extra)


def _in_words(decision: Any) -> str:
    if decision[0] == "retry":
        return f"retry in {decision[1] / 1000:.1f} s"
    return " ".join(map(str, decision))
