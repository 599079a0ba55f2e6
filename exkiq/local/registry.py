"""Which local queues this process knows, and the households they stand in."""

from __future__ import annotations

import atexit
import threading
from pathlib import Path

from exkiq.bridge import background
from exkiq.errors import AlreadyStarted, NoQueueError
from exkiq.local.household import DRAIN_SECONDS, Household
from exkiq.local.terms import PLAIN, Terms


class Registry:
    """One in a process.

    Duties: 1 keep what was said of each queue, and refuse that it is said in two ways; 2 start
    the household of a queue when it is first used: one for each file, one for all without; 3 end
    them at exit; 4 begin anew in a child after a fork, where their threads are gone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Terms] = {}
        self._households: dict[Path | None, Household] = {}
        self._inherited: list[object] = []
        background.join(self)
        atexit.register(self.close)

    def know(self, name: str, terms: Terms) -> None:
        """This queue is declared. Errors: AlreadyStarted when it was said to be another way."""
        with self._lock:
            before = self._known.setdefault(name, terms)
            if terms in (before, PLAIN):
                return
            if before == PLAIN and self._household_of(name) is None:
                self._known[name] = terms
                return
        raise AlreadyStarted(
            f"Local({name!r}{terms}): in this process that queue is Local({name!r}{before}) already"
        )

    def household(self, name: str, terms: Terms) -> Household:
        """Where this queue stands; started on first use, and it has this queue from then on.

        Errors: ConfigError, DataError when its file cannot be used.
        """
        household = self._household_of(name)
        if household is not None and terms == PLAIN:
            return household
        self.know(name, terms)
        if household is not None:
            return household
        terms = self.terms_of(name)
        with self._lock:
            household = self._households.get(terms.durable)
            if household is None:
                household = Household(terms.durable, self.terms_of).start()
                self._households[terms.durable] = household
        household.serve(name)
        return household

    def known_household(self, name: str, terms: Terms) -> Household:
        """The same for a queue that is there. Errors: NoQueueError for any other."""
        self.must_know(name)
        return self.household(name, terms)

    def must_know(self, name: str) -> None:
        """NoQueueError for a queue that is nowhere."""
        if name not in self._known and self._household_of(name) is None:
            raise NoQueueError(
                f"there is no local queue {name!r} in this process: no class and no task has"
                f" queue=Local({name!r}), and no job went there"
            )

    def terms_of(self, name: str) -> Terms:
        """What was said of the queue of that name."""
        return self._known.get(name, PLAIN)

    def _household_of(self, name: str) -> Household | None:
        houses = self._households.values()
        return next((house for house in list(houses) if house.serves(name)), None)

    def close(self, drain: float = DRAIN_SECONDS) -> None:
        """End all households; a queue that is used again starts anew. May be called twice.

        They end side by side, and are known until they have: a job that still runs may enqueue.
        """
        with self._lock:
            ending = dict(self._households)
        for wait in [household.close(drain) for household in ending.values()]:
            wait()
        with self._lock:
            for path, household in ending.items():
                if self._households.get(path) is household:
                    del self._households[path]

    def forget(self) -> None:
        """Close all at once, and know of no queue any more; for tests."""
        self.close(0.0)
        self._known.clear()

    def leave_parent(self) -> None:
        """In a child after a fork: no queue runs here yet; what the parent had is kept, unused."""
        self._lock = threading.Lock()
        for household in self._households.values():
            household.leave_to_parent()
            self._inherited.append(household)
        self._households = {}


registry = Registry()
