"""What a queue of another kind has to do, and what each kind cannot.

A backend is a class below `Queue`, with a `kind` that errors name. `exkiq.testing.QueueContract`
tries it out:

    class TestMine(QueueContract):
        def make(self) -> Queue:
            return MyQueue()

Which thread calls what:

- `validate` is called by whoever enqueues, in any thread, before anything is sent; it must not
  wait for anything.
- All else is called by one thread at a time, that of the leader for a queue of a cluster. Each
  call may wait for a disk or a server, and raises Unavailable when that is away: then surely
  nothing was done, and it is asked again.

A backend whose calls are carried out on every node, as those of the replicated queue are, is
under a stricter law: the same calls in the same order must give the same state, whatever the
clock, chance, or the order of a set may say; and it must never raise, since an exception would
stop all nodes at the same place for ever. It answers with values that say no.

A list is asked for by people. If it raises, they see the error, and the queue goes on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, TypedDict

from exkiq.errors import UnsupportedOperation


class Operation(StrEnum):
    """What can be asked of a queue, in the words of an error."""

    ENQUEUE = "enqueue"
    RESULT = "call, result"
    WATCH = "watch"
    OWN_ID = "an id given by the caller"
    DELAY = "delay"
    RETRY_WAIT = "a wait before a retry"
    PRIORITY = "priority"
    CANCEL = "cancel"
    JOBS = "jobs(state=)"
    WHERE = "jobs(where=)"
    CHANGE = "move, clear"
    PAUSE = "pause, resume"
    STATS = "stats"
    LAMBDA = "lambdas"
    FENCE = "fence"


_ALL = frozenset(Operation)

CAPABILITIES: Mapping[str, frozenset[Operation]] = MappingProxyType(
    {
        "replicated": _ALL - {Operation.LAMBDA},
        "Local": _ALL,
        "Local of another node": _ALL - {Operation.LAMBDA, Operation.WATCH},
        "RabbitMQ": frozenset({Operation.ENQUEUE, Operation.PAUSE, Operation.STATS}),
        "SQL poll": frozenset(
            {
                Operation.RETRY_WAIT,
                Operation.CANCEL,
                Operation.JOBS,
                Operation.PAUSE,
                Operation.STATS,
                Operation.FENCE,
            }
        ),
    }
)
"""What each kind of queue can do. RabbitMQ has results where caller and worker belong to one
cluster; SQL poll lists failed jobs only, and its pause is the cluster's or the process's."""


def require(backend: str, can: frozenset[Operation], operation: Operation) -> None:
    """UnsupportedOperation that names both, unless the backend can do it."""
    if operation not in can:
        raise UnsupportedOperation(f"a queue of kind {backend} has no {operation.value}")


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be stored. Times in milliseconds; payload is an encoded call."""

    id: str
    task: str
    payload: bytes
    priority: int = 0
    delay_ms: int = 0
    retries: int = 5
    has_own_id: bool = False
    is_unique: bool = False


class Reserved(NamedTuple):
    """A job that is to run now. `fence` is different at every start, and grows."""

    id: str
    fence: int
    task: str
    payload: bytes
    attempt: int


class Seen(NamedTuple):
    """A job in a list."""

    id: str
    state: str
    task: str


class Stats(TypedDict):
    """At least these; a backend may say more. `count` is all that have not ended."""

    count: int
    in_progress: int


class Queue(ABC):
    """One queue of some kind. What calls which method is said above."""

    kind: str

    @abstractmethod
    def capabilities(self) -> frozenset[Operation]:
        """What it can do; the same at all times."""

    def validate(self, job: NewJob) -> None:
        """Refuse what it cannot keep, before anything is stored.

        Errors: UnsupportedOperation naming kind and operation; other Refused.
        """
        can = self.capabilities()
        require(self.kind, can, Operation.ENQUEUE)
        if job.has_own_id or job.is_unique:
            require(self.kind, can, Operation.OWN_ID)
        if job.delay_ms:
            require(self.kind, can, Operation.DELAY)
        if job.priority:
            require(self.kind, can, Operation.PRIORITY)

    @abstractmethod
    def enqueue(self, jobs: Sequence[NewJob]) -> int:
        """Store these, all or none; how many are new: an id that is there stays as it is.

        Errors: JobAlreadyExists for a unique one whose id is taken.
        """

    @abstractmethod
    def reserve(self, limit: int) -> list[Reserved]:
        """Up to so many of the jobs that may start now, the first first; they are in progress."""

    @abstractmethod
    def ack(self, job: Reserved, value: bytes | None = None) -> bool:
        """It succeeded; False for a start that counts no more."""

    @abstractmethod
    def nack(self, job: Reserved, decision: Sequence[str | int], error: Sequence[str]) -> bool:
        """It did not; False for a start that counts no more.

        Shapes: decision as a failure mode gives it, ["requeue"] to have it tried again at once;
                error is type, message, traceback.
        Errors: UnsupportedOperation for a wait that it cannot keep.
        """

    @abstractmethod
    def cancel(self, job_id: str) -> str:
        """ "ok", "in_progress" (untouched), or "not_found"."""

    @abstractmethod
    def jobs(
        self, state: str | None = None, where: Callable[[Seen], bool] | None = None
    ) -> list[Seen]:
        """Its jobs, all or those of a state, for which `where` is true.

        Errors: whatever `where` raises; the queue goes on.
        """

    @abstractmethod
    def stats(self) -> Stats:
        """How many there are."""
