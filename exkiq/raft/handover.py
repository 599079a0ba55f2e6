"""Giving the lead away: the heir must have the whole log, so nothing is added meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from exkiq.raft.engine import Engine

HANDOVER_SECONDS = 0.5  # no intake for so long at most, then the old leader goes on


class Handover:
    """One attempt at a time to have another member lead. Times in monotonic seconds."""

    def __init__(self, engine: Engine, now: Callable[[], float]) -> None:
        self._engine, self._now = engine, now
        self._heir: str | None = None
        self._until = float("-inf")

    def to(self, heir: str | None) -> None:
        """Have `heir`, or whoever is caught up best, campaign as soon as it has everything."""
        self._heir, self._until = heir, self._now() + HANDOVER_SECONDS

    def forget(self) -> None:
        """Somebody else leads."""
        self._until = float("-inf")

    def goes_on(self) -> bool:
        """Whether the leader takes nothing in; asks the heir again each time."""
        if self._now() > self._until or not self._engine.others:
            return False
        self._engine.transferLeadership(self._heir)
        return True
