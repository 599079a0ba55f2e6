"""exkiq: background jobs with no broker.

    from exkiq import Worker

    class SendWelcome(Worker, queue="emails", retries=5):
        def perform(self, user_id, company_id): ...

    SendWelcome.perform_async(1, 2)

Importing it opens nothing: a node is looked for at the first enqueue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exkiq import errors
from exkiq.client import Client, connect, job, queue, stats
from exkiq.failed_set import failed
from exkiq.inspect import AttemptError, JobStatus, QueueStats
from exkiq.job import Job
from exkiq.pool.context import current_job
from exkiq.task import task
from exkiq.worker import Worker

if TYPE_CHECKING:
    from exkiq.node import Node

__version__ = "0.1.0"

__all__ = [
    "Worker",
    "task",
    "current_job",
    "Job",
    "JobStatus",
    "AttemptError",
    "QueueStats",
    "connect",
    "job",
    "queue",
    "stats",
    "failed",
    "Client",
    "Node",
    "errors",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """`Node` on first use: who only enqueues needs none of what a node is built from."""
    if name == "Node":
        from exkiq.node import Node

        return Node
    raise AttributeError(f"module 'exkiq' has no attribute {name!r}")
