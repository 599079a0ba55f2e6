"""The job that the load enqueues. It writes down each of its runs, apart from the queue."""

from __future__ import annotations

import json
import os
import time

from exkiq import Worker

RETRIES = 3
MAX_LOST = 20  # many faults may hit one job, and none of them may end it
RESULT_TTL_S = 7_200  # the ends of all jobs are read after the last one


class Mark(Worker, retries=RETRIES, max_lost=MAX_LOST, result_ttl=RESULT_TTL_S, backoff=0.2):
    """Takes `seconds`; its first `failures` attempts fail."""

    def perform(self, seconds: float = 0.0, failures: int = 0) -> str:
        self._write("start")
        time.sleep(seconds)
        if self.job.attempt <= failures:
            self._write("fail")
            raise ValueError("as it was told")
        self._write("end")
        return os.environ["FAULTS_NODE"]

    def _write(self, what: str) -> None:
        """One line of the ledger, whole or not at all."""
        job = self.job
        wall = time.clock_gettime(time.CLOCK_REALTIME)  # not the clock that the faults set
        row = [what, job.id, job.fence, job.attempt, job.lost, time.monotonic(), wall, os.getpid()]
        ledger = os.open(os.environ["FAULTS_LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(ledger, json.dumps(row).encode() + b"\n")
        finally:
            os.close(ledger)


class Nothing(Worker, result_ttl=0):
    """As much load as there can be."""

    def perform(self) -> None:
        """Does nothing, and tells nobody."""
