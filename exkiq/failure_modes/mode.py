"""The contract of a failure mode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from exkiq.failure_modes.decision import Decision


class FailedJob(Protocol):
    """What a mode may look at of the job whose attempt failed."""

    @property
    def id(self) -> str: ...

    @property
    def queue(self) -> str: ...


class FailureMode(ABC):
    """Decides what becomes of a job after a failed attempt.

    A mode holds its options and nothing else: it is asked on the node that ran the attempt,
    for any job, in any order. It touches neither clock nor chance; `chance` is handed in.
    """

    __slots__ = ()

    @abstractmethod
    def decide(
        self, job: FailedJob, error: BaseException, failures: int, chance: float
    ) -> Decision:
        """The decision for this failure.

        Shapes: a list as in `exkiq.failure_modes.decision`.
        Units:  failures counts from 1, this one included; chance is in [0, 1).
        Errors: whatever is raised puts the job into the failed set with both errors.
        """

    def can_move_to(self, queue: str) -> bool:  # noqa: ARG002 - most modes move nothing
        """Whether it may move a job there, which is refused for the queue that it is given to."""
        return False
