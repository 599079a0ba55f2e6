"""Which nodes have been silent for too long.

Only the leader judges, and only by what it could have heard: a new leader grants everybody a
full timeout, and so does one that was itself stopped for a while (a paused process, a blocked
turn), because what was said meanwhile is still unread.
"""

from __future__ import annotations

from collections.abc import Mapping

from exkiq.clock import Clock
from exkiq.machine import Session

LOOK_S = 0.25
"""How often the leader looks at least. A longer gap between two looks was its own absence."""


class Reaper:
    """Knows when each node was heard last, and names the sessions that are over."""

    def __init__(self, clock: Clock, me: str, node_timeout: float) -> None:
        self._clock = clock
        self._me = me
        self._timeout = node_timeout
        self._heard: dict[str, float] = {}
        self._ended: dict[str, int] = {}
        self._looked = clock.monotonic()

    def heard(self, node: str, at: float) -> None:
        """A sign of life that came at `at`, in seconds of the monotonic clock."""
        if at > self._heard.get(node, at - 1):
            self._heard[node] = at

    def begun(self, node: str) -> None:
        """A new session: it has a full timeout."""
        self._heard[node] = self._clock.monotonic()

    def over(self, node: str) -> None:
        """Its session is over: there is nothing to judge any more."""
        self._heard.pop(node, None)
        self._ended.pop(node, None)

    def proposed(self, node: str, session: int) -> None:
        """The end of that session is on its way; it is not proposed again."""
        self._ended[node] = session

    @property
    def is_due(self) -> bool:
        """Is it time to look again?"""
        return self._clock.monotonic() >= self._looked + LOOK_S

    def silent(self, sessions: Mapping[str, Session]) -> list[Session]:
        """The sessions to end now."""
        now = self._look()
        return [
            session
            for node, session in sessions.items()
            if node != self._me
            and self._ended.get(node) != session.id
            and now - self._heard.setdefault(node, now) >= self._timeout
        ]

    def next_wake(self, sessions: Mapping[str, Session]) -> float | None:
        """When to look again, in seconds of the monotonic clock; None with nobody to watch."""
        is_alone = sessions.keys() <= {self._me}
        return None if is_alone else self._looked + LOOK_S

    def _look(self) -> float:
        """Now; the time during which we were away is added to what everyone was granted."""
        now = self._clock.monotonic()
        away = now - self._looked - 2 * LOOK_S
        self._looked = now
        if away > 0:
            self._heard = {node: min(at + away, now) for node, at in self._heard.items()}
        return now
