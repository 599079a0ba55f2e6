"""Every error exkiq raises, named by what the caller may conclude.

ExkiqError
  ConfigError          (also a ValueError) fix the settings; all faults are listed at once
  Unavailable          surely not done, try again
    NoNodeError        no node answered
    NoQuorum           no leader with a majority behind it
    NoQueueError       a queue of one process that is not there
  OutcomeUnknown       maybe done; safe to repeat, because the job's id stays the same
    EnqueueTimeout     (also a TimeoutError) the job is in `.job`
  Refused              surely not done, no use repeating it unchanged
    SerializationError (also a TypeError) an argument or a value that msgpack cannot carry
      JobTooLarge      over a limit of `exkiq.machine.limits`
    JobAlreadyExists   the id is taken
    NoSuchJob          no such id, or its record is gone
    ResultTooLarge     the job succeeded, its value was not kept
    UnsupportedOperation
    ClusterMismatch    another cluster, another secret, or a certificate that does not do
    AlreadyStarted
    NotRunning
  JobError             raised by or about a job
    JobFailed          its last error is inside
    JobCancelled
  WireError
    LocalWireError     we built a bad frame: our bug
    RemoteWireError    the peer sent a bad frame: close it
  DataError            a file of the data folder is damaged or not ours
"""

from __future__ import annotations


class ExkiqError(Exception):
    """The root: catches everything that exkiq raises on purpose."""


class ConfigError(ExkiqError, ValueError):
    """Settings that cannot work. All faults are listed at once."""

    def __init__(self, *faults: str) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class Unavailable(ExkiqError):
    """Surely not done; trying again later may work."""


class NoNodeError(Unavailable):
    """No node answered."""


class NoQuorum(Unavailable):
    """No leader with a majority of the voters behind it."""


class NoQueueError(Unavailable):
    """A queue of one process that is not there."""


class OutcomeUnknown(ExkiqError):
    """Perhaps done, perhaps not; repeating is safe, ids make it idempotent."""


class EnqueueTimeout(OutcomeUnknown, TimeoutError):
    """No answer in time. The job may be enqueued: `.job` is its handle."""

    job: object = None


class Refused(ExkiqError):
    """Surely not done, and of no use to repeat unchanged."""


class SerializationError(Refused, TypeError):
    """A value that msgpack cannot carry."""


class JobTooLarge(SerializationError):
    """Over one of the limits of `exkiq.machine.limits`."""


class JobAlreadyExists(Refused):
    """The id is taken by another job."""


class NoSuchJob(Refused):
    """No job has this id, or its record is gone."""


class ResultTooLarge(Refused):
    """The job succeeded, its value was over the limit and was not kept."""


class UnsupportedOperation(Refused):
    """This backend cannot do that."""


class ClusterMismatch(Refused):
    """The other side belongs to another cluster, has another secret, or no fit certificate."""


class AlreadyStarted(Refused):
    """It runs already."""


class NotRunning(Refused):
    """It does not run."""


class JobError(ExkiqError):
    """Raised by or about a job."""


class JobFailed(JobError):
    """The job ended in failure.

    `error_type`, `error_message` and `traceback` are those of the last attempt, as text:
    the exception's class may not exist in this process.
    """

    def __init__(
        self, error_type: str, error_message: str, traceback: str = "", attempts: int = 1
    ) -> None:
        tried = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        super().__init__(f"{error_type}: {error_message} (after {tried})")
        self.error_type = error_type
        self.error_message = error_message
        self.traceback = traceback
        self.attempts = attempts


class JobCancelled(JobError):
    """The job was cancelled before it ended."""


class WireError(ExkiqError):
    """A frame that cannot be."""


class LocalWireError(WireError):
    """We built it: a bug of ours."""


class RemoteWireError(WireError):
    """The peer sent it: the link is closed."""


class DataError(ExkiqError):
    """A file of the data folder is damaged, or belongs to somebody else."""
