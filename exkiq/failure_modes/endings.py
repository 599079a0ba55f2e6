"""Modes that let go of the job, or of its place."""

from __future__ import annotations

from dataclasses import dataclass

from exkiq.failure_modes.decision import Decision, check_queue_name
from exkiq.failure_modes.mode import FailedJob, FailureMode


@dataclass(frozen=True, slots=True)
class Abandon(FailureMode):
    """No further run, and not into the failed set; the error stays readable for a while."""

    def decide(
        self,
        job: FailedJob,  # noqa: ARG002 - the contract of a mode; this one looks at nothing
        error: BaseException,  # noqa: ARG002
        failures: int,  # noqa: ARG002
        chance: float,  # noqa: ARG002
    ) -> Decision:
        return ["abandon"]


@dataclass(frozen=True, slots=True)
class Requeue(FailureMode):
    """The tail of the same queue, at once, as often as it takes."""

    def decide(
        self,
        job: FailedJob,  # noqa: ARG002 - the contract of a mode; this one looks at nothing
        error: BaseException,  # noqa: ARG002
        failures: int,  # noqa: ARG002
        chance: float,  # noqa: ARG002
    ) -> Decision:
        return ["requeue"]


@dataclass(frozen=True, slots=True)
class Move(FailureMode):
    """To another queue, with the same id and a fresh budget of retries.

    The job's own queue is refused with ValueError: the job would go round for ever.
    """

    queue: str

    def __post_init__(self) -> None:
        check_queue_name(self.queue)

    def decide(
        self,
        job: FailedJob,
        error: BaseException,  # noqa: ARG002 - the contract of a mode
        failures: int,  # noqa: ARG002
        chance: float,  # noqa: ARG002
    ) -> Decision:
        if job.queue == self.queue:
            raise ValueError(f"Move({self.queue!r}) would move the job to the queue it is in")
        return ["move", self.queue]

    def can_move_to(self, queue: str) -> bool:
        return queue == self.queue
