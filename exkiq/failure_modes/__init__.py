"""What becomes of a job whose attempt failed: pure rules that return decisions."""

from exkiq.failure_modes.decision import Decision, check_decision
from exkiq.failure_modes.endings import Abandon, Move, Requeue
from exkiq.failure_modes.mode import FailedJob, FailureMode
from exkiq.failure_modes.retry import ExponentialRetry, Retry, decide_by_default

__all__ = [
    "Decision",
    "FailureMode",
    "FailedJob",
    "Retry",
    "ExponentialRetry",
    "Abandon",
    "Move",
    "Requeue",
    "decide_by_default",
    "check_decision",
]
