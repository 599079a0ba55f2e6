"""The pool: slots, child processes, and one job as a pipeline of small steps."""

from exkiq.pool.assignment import Assignment
from exkiq.pool.context import JobContext, Port, current_job, entered
from exkiq.pool.pool import Pool
from exkiq.pool.report import VALUE_NOT_SERIALISABLE, VALUE_TOO_LARGE, Done, Report
from exkiq.pool.work import App, JobTimeout, Runnable, UnknownTask

__all__ = [
    "Pool",
    "Assignment",
    "Report",
    "Done",
    "VALUE_TOO_LARGE",
    "VALUE_NOT_SERIALISABLE",
    "JobContext",
    "Port",
    "current_job",
    "entered",
    "App",
    "Runnable",
    "UnknownTask",
    "JobTimeout",
]
