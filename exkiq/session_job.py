"""A long-lived job with replicated state: started once, updated by events, finished."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, Unpack

from exkiq import client
from exkiq.errors import JobCancelled, JobTooLarge, NoSuchJob, UnsupportedOperation
from exkiq.handle import Handle
from exkiq.inspect import JobStatus
from exkiq.machine import commands, limits
from exkiq.machine.commands import Post
from exkiq.options import ClassOptions, Options, check_wait
from exkiq.runnable import Runnable
from exkiq.task import Task
from exkiq.wire.codec import encode_call, encode_value
from exkiq.worker import Worker

HANDLERS = ("on_start", "on_update", "on_finish")


class _Handler(Task[Any]):
    """A handler of a session job as a task: what runs it gives it the state, and takes the next."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        super().__init__(function, {})
        self._attribute = name

    def _handle_in(self, owner: Any) -> Handle[Any]:
        options = owner.exkiq_options
        runnable = Runnable.of_method(owner, self._attribute, self._function, options)
        step = dataclasses.replace(runnable, attribute=f"_run_{self._attribute}")
        return Handle(step, options)


class SessionJob(Worker):
    """A job that lives until it is finished, with a state that every node has.

        class Cart(SessionJob, queue="carts"):
            def on_start(self): return {"items": []}
            def on_update(self, event): return {"items": [*self.session_state["items"], event]}
            def on_finish(self): return self.session_state

        Cart.start("cart-7"); Cart.update("cart-7", "apple"); Cart.finish("cart-7")

    Handlers run in slots like `perform`, as `def` or `async def`, one at a time for each id and
    in the order in which they were asked for. What one returns is the new state: it is in the
    log before the caller goes on, and the next handler finds it as `self.session_state`, on
    whichever node it runs. Without handlers of its own a class keeps the events, newest first,
    and the id as the last item.

    A handler that fails leaves the state as it was and raises at the caller; `retries=` has it
    tried again before, 0 by default. A start that fails ends the session job.

    Shapes: a state is what msgpack carries, at most 256 KiB encoded; else the handler has failed.
            All classes share the ids, of 1 to 100 characters: the class that started one handles
            its events. At most 100 steps of one id wait, and there are at most 10,000 session
            jobs.
    Errors: as `Worker`; TypeError for a handler that is no method.
    """

    session_state: Any = None
    exkiq_options = Options(retries=0)

    def __init_subclass__(cls, **options: Unpack[ClassOptions]) -> None:
        super().__init_subclass__(**options)
        queue = cls.exkiq_options.queue
        if not isinstance(queue, str):
            raise ValueError(f"{cls.__qualname__}: a session job is in the log, not in {queue!r}")  # noqa: TRY004
        for name in HANDLERS:
            setattr(cls, name, _Handler(_function(cls, name), name))

    # ---- the handlers, to be written by users --------------------------------------------------

    def on_start(self) -> Any:
        """Make the first state."""
        return [self.session_id]

    def on_update(self, event: Any) -> Any:
        """Make the next state of `self.session_state` and an event."""
        return [event, *self.session_state]

    def on_finish(self) -> Any:
        """Make the last state, which the caller of `finish` is given."""
        return self.session_state

    # ---- inside a handler ----------------------------------------------------------------------

    @property
    def session_id(self) -> str:
        """The id of the session job, as it was given to `start`."""
        return self.job.id.rpartition("/")[0]

    def checkpoint(self, value: object) -> NoReturn:  # noqa: ARG002 - as in every worker
        """Not here: what a handler returns is kept, and nothing else."""
        raise UnsupportedOperation(
            f"{type(self).__qualname__}.checkpoint: a session job keeps what its handlers return"
        )

    def _run_on_start(self) -> Any:
        return self._step(self.on_start)

    def _run_on_update(self, event: Any) -> Any:
        return self._step(self.on_update, event)

    def _run_on_finish(self) -> Any:
        return self._step(self.on_finish)

    def _step(self, handler: Callable[..., Any], *args: Any) -> Any:
        self.session_state = self.job.checkpoint
        state = handler(*args)
        return _kept_later(state) if inspect.isawaitable(state) else _kept(state)

    # ---- from anywhere -------------------------------------------------------------------------

    @classmethod
    def start(cls, session_id: str, *, timeout: float | None = 5.0) -> Any:
        """Begin a session job; its first state, which is in the log when this returns.

        Units:  timeout in seconds; None waits on.
        Errors: JobAlreadyExists; JobFailed when `on_start` raised, then it does not exist;
                TimeoutError with `.job`, the step, which goes on; else as `perform_async`.
        """
        return _Asking(cls, session_id, timeout).start()

    @classmethod
    async def astart(cls, session_id: str, *, timeout: float | None = 5.0) -> Any:
        """As `start`, without blocking the loop."""
        return await _Asking(cls, session_id, timeout).astart()

    @classmethod
    def update(cls, session_id: str, event: Any, *, timeout: float | None = 5.0) -> Any:
        """Have it handle an event, behind all that were posted before; the new state.

        Units:  timeout in seconds; None waits on.
        Errors: NoSuchJob when there is none, or it ended before its turn; JobFailed when
                `on_update` raised, then the state is as it was; TimeoutError with `.job`, the
                step, which goes on; OutcomeUnknown when it may be posted, so that asking again
                may post it twice; else as `perform_async`.
        """
        return _Asking(cls, session_id, timeout).post(Post.UPDATE, event)

    @classmethod
    async def aupdate(cls, session_id: str, event: Any, *, timeout: float | None = 5.0) -> Any:
        """As `update`, without blocking the loop."""
        return await _Asking(cls, session_id, timeout).apost(Post.UPDATE, event)

    @classmethod
    def finish(cls, session_id: str, *, timeout: float | None = 5.0) -> Any:
        """End it; its last state, which is kept nowhere else.

        Units:  timeout in seconds; None waits on.
        Errors: as `update`; after a JobFailed it is still there.
        """
        return _Asking(cls, session_id, timeout).post(Post.FINISH)

    @classmethod
    async def afinish(cls, session_id: str, *, timeout: float | None = 5.0) -> Any:
        """As `finish`, without blocking the loop."""
        return await _Asking(cls, session_id, timeout).apost(Post.FINISH)


def _function(cls: type, name: str) -> Callable[..., Any]:
    """The handler as it was written, in this class or one above."""
    found = inspect.getattr_static(cls, name)
    function = found._function if isinstance(found, Task) else found
    if not inspect.isfunction(function):
        raise TypeError(f"{cls.__qualname__}.{name} must be a method, not {found!r}")
    return function


def _kept(state: Any) -> Any:
    """The state, if it can be one. Errors: SerializationError, JobTooLarge."""
    size = len(encode_value(state))
    if size > limits.CHECKPOINT_BYTES_MAX:
        most = limits.CHECKPOINT_BYTES_MAX
        raise JobTooLarge(f"the state of a session job has at most {most} bytes, not {size}")
    return state


async def _kept_later(state: Awaitable[Any]) -> Any:
    return _kept(await state)


class _Asking:
    """One question to a session job: an operation, and the wait for the step that it makes."""

    def __init__(self, worker: type[SessionJob], session_id: str, timeout: float | None) -> None:
        self._worker = worker
        self._id = _checked_id(session_id)
        self._client = client.default()
        self._wait = self._client.countdown(check_wait(timeout))
        self._about = f"session job {session_id!r}"

    def start(self) -> Any:
        return self._result(self._client.propose(self._start(), self._about))

    async def astart(self) -> Any:
        return await self._aresult(await self._client.apropose(self._start(), self._about))

    def post(self, verb: Post, *args: Any) -> Any:
        return self._result(self._client.propose(self._post(verb, args), self._about))

    async def apost(self, verb: Post, *args: Any) -> Any:
        op = self._post(verb, args)
        return await self._aresult(await self._client.apropose(op, self._about))

    def _start(self) -> bytes:
        handle = _handle(self._worker, "on_start")
        spec = handle.spec._replace(task=handle.runnable.path)
        pid = self._client.next_pid()
        return commands.session_start(pid, spec, self._id, encode_call((), {}))

    def _post(self, verb: Post, args: tuple[Any, ...]) -> bytes:
        names = _handle(self._worker, f"on_{verb}").runnable.parameters
        payload = encode_call(args, {}, names)
        return commands.session_post(self._client.next_pid(), self._id, verb, payload)

    def _result(self, step_id: str) -> Any:
        job = self._client.made(step_id)
        try:
            return job.result(self._wait())
        except JobCancelled as error:
            raise self._why_cancelled(job.status()) or error from error

    async def _aresult(self, step_id: str) -> Any:
        job = self._client.made(step_id)
        try:
            return await job.aresult(self._wait())
        except JobCancelled as error:
            raise self._why_cancelled(await job.astatus()) or error from error

    def _why_cancelled(self, status: JobStatus) -> NoSuchJob | None:
        """What the step says that was never done, because the session job ended before."""
        told = status.error
        if told is not None and told.type == NoSuchJob.__name__ and not status.fence:
            return NoSuchJob(told.message)
        return None


def _handle(worker: type[SessionJob], name: str) -> Handle[Any]:
    found = getattr(worker, name)
    if not isinstance(found, Handle):
        raise TypeError(f"{worker.__qualname__} is no session job itself; make a subclass of it")
    return found


def _checked_id(session_id: object) -> str:
    most = limits.SESSION_ID_CHARS_MAX
    if not isinstance(session_id, str) or not 1 <= len(session_id) <= most:
        raise ValueError(f"id must be a str of 1 to {most} characters, not {session_id!r}")
    return session_id
