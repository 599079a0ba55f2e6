"""From any thread, and from any other loop, to the one loop the client's links live on.

    LoopThread   the background thread; one in a process is enough
    ThreadWaiter what a blocking call waits on
    LoopWaiter   what an awaiting call waits on, in its own loop

A waiter is resolved once, on the background loop, with a value or an error.
"""

from __future__ import annotations

import _thread
import asyncio
import threading
from typing import Any, Protocol

from exkiq.telemetry import log


class Waiter(Protocol):
    """The end of a request that its caller holds."""

    def resolve(self, value: Any, error: Exception | None) -> None:
        """Hand over the outcome; called on the background loop."""


class LoopThread:
    """Owns a thread and its loop: starts them when first asked, stops them when told.

    A child made by fork has the object but not the thread: make a new one there, and keep
    the old one, so that nothing of it is finalised.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        if self._loop is None:
            with self._lock:
                if self._loop is None:
                    self._loop = self._start()
        return self._loop

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        # A daemon: nothing is left to do when the main thread ends, every call has its answer.
        self._thread = threading.Thread(target=_run, args=(loop,), name=self._name, daemon=True)
        self._thread.start()
        return loop

    def stop(self) -> None:
        """End the thread and close its loop. May be called twice."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


class ThreadWaiter:
    """A lock that the answer opens: a third of the cost of a concurrent Future."""

    __slots__ = ("_error", "_lock", "_value")

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._lock.acquire()
        self._value: Any = None
        self._error: Exception | None = None

    def resolve(self, value: Any, error: Exception | None) -> None:
        self._value = value
        self._error = error
        self._lock.release()

    def wait(self) -> Any:
        """The value, or raise the error."""
        self._lock.acquire()
        if self._error is not None:
            raise self._error
        return self._value


class LoopWaiter:
    """A future of the caller's loop."""

    __slots__ = ("_loop", "future")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()

    def resolve(self, value: Any, error: Exception | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._settle, value, error)
        except RuntimeError:
            # its loop was closed meanwhile, so nobody waits any more
            log.debug("an answer came after the caller's event loop was closed")

    def _settle(self, value: Any, error: Exception | None) -> None:
        if self.future.done():  # the caller was cancelled
            return
        if error is None:
            self.future.set_result(value)
        else:
            self.future.set_exception(error)
