"""The verbs: what a worker class, a method of it and a task function are enqueued with."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Any, Generic, ParamSpec, Unpack

from exkiq import client
from exkiq.asked import Asked, Place
from exkiq.errors import SerializationError, UnsupportedOperation
from exkiq.inline import Inline
from exkiq.job import Job
from exkiq.machine import Spec
from exkiq.options import (
    CallOptions,
    Options,
    Wish,
    check_moment,
    check_wait,
    refuse_unknown,
    take_delay,
)
from exkiq.orders import Order
from exkiq.runnable import Runnable
from exkiq.wire.codec import encode_call

P = ParamSpec("P")

NO_WISH = Wish()


class Handle(Generic[P]):
    """Enqueues one kind of job. Immutable: `set` gives another one.

    `place` is the queue its jobs go to, where that is not one of the log.
    """

    __slots__ = ("_options", "_parameters", "_spec", "_wish", "place", "runnable")

    def __init__(self, runnable: Runnable, options: Options, wish: Wish = NO_WISH) -> None:
        self.runnable = runnable
        self._options = options
        self._wish = wish
        self._parameters = runnable.parameters
        queue = options.queue
        self.place: Place | None = None if isinstance(queue, str) else queue
        self._spec: Spec | None = None

    def __repr__(self) -> str:
        return f"<Handle {self.runnable.name} queue={self.place or self.queue}>"

    @property
    def spec(self) -> Spec:
        """What all its jobs share. Errors: SerializationError for a task no node can find."""
        return self._spec or self._make_spec()

    @property
    def queue(self) -> str:
        """The name of the queue its jobs go to."""
        queue = self._options.queue
        return queue if isinstance(queue, str) else queue.name

    @property
    def _client(self) -> Asked:
        place = self.place
        return client.default() if place is None else place.client()

    def set(self, **changes: Unpack[CallOptions]) -> Handle[P]:
        """A handle with other options; this one stays as it is.

        Units:  delay, result_ttl and timeout in seconds, or a timedelta.
        Errors: TypeError for an unknown keyword, ValueError for a bad value, naming it.
        """
        refuse_unknown("set", changes, CallOptions.__annotations__)
        options, wish = self._options.replaced(changes), self._wish.replaced(changes)
        return Handle(self.runnable, options, wish)

    def perform_async(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Enqueue a job; it is on the disks of a majority when this returns.

        Errors: SerializationError naming the argument, NoNodeError, NoQuorum, JobAlreadyExists;
                EnqueueTimeout when the outcome is unknown.
        """
        return self._client.enqueue(self._order(args, kwargs))

    async def aperform_async(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """As `perform_async`, without blocking the loop."""
        return await self._client.aenqueue(self._order(args, kwargs))

    def perform_in(self, *args: Any, **kwargs: Any) -> Job:
        """Enqueue a job for later: `perform_in(..., minutes=10)`, or a timedelta first.

        Units:  weeks, days, hours, minutes, seconds, milliseconds; several are summed.
        Errors: TypeError without a unit, ValueError when negative; else as `perform_async`.
        """
        return self._client.enqueue(self._order_in(args, kwargs))

    async def aperform_in(self, *args: Any, **kwargs: Any) -> Job:
        """As `perform_in`, without blocking the loop."""
        return await self._client.aenqueue(self._order_in(args, kwargs))

    def perform_at(self, when: datetime.datetime, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Enqueue a job for a moment, an aware datetime; one in the past runs now."""
        return self._client.enqueue(self._order(args, kwargs, run_at_ms=check_moment(when)))

    async def aperform_at(self, when: datetime.datetime, *args: P.args, **kwargs: P.kwargs) -> Job:
        """As `perform_at`, without blocking the loop."""
        order = self._order(args, kwargs, run_at_ms=check_moment(when))
        return await self._client.aenqueue(order)

    def perform_bulk(self, items: Iterable[Sequence[Any]]) -> list[Job]:
        """Enqueue a job for each list of positional arguments; the jobs come in that order.

        Shapes: all are checked before any is sent; then up to 1,000 jobs at a time are
                committed, all or nothing, one such part after the other.
        Errors: as `perform_async`; ValueError for a handle with an id. EnqueueTimeout has
                in `.job` the list of those jobs that may be missing.
        """
        return self._client.enqueue_all(self._orders(items))

    async def aperform_bulk(self, items: Iterable[Sequence[Any]]) -> list[Job]:
        """As `perform_bulk`, without blocking the loop."""
        return await self._client.aenqueue_all(self._orders(items))

    def call(self, *args: Any, timeout: float | None = 5.0, **kwargs: Any) -> Any:
        """Enqueue a job, wait for it and return its value.

        Units:  timeout in seconds for both; None waits on.
        Errors: JobFailed, JobCancelled; TimeoutError with `.job`, which goes on; else as
                `perform_async`.
        """
        wait = self._client.countdown(check_wait(timeout))
        job = self._client.enqueue(self._order(args, kwargs))
        return job.result(wait())

    async def acall(self, *args: Any, timeout: float | None = 5.0, **kwargs: Any) -> Any:
        """As `call`, without blocking the loop."""
        wait = self._client.countdown(check_wait(timeout))
        job = await self._client.aenqueue(self._order(args, kwargs))
        return await job.aresult(wait())

    def perform_inline(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run it here and now, through a full encode round trip, and return its value.

        Errors: its own exception; RuntimeError for an async one while a loop runs.
        """
        return self._inline().run(self._encode(args, kwargs))

    async def aperform_inline(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """As `perform_inline`; a sync one runs in a thread."""
        return await self._inline().arun(self._encode(args, kwargs))

    def _inline(self) -> Inline:
        return Inline(self.runnable, self.queue)

    def _encode(self, args: Sequence[Any], kwargs: dict[str, Any]) -> bytes:
        return encode_call(args, kwargs, self._parameters)

    def _order(
        self,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        delay_ms: int | None = None,
        run_at_ms: int = 0,
    ) -> Order:
        wish = self._wish
        return Order(
            self._spec or self._make_spec(),
            wish.id or self._client.next_id(),
            self._encode(args, kwargs),
            wish.delay_ms if delay_ms is None else delay_ms,
            run_at_ms,
            wish.is_unique,
        )

    def _order_in(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Order:
        delay_ms, rest = take_delay(args, kwargs)
        return self._order(rest, kwargs, delay_ms)

    def _orders(self, items: Iterable[Sequence[Any]]) -> list[Order]:
        if self._wish.id is not None:
            raise ValueError(f"perform_bulk makes many jobs, they cannot all be {self._wish.id!r}")
        return [self._order_of_item(number, item) for number, item in enumerate(items)]

    def _order_of_item(self, number: int, item: object) -> Order:
        if not isinstance(item, list | tuple):
            raise TypeError(
                f"perform_bulk: item {number} must be a list or tuple of arguments, not {item!r}"
            )
        try:
            return self._order(item, {})
        except SerializationError as error:
            raise type(error)(f"perform_bulk: item {number}: {error}") from error

    def _make_spec(self) -> Spec:
        options = self._options
        spec = Spec(
            self._task_name(),
            self.queue,
            options.priority,
            options.retries,
            options.result_ttl_ms,
            options.max_lost,
            options.timeout_ms,
            options.isolation == "process",
        )
        if self.place is None:  # else the name is good for as long as its jobs are
            self._spec = spec
        return spec

    def _task_name(self) -> str:
        place = self.place
        if place is not None:
            if self._options.isolation == "process" and place.node is None:
                raise UnsupportedOperation(
                    f"{place!r} runs its jobs in this process: isolation='process' is for nodes"
                )
            return place.task_name(self.runnable)
        self.runnable.check_path()
        return self.runnable.name
