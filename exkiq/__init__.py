"""exkiq: background jobs with no broker.

    from exkiq import Worker

    class SendWelcome(Worker, queue="emails", retries=5):
        def perform(self, user_id, company_id): ...

    SendWelcome.perform_async(1, 2)

Importing it opens nothing: a node is looked for at the first enqueue.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from exkiq import errors, failure_modes, success_modes
from exkiq.client import Client, astats, connect, job, queue, stats
from exkiq.failed_set import failed
from exkiq.failure_modes import FailureMode
from exkiq.inspect import AttemptError, JobStatus, Outcome, QueueStats, Step, Times
from exkiq.job import Job
from exkiq.many import aresult_many, result_many
from exkiq.pool.context import current_job, progress
from exkiq.pools import pool
from exkiq.session_job import SessionJob
from exkiq.success_modes import SuccessMode
from exkiq.task import task
from exkiq.worker import Worker

if TYPE_CHECKING:
    from exkiq.local import Local
    from exkiq.node import Node

__version__ = "0.1.0"

__all__ = [
    "Worker",
    "SessionJob",
    "task",
    "current_job",
    "progress",
    "Job",
    "JobStatus",
    "AttemptError",
    "Outcome",
    "Step",
    "QueueStats",
    "Times",
    "connect",
    "job",
    "queue",
    "pool",
    "result_many",
    "aresult_many",
    "stats",
    "astats",
    "failed",
    "FailureMode",
    "SuccessMode",
    "failure_modes",
    "success_modes",
    "Client",
    "Local",
    "Node",
    "errors",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """On first use: who only enqueues needs none of what a node or a test suite is built from."""
    if name == "Node":
        from exkiq.node import Node

        return Node
    if name == "Local":
        from exkiq.local import Local

        return Local
    if name == "testing":
        return importlib.import_module("exkiq.testing")
    raise AttributeError(f"module 'exkiq' has no attribute {name!r}")
