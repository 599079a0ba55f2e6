"""The contract of a success mode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Success:
    """A job that succeeded, as a mode is told of it.

    Units: waited_ms from its enqueue to its last start, run_ms from there to its end, both in
           milliseconds; attempt counts from 1.
    """

    id: str
    task: str
    queue: str
    attempt: int
    value: object
    waited_ms: int
    run_ms: int


class SuccessMode(ABC):
    """Does something about a success, once it is in the log.

    A mode is asked in the process that ran the job, in the one thread that all modes there
    share, and at most once for each success: not at all when that process died in between.
    """

    __slots__ = ()

    @abstractmethod
    def succeeded(self, success: Success) -> None:
        """Called after the success is committed, which nothing done here can change.

        Errors: whatever is raised is logged.
        """
