"""What handles ask of whoever carries their wishes out, and queues that are not in the log.

Asked   a client of the cluster, or that of a queue of one process
Place   a queue of another kind; accepted wherever a queue's name is
StandIn a client that takes the jobs of places too, as that of a test does
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from exkiq.inspect import Step
    from exkiq.job import Job
    from exkiq.orders import Order
    from exkiq.queue_handle import QueueHandle
    from exkiq.runnable import Runnable


class Asked(Protocol):
    """Stores jobs and answers questions about them; each verb with its async twin.

    `exkiq.Client` says what each gives and raises.
    """

    @property
    def next_id(self) -> Callable[[], str]: ...
    def next_pid(self) -> bytes: ...
    def countdown(self, timeout: float | None) -> Callable[[], float | None]: ...

    def job(self, job_id: str) -> Job: ...
    def queue(self, name: str) -> QueueHandle: ...

    def enqueue(self, order: Order) -> Job: ...
    async def aenqueue(self, order: Order) -> Job: ...
    def enqueue_all(self, orders: Sequence[Order]) -> list[Job]: ...
    async def aenqueue_all(self, orders: Sequence[Order]) -> list[Job]: ...

    def propose(self, op: bytes, about: str = ..., timeout: float | None = ...) -> Any: ...
    async def apropose(self, op: bytes, about: str = ..., timeout: float | None = ...) -> Any: ...

    def request(
        self,
        verb: str,
        *args: Any,
        timeout: float | None = ...,
        about: str = ...,
        expected_until: float = ...,
    ) -> Any: ...
    async def arequest(
        self,
        verb: str,
        *args: Any,
        timeout: float | None = ...,
        about: str = ...,
        expected_until: float = ...,
    ) -> Any: ...

    def wait_result(self, job_id: str, timeout: float | None, expected_until: float) -> Any: ...
    async def await_result(
        self, job_id: str, timeout: float | None, expected_until: float
    ) -> Any: ...

    def wait_results(
        self, asked: Sequence[tuple[str, float]], timeout: float | None
    ) -> list[Any]: ...
    async def await_results(
        self, asked: Sequence[tuple[str, float]], timeout: float | None
    ) -> list[Any]: ...

    def watch(self, job_id: str, expected_until: float) -> Iterator[Step]: ...
    def awatch(self, job_id: str, expected_until: float) -> AsyncIterator[Step]: ...


class StandIn(Asked, Protocol):
    """What keeps all jobs of this process to itself, whatever place they are for."""

    def take_in(self, queue: str) -> Asked:
        """Who takes the jobs of a place of this name."""

    def task_name(self, runnable: Runnable) -> str:
        """The name by which they find this task, one that cannot be imported included."""


class Place(ABC):
    """A queue that is not in the log of the cluster, such as `exkiq.Local("q")`.

    `name` is what it is called there: queues of the log of that name are others. `node` is the
    one that has it, None for this process.
    """

    name: str
    node: str | None

    @abstractmethod
    def declare(self) -> None:
        """A class or a task says that its jobs go here: from now on this queue is known."""

    @abstractmethod
    def client(self) -> Asked:
        """Who takes its jobs. Errors: NoQueueError where it cannot be."""

    @abstractmethod
    def known_client(self) -> Asked:
        """The same for questions. Errors: NoQueueError for a queue that nobody declared or used."""

    def handle(self, options: Mapping[str, object]) -> QueueHandle:
        """The handle of this queue. Errors: NoQueueError; TypeError for an option."""
        if options:
            raise TypeError(
                f"{self!r} takes no {', '.join(options)} here: its own options are written in"
                " Local(...), and modes belong to its classes and tasks"
            )
        return self.known_client().queue(self.name)

    @abstractmethod
    def task_name(self, runnable: Runnable) -> str:
        """The name by which its jobs find this task. Errors: SerializationError."""
