"""The steps of one job, iterated over by a thread or by a loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from exkiq.bridge import Item, LoopStream, ThreadStream
from exkiq.clock import Clock
from exkiq.connection import Connection
from exkiq.inspect import Step
from exkiq.requests import Watch


class _Watched:
    """Owns one watch: from now on, until its end, `close`, or until nobody holds it any more."""

    _request: Watch | None = None  # None when there was no loop to watch from

    def __init__(
        self,
        connection: Connection,
        stream: ThreadStream | LoopStream,
        job_id: str,
        clock: Clock,
        expected_until: float,
    ) -> None:
        self._connection = connection
        request = Watch(job_id, stream, clock.monotonic(), expected_until=expected_until)
        self._request = request
        self._is_over = False
        connection.post(connection.ask, request)

    def close(self) -> None:
        """Have no more steps told. May be called twice."""
        self._is_over = True
        request = self._request
        if request is not None and not request.is_over:
            try:
                self._connection.post(self._connection.forget, request)
            except RuntimeError:
                request.is_over = True  # the interpreter ends, and the client's loop did

    def __del__(self) -> None:
        self.close()

    def _step(self, item: Item) -> Step:
        self._is_over = item.is_last
        if item.error is not None:
            raise item.error
        return Step.of(item.value)


class Watching(_Watched, Iterator[Step]):
    """For a thread."""

    def __init__(
        self, connection: Connection, job_id: str, clock: Clock, expected_until: float
    ) -> None:
        self._stream = ThreadStream()
        super().__init__(connection, self._stream, job_id, clock, expected_until)

    def __next__(self) -> Step:
        if self._is_over:
            raise StopIteration
        return self._step(self._stream.next())


class AsyncWatching(_Watched, AsyncIterator[Step]):
    """For a loop."""

    def __init__(
        self, connection: Connection, job_id: str, clock: Clock, expected_until: float
    ) -> None:
        self._stream = LoopStream()
        super().__init__(connection, self._stream, job_id, clock, expected_until)

    async def __anext__(self) -> Step:
        if self._is_over:
            raise StopAsyncIteration
        return self._step(await self._stream.next())
