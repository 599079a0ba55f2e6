"""The class that users write: what a job does, and the verbs that enqueue one."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, ParamSpec, Protocol, Unpack

from exkiq.handle import Handle
from exkiq.job import Job
from exkiq.options import CallOptions, ClassOptions, Options
from exkiq.pool.context import JobContext, current_job
from exkiq.runnable import Runnable

P = ParamSpec("P")


class Performs(Protocol[P]):
    """A worker with a `perform`; from its parameters come those of the verbs."""

    def perform(self, *args: P.args, **kwargs: P.kwargs) -> Any: ...


class Worker:
    """Work that is enqueued here and performed elsewhere.

        class SendWelcome(Worker, queue="emails", retries=5):
            def perform(self, user_id, company_id): ...      # or: async def perform

        SendWelcome.perform_async(1, 2)

    Class keywords: queue, retries, result_ttl, max_lost, timeout, priority, backoff, isolation,
    init_retry_seconds, success_mode; a subclass takes over those of its base. One instance lives
    with each slot of a node: an optional `init(self, *init_args)` runs once, and what it returns
    is `self.state`; after a failed job both are made anew. Optional `before(self, job)` and
    `after(self, job, outcome)` run around every attempt. `failed_init(self, error)` is told of an
    `init` that failed, and `on_shutdown(self)` is asked when a drain stops a job: what it returns
    is the checkpoint for the next start. `isolation="process"` gives each job a
    process of its own, so that one that brings it down takes no other along.

    Units:  result_ttl, timeout, backoff and init_retry_seconds in seconds, or a timedelta.
    Errors: TypeError for an unknown class keyword, ValueError for a bad value, naming it.
    """

    state: Any = None
    exkiq_options: ClassVar[Options] = Options()

    def __init_subclass__(cls, **options: Unpack[ClassOptions]) -> None:
        super().__init_subclass__()
        cls.exkiq_options = cls.exkiq_options.given(cls.__qualname__, options)

    # ---- inside a job --------------------------------------------------------------------------

    @property
    def job(self) -> JobContext:
        """The job that runs here: id, attempt, fence, queue, enqueued_at, checkpoint."""
        context = current_job()
        if context is None:
            raise RuntimeError(
                f"{type(self).__qualname__}.job: no job runs here; it is there inside `perform`,"
                " and so are progress, checkpoint and is_stopping"
            )
        return context

    @property
    def is_stopping(self) -> bool:
        """True once the node drains or the job is cancelled: a good moment to save and to end."""
        return self.job.is_stopping

    def checkpoint(self, value: object) -> None:
        """Keep `value` for the next start of this job; it is read as `self.job.checkpoint`."""
        self.job.save_checkpoint(value)

    def progress(self, value: object) -> None:
        """Show `value` as how far this job is, to whoever asks: `job.progress`, `exkiq status`.

        Units:  at most one is sent every 100 ms; the last one always is.
        Errors: SerializationError; JobTooLarge over 4 KiB.
        """
        self.job.progress(value)

    def reinitialize(self) -> None:
        """Try `init` again at once, where it failed; from any thread.

        For `failed_init(self, error)`, which is called then: it takes the place of the wait of
        `init_retry_seconds`, and until this is called and `init` succeeds the slot takes no job.

        Units:  not sooner than 10 ms after the last try.
        """
        again = vars(self).get("_exkiq_again")
        if again is not None:
            again()

    # ---- enqueuing: each is described at `Handle` ----------------------------------------------

    @classmethod
    def set(cls: type[Performs[P]], **changes: Unpack[CallOptions]) -> Handle[P]:
        """A handle with other options for one call or many; the class stays as it is."""
        return handle_of(cls).set(**changes)

    @classmethod
    def perform_async(cls: type[Performs[P]], *args: P.args, **kwargs: P.kwargs) -> Job:
        """Enqueue a job; it is on the disks of a majority when this returns."""
        return handle_of(cls).perform_async(*args, **kwargs)

    @classmethod
    async def aperform_async(cls: type[Performs[P]], *args: P.args, **kwargs: P.kwargs) -> Job:
        """As `perform_async`, without blocking the loop."""
        return await handle_of(cls).aperform_async(*args, **kwargs)

    @classmethod
    def perform_in(cls, *args: Any, **kwargs: Any) -> Job:
        """Enqueue a job for later: `perform_in(..., minutes=10)`, or a timedelta first."""
        return handle_of(cls).perform_in(*args, **kwargs)

    @classmethod
    async def aperform_in(cls, *args: Any, **kwargs: Any) -> Job:
        """As `perform_in`, without blocking the loop."""
        return await handle_of(cls).aperform_in(*args, **kwargs)

    @classmethod
    def perform_at(
        cls: type[Performs[P]], when: datetime.datetime, *args: P.args, **kwargs: P.kwargs
    ) -> Job:
        """Enqueue a job for a moment, an aware datetime; one in the past runs now."""
        return handle_of(cls).perform_at(when, *args, **kwargs)

    @classmethod
    async def aperform_at(
        cls: type[Performs[P]], when: datetime.datetime, *args: P.args, **kwargs: P.kwargs
    ) -> Job:
        """As `perform_at`, without blocking the loop."""
        return await handle_of(cls).aperform_at(when, *args, **kwargs)

    @classmethod
    def perform_bulk(cls, items: Iterable[Sequence[Any]]) -> list[Job]:
        """Enqueue a job for each list of positional arguments; the jobs come in that order."""
        return handle_of(cls).perform_bulk(items)

    @classmethod
    async def aperform_bulk(cls, items: Iterable[Sequence[Any]]) -> list[Job]:
        """As `perform_bulk`, without blocking the loop."""
        return await handle_of(cls).aperform_bulk(items)

    @classmethod
    def call(cls, *args: Any, timeout: float | None = 5.0, **kwargs: Any) -> Any:
        """Enqueue a job, wait for it and return its value."""
        return handle_of(cls).call(*args, timeout=timeout, **kwargs)

    @classmethod
    async def acall(cls, *args: Any, timeout: float | None = 5.0, **kwargs: Any) -> Any:
        """As `call`, without blocking the loop."""
        return await handle_of(cls).acall(*args, timeout=timeout, **kwargs)

    @classmethod
    def perform_inline(cls: type[Performs[P]], *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run it here and now, through a full encode round trip, and return its value."""
        return handle_of(cls).perform_inline(*args, **kwargs)

    @classmethod
    async def aperform_inline(cls: type[Performs[P]], *args: P.args, **kwargs: P.kwargs) -> Any:
        """As `perform_inline`; a sync one runs in a thread."""
        return await handle_of(cls).aperform_inline(*args, **kwargs)


def handle_of(worker: Any) -> Handle[Any]:
    """The handle of a worker class; AttributeError if it has no `perform`."""
    found = vars(worker).get("_exkiq_handle")
    if found is None:
        found = worker._exkiq_handle = _made_for(worker)
    handle: Handle[Any] = found
    return handle


def _made_for(worker: Any) -> Handle[Any]:
    perform = getattr(worker, "perform", None)
    if isinstance(perform, Handle):
        return perform  # somebody wrote @task above it, which changes nothing
    if perform is None:
        raise AttributeError(f"{worker.__qualname__} has no method perform")
    options = worker.exkiq_options
    return Handle(Runnable.of_method(worker, "perform", perform, options), options)
