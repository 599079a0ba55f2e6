"""Putting questions to the nodes and waiting for their answers, from a thread or from a loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

from exkiq.bridge import Gathering, LoopWaiter, ThreadWaiter, Waiter
from exkiq.clock import Clock, countdown
from exkiq.connection import Connection
from exkiq.inspect import Step
from exkiq.requests import Proposal, Request, ResultWait, ask
from exkiq.watching import AsyncWatching, Watching

R = TypeVar("R", bound=Request)

Waited: TypeAlias = tuple[str, float]  # a job's id, and until when no node may deny it


class Asking:
    """What a client is, whatever it is asked about."""

    enqueue_timeout: float
    _clock: Clock

    def _connected(self) -> Connection:
        raise NotImplementedError

    def propose(self, op: bytes, about: str = "operation", timeout: float | None = None) -> Any:
        """Have an operation of `exkiq.machine.commands` done; its outcome.

        Errors: those of the operation; Unavailable; OutcomeUnknown.
        """
        return self._wait(self._proposal, op, about, timeout)

    async def apropose(
        self, op: bytes, about: str = "operation", timeout: float | None = None
    ) -> Any:
        """As `propose`, without blocking the loop."""
        return await self._await(self._proposal, op, about, timeout)

    def request(
        self,
        verb: str,
        *args: Any,
        timeout: float | None = None,
        about: str = "",
        expected_until: float = 0.0,
    ) -> Any:
        """Ask a node anything of the client protocol.

        Shapes: what reads is asked of another node when one does not answer; the rest is sent
                once. `about` is named in errors. Until `expected_until`, on the client's clock,
                a node that does not know the job yet is asked again.
        Errors: those of the verb; NoNodeError; OutcomeUnknown for what is sent once.
        """
        return self._wait(self._read, verb, args, timeout, about or verb, expected_until)

    async def arequest(
        self,
        verb: str,
        *args: Any,
        timeout: float | None = None,
        about: str = "",
        expected_until: float = 0.0,
    ) -> Any:
        """As `request`, without blocking the loop."""
        return await self._await(self._read, verb, args, timeout, about or verb, expected_until)

    def wait_result(self, job_id: str, timeout: float | None, expected_until: float) -> Any:
        """The answer to `result`; ["pending"] after `timeout`."""
        return self._wait(self._result_wait, job_id, timeout, expected_until)

    async def await_result(self, job_id: str, timeout: float | None, expected_until: float) -> Any:
        """As `wait_result`, without blocking the loop."""
        return await self._await(self._result_wait, job_id, timeout, expected_until)

    def wait_results(self, asked: Sequence[Waited], timeout: float | None) -> list[Any]:
        """For each of these the answer to `result` or the error, all within `timeout`."""
        if not asked:
            return []
        waiter = ThreadWaiter()
        connection = self._connected()
        requests = self._result_waits(asked, timeout, waiter)
        connection.post(connection.ask_all, requests)
        try:
            answers: list[Any] = waiter.wait()
        finally:
            connection.post(connection.forget_all, requests)  # Ctrl-C
        return answers

    async def await_results(self, asked: Sequence[Waited], timeout: float | None) -> list[Any]:
        """As `wait_results`, without blocking the loop."""
        if not asked:
            return []
        waiter = LoopWaiter()
        connection = self._connected()
        requests = self._result_waits(asked, timeout, waiter)
        connection.post(connection.ask_all, requests)
        try:
            answers: list[Any] = await waiter.future
        finally:
            connection.post(connection.forget_all, requests)  # the caller was cancelled
        return answers

    def watch(self, job_id: str, expected_until: float) -> Iterator[Step]:
        """The steps of a job from now on."""
        return Watching(self._connected(), job_id, self._clock, expected_until)

    def awatch(self, job_id: str, expected_until: float) -> AsyncIterator[Step]:
        """As `watch`, without blocking the loop."""
        return AsyncWatching(self._connected(), job_id, self._clock, expected_until)

    def countdown(self, timeout: float | None) -> Callable[[], float | None]:
        """What is left of `timeout` whenever it is called."""
        return countdown(self._clock, timeout)

    def _proposal(self, op: bytes, about: str, timeout: float | None, waiter: Waiter) -> Proposal:
        return Proposal(op, waiter, self._deadline(timeout), about)

    def _read(
        self,
        verb: str,
        args: Sequence[Any],
        timeout: float | None,
        about: str,
        expected_until: float,
        waiter: Waiter,
    ) -> Request:
        return ask(verb, args, waiter, self._deadline(timeout), about, expected_until)

    def _result_wait(
        self, job_id: str, timeout: float | None, expected_until: float, waiter: Waiter
    ) -> ResultWait:
        now = self._clock.monotonic()
        until = float("inf") if timeout is None else now + timeout
        return ResultWait(job_id, until, waiter, now, expected_until=expected_until)

    def _deadline(self, timeout: float | None = None) -> float:
        return self._clock.monotonic() + (self.enqueue_timeout if timeout is None else timeout)

    # ---- waiting -------------------------------------------------------------------------------

    def _wait(self, make: Callable[..., R], *args: Any) -> Any:
        waiter = ThreadWaiter()
        connection = self._connected()
        request = make(*args, waiter)
        connection.post(connection.ask, request)
        try:
            return waiter.wait()
        finally:
            if not request.is_over:  # Ctrl-C
                connection.post(connection.forget, request)

    async def _await(self, make: Callable[..., R], *args: Any) -> Any:
        waiter = LoopWaiter()
        connection = self._connected()
        request = make(*args, waiter)
        connection.post(connection.ask, request)
        try:
            return await waiter.future
        finally:
            if not request.is_over:  # the caller was cancelled
                connection.post(connection.forget, request)

    def _result_waits(
        self, asked: Sequence[Waited], timeout: float | None, waiter: Waiter
    ) -> list[ResultWait]:
        slots = Gathering(len(asked), waiter).slots
        return [
            self._result_wait(job_id, timeout, expected_until, slot)
            for (job_id, expected_until), slot in zip(asked, slots, strict=True)
        ]
