"""A child's log lines about jobs, in its node's log."""

from __future__ import annotations

import logging

from exkiq.pool.outbox import Outbox


class Relay(logging.Handler):
    """Sends lines about a job to the node, where they are looked for.

    Other lines of a child are about the child itself, and may come when its loop stands still:
    they go to stderr, as they would without this.
    """

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self._outbox = outbox

    def emit(self, record: logging.LogRecord) -> None:
        job_id = getattr(record, "exkiq_job", None)
        if isinstance(job_id, str):
            self._outbox.note(record.getMessage(), job_id, record.levelno)
        elif logging.lastResort is not None and record.levelno >= logging.lastResort.level:
            logging.lastResort.handle(record)
