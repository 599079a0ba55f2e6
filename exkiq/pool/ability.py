"""What a child cannot run now: tasks it does not know, and those whose worker is not ready."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable
from contextlib import suppress
from typing import Any, Protocol

from exkiq.pool.attempt import InitFailed, forget, in_one_line
from exkiq.pool.error_text import error_row
from exkiq.pool.outbox import Outbox
from exkiq.pool.words import Word
from exkiq.pool.work import Catalog, Slot, Work
from exkiq.wire.messages import UNABLE_MAX

# Between two tries of `init` that were asked for.
FLOOR_SECONDS = 0.01


class Team(Protocol):
    """Slots of one kind and one group. It has `slots_max` of them, made when first needed."""

    @property
    def group(self) -> str: ...

    @property
    def slots_max(self) -> int: ...


class Broken:
    """A worker that could not be made ready in one slot, and when it is tried again.

    `wake` is called when that is sooner than was known.
    """

    def __init__(self, work: Work, queue: str, slot: Slot, wake: Callable[[], None]) -> None:
        self.work = work
        self.queue = queue
        self.slot = slot
        self.instance: Any = None
        self.retry_at = math.inf
        self._tried_at = 0.0
        self._wake = wake

    @property
    def name(self) -> str:
        """The worker's."""
        key = self.work.key
        return key.__qualname__ if isinstance(key, type) else str(key)

    @property
    def is_asked(self) -> bool:
        """Its own callback decides when to try again."""
        return self.work.failed_init is not None and self.instance is not None

    def failed(self, failure: InitFailed, now: float) -> str:
        """Take note of a try; returns it in words."""
        self.instance = failure.instance
        self._tried_at = now
        self.retry_at = math.inf
        if self.instance is not None:
            with suppress(AttributeError):  # it has slots of its own
                self.instance._exkiq_again = self.again
        then = "failed_init says when it is tried again"
        if not self.is_asked:
            then = f"it is tried again in {self._by_timer():g} s"
        return (
            f"{self.name} could not be initialised in slot {self.slot.name}: "
            f"{in_one_line(error_row(failure.error))}; {then}"
        )

    def _by_timer(self) -> float:
        seconds = self.work.init_retry_ms(self.queue) / 1000
        self.retry_at = self._tried_at + max(FLOOR_SECONDS, seconds)
        return seconds

    def again(self) -> None:
        """Try at once, though not sooner after the last try than the floor. From any thread."""
        self.retry_at = min(self.retry_at, self._tried_at + FLOOR_SECONDS)
        self._wake()

    def complaint(
        self, failure: InitFailed, note: Callable[[str], None]
    ) -> Generator[Any, Any, None]:
        """Tell the worker itself, if it wants to know."""
        hook = self.work.failed_init
        try:
            if hook is not None and self.instance is not None:
                yield hook(self.instance, failure.error)
        except BaseException as worse:  # noqa: BLE001 - user code; the timer applies
            seconds = self._by_timer()
            note(
                f"failed_init of {self.name} raised {in_one_line(error_row(worse))}; "
                f"init is tried again in {seconds:g} s"
            )
        forget(failure.error)
        forget(failure)

    def mended(self) -> None:
        """It is ready."""
        with suppress(AttributeError):
            del self.instance._exkiq_again


class Ability:
    """Tells the node what this child cannot run now, each time that changes.

    1. a task that the APP does not know, or whose module cannot be imported, until the end;
    2. a task whose worker is ready in no slot it could have;
    3. of slots whose worker is not ready while others are, how many are to stay empty: so the
       node sends no more jobs than there are workers.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, outbox: Outbox, catalog: Catalog) -> None:
        self._loop = loop
        self._outbox = outbox
        self._catalog = catalog
        self._lock = threading.Lock()  # slots break and mend in their own threads
        self._unknown: OrderedDict[str, None] = OrderedDict()
        self._broken: dict[tuple[Team, Hashable], set[Slot]] = {}
        self._said: tuple[list[str], dict[str, int]] = ([], {})

    def is_known(self, task: str) -> bool:
        """Whether it is not one of those that could not be found."""
        return task not in self._unknown

    def unknown(self, task: str) -> None:
        """Nothing is called that here."""
        with self._lock:
            self._unknown[task] = None
            while len(self._unknown) > UNABLE_MAX:
                self._unknown.popitem(last=False)
        self.say()

    def broke(self, team: Team, broken: Broken) -> None:
        with self._lock:
            self._broken.setdefault((team, broken.work.key), set()).add(broken.slot)
        self.say()

    def mended(self, team: Team, broken: Broken) -> None:
        with self._lock:
            slots = self._broken[team, broken.work.key]
            slots.discard(broken.slot)
            if not slots:
                del self._broken[team, broken.work.key]
        self.say()

    def say(self) -> None:
        """Tell the node, if it is not told yet. From any thread."""
        with self._lock:
            now = self._now()
            if now != self._said:
                self._said = now
                self._outbox.put_threadsafe(Word.ABILITY, now)

    def _now(self) -> tuple[list[str], dict[str, int]]:
        tasks = dict.fromkeys(self._unknown)
        withheld: dict[str, int] = {}
        for (team, key), slots in self._broken.items():
            if len(slots) >= team.slots_max:
                tasks.update(dict.fromkeys(self._catalog.names_of(key)))
            else:
                withheld[team.group] = max(withheld.get(team.group, 0), len(slots))
        return list(tasks)[:UNABLE_MAX], withheld
