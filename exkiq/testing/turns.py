"""Which job of a test runs next, and how far the clock goes on for it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator, Sequence

from exkiq.machine import Record, State
from exkiq.testing.hand import Hand
from exkiq.testing.stage import WAITING, Stage

# More runs than a test has use for: a job that enqueues itself would never come to an end.
RUNS_MAX = 10_000

LIVE = (*WAITING, State.RUNNING)


class Turns:
    """Runs jobs in the order in which a node would start them, one after the other.

    Each way to go on is written once, as the jobs to run; its two verbs differ in how they run
    them. Errors: RuntimeError after 10,000 runs.
    """

    def __init__(self, stage: Stage, hand: Hand) -> None:
        self._stage, self._hand = stage, hand

    def drain(self, queue: str | None, *, retries: bool) -> None:
        """Run all that is due, of one queue or of all, and their retries when their time comes."""
        self._run(self._due(queue, retries))

    async def adrain(self, queue: str | None, *, retries: bool) -> None:
        """As `drain`; async jobs run on the running loop."""
        await self._arun(self._due(queue, retries))

    def until_ended(self, job_ids: Sequence[str], timeout: float | None) -> None:
        """Run what comes until these jobs have ended, or so many seconds have gone by."""
        self._run(self._before_end(job_ids, timeout))

    async def auntil_ended(self, job_ids: Sequence[str], timeout: float | None) -> None:
        """As `until_ended`; async jobs run on the running loop."""
        await self._arun(self._before_end(job_ids, timeout))

    def alone(self, job_id: str) -> None:
        """Run that job and its retries, and no other."""
        self._run(self._of_job(job_id))

    async def aalone(self, job_id: str) -> None:
        """As `alone`; an async job runs on the running loop."""
        await self._arun(self._of_job(job_id))

    # ---- what to run -----------------------------------------------------------------------------

    def _due(self, queue: str | None, is_with_retries: bool) -> Iterator[Record]:
        stage = self._stage
        while True:
            record = stage.next_to_start(queue)
            if record is not None:
                yield record
            elif is_with_retries and stage.has_retry(queue):
                stage.go_on_to(stage.next_due_ms() or 0)
            else:
                return

    def _before_end(self, job_ids: Sequence[str], timeout: float | None) -> Iterator[Record]:
        stage = self._stage
        if timeout == 0:
            return  # it is only asked
        wait_ms = math.inf if timeout is None else math.ceil(timeout * 1000)
        end_ms = stage.clock.now_ms() + wait_ms
        while any(map(self._is_live, job_ids)):
            record = stage.next_to_start(None)
            due_ms = stage.next_due_ms()
            if record is not None:
                yield record
            elif due_ms is not None and due_ms <= end_ms:
                stage.go_on_to(due_ms)
            else:
                if timeout is not None:
                    stage.go_on_to(int(end_ms))
                return

    def _is_live(self, job_id: str) -> bool:
        record = self._stage.record(job_id)
        return record is not None and record.state in LIVE

    def _of_job(self, job_id: str) -> Iterator[Record]:
        stage = self._stage
        while (record := stage.record(job_id)) is not None:
            if stage.may_start(record):
                yield record
            elif record.timer and record.state is State.RETRY:
                stage.go_on_to(record.run_at_ms)
            else:
                return

    # ---- running it ------------------------------------------------------------------------------

    def each(self, job_ids: Sequence[str]) -> Iterator[None]:
        """As `until_ended` without a limit, a pause after each run."""
        for record in _bounded(self._before_end(job_ids, None)):
            self._hand.run(record)
            yield

    async def aeach(self, job_ids: Sequence[str]) -> AsyncIterator[None]:
        """As `each`; async jobs run on the running loop."""
        for record in _bounded(self._before_end(job_ids, None)):
            await self._hand.arun(record)
            yield

    def _run(self, records: Iterator[Record]) -> None:
        for record in _bounded(records):
            self._hand.run(record)

    async def _arun(self, records: Iterator[Record]) -> None:
        for record in _bounded(records):
            await self._hand.arun(record)


def _bounded(records: Iterator[Record]) -> Iterator[Record]:
    for number, record in enumerate(records):
        if number == RUNS_MAX:
            raise RuntimeError(
                f"{RUNS_MAX} jobs ran and {record.spec.task} still waits:"
                " does a job enqueue itself, or is it put back without end?"
            )
        yield record
