"""From any thread, and from any other loop, to the one loop the client's links live on.

    background   the thread and its loop; one in a process
    Inbox        calls for a loop from other threads, many of them for one wake-up
    ThreadWaiter what a blocking call waits on
    LoopWaiter   what an awaiting call waits on, in its own loop
    Gathering    many answers for one waiter
    ThreadStream, LoopStream   what comes one after another, for a blocking and an awaiting reader

A waiter is resolved once, on the background loop, with a value or an error.
"""

from __future__ import annotations

import _thread
import asyncio
import os
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from exkiq.telemetry import log


class Waiter(Protocol):
    """The end of a request that its caller holds."""

    def resolve(self, value: Any, error: Exception | None) -> None:
        """Hand over the outcome; called on the background loop."""


class Forkable(Protocol):
    """What has to start anew in a child."""

    def leave_parent(self) -> object:
        """Start anew; what is left of the parent is handed back, to be kept untouched."""


class Background:
    """Owns the background thread of this process and its loop.

    Duties: 1 start both when first asked; 2 after a fork start anew in the child, where the
    thread is gone, and have all who joined do the same; 3 keep there what was the parent's, so
    that nothing of it is finalised, which could end the parent's links.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._joined: weakref.WeakSet[Forkable] = weakref.WeakSet()
        self._inherited: list[object] = []

    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        if self._loop is None:
            with self._lock:
                if self._loop is None:
                    self._loop = _start()
        return self._loop

    def join(self, forkable: Forkable) -> None:
        """Tell it in a child, as long as it lives."""
        self._joined.add(forkable)

    def after_fork(self) -> None:
        """In the child, before anything else runs there."""
        self._inherited.append(self._loop)
        self._lock = threading.Lock()
        self._loop = None
        self._inherited += [forkable.leave_parent() for forkable in list(self._joined)]


def _start() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    # A daemon: nothing is left to do when the main thread ends, every call has its answer.
    threading.Thread(target=_run, args=(loop,), name="exkiq client", daemon=True).start()
    return loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()


background = Background()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=background.after_fork)


class Inbox:
    """Calls that other threads want made on a loop; `after` is called behind each batch."""

    __slots__ = ("_after", "_calls", "_is_woken", "_loop")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, after: Callable[[], None] | None = None
    ) -> None:
        self._loop = loop
        self._after = after
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._is_woken = False

    def post(self, action: Callable[..., None], *args: Any) -> None:
        """Have `action(*args)` called on the loop. Errors: RuntimeError when that is closed."""
        self._calls.append((action, args))
        if not self._is_woken:
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._read)

    def _read(self) -> None:
        self._is_woken = False  # before reading: what comes now wakes it again
        calls = self._calls
        for _ in range(len(calls)):
            action, args = calls.popleft()
            action(*args)
        if self._after is not None:
            self._after()


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


# By the loop of whoever awaits; a loop that is gone takes its inbox along.
_inboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Inbox]
_inboxes = weakref.WeakKeyDictionary()


class LoopWaiter:
    """A future of the caller's loop."""

    __slots__ = ("_inbox", "future")

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._inbox = _inboxes.get(loop) or _inboxes.setdefault(loop, Inbox(loop))
        self.future: asyncio.Future[Any] = loop.create_future()

    def resolve(self, value: Any, error: Exception | None) -> None:
        try:
            self._inbox.post(self._settle, value, error)
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


class Gathering:
    """Many answers, awaited by one waiter: it gets their list, with errors where errors came.

    Only used on the background loop, so it needs no lock.
    """

    def __init__(self, count: int, waiter: Waiter) -> None:
        self._answers: list[Any] = [None] * count
        self._left = count
        self._waiter = waiter
        self.slots = [Slot(self, position) for position in range(count)]

    def settle(self, position: int, answer: Any) -> None:
        """This one is there; the last one resolves the waiter."""
        self._answers[position] = answer
        self._left -= 1
        if not self._left:
            self._waiter.resolve(self._answers, None)


class Slot:
    """The waiter of one of many answers."""

    __slots__ = ("_gathering", "_position")

    def __init__(self, gathering: Gathering, position: int) -> None:
        self._gathering = gathering
        self._position = position

    def resolve(self, value: Any, error: Exception | None) -> None:
        self._gathering.settle(self._position, value if error is None else error)


class Item(NamedTuple):
    """What a stream carries: a value, or an error, and whether it is the last."""

    value: Any
    error: Exception | None
    is_last: bool


class ThreadStream:
    """For a thread that waits for each item."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()

    def push(self, value: Any) -> None:
        self._items.put(Item(value, None, is_last=False))

    def resolve(self, value: Any, error: Exception | None) -> None:
        self._items.put(Item(value, error, is_last=True))

    def next(self) -> Item:
        """The next item, whenever it comes."""
        return self._items.get()


class LoopStream:
    """For a loop that awaits each item."""

    __slots__ = ("_inbox", "_items")

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._inbox = _inboxes.get(loop) or _inboxes.setdefault(loop, Inbox(loop))
        self._items: asyncio.Queue[Item] = asyncio.Queue()

    def push(self, value: Any) -> None:
        self._post(Item(value, None, is_last=False))

    def resolve(self, value: Any, error: Exception | None) -> None:
        self._post(Item(value, error, is_last=True))

    def _post(self, item: Item) -> None:
        try:
            self._inbox.post(self._items.put_nowait, item)
        except RuntimeError:
            log.debug("a step came after the caller's event loop was closed")

    async def next(self) -> Item:
        """The next item, whenever it comes."""
        return await self._items.get()
