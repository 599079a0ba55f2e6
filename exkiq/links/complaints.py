"""Warnings about others: a stranger who knocks all day must not fill the log."""

from __future__ import annotations

from exkiq.clock import Clock
from exkiq.errors import ClusterMismatch, ExkiqError, RemoteWireError
from exkiq.telemetry import log
from exkiq.wire.hello import Hello

AGAIN_S = 60.0
TOPICS_MAX = 1_024  # the oldest is forgotten, and may be warned of again


class Complaints:
    """Logs each topic at most once a minute, or once at all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said_at: dict[str, float] = {}

    def warn(self, topic: str, text: str) -> None:
        """One WARNING a minute for this topic."""
        self._say(topic, text, AGAIN_S)

    def warn_once(self, topic: str, text: str) -> None:
        """One WARNING for this topic as long as it is remembered."""
        self._say(topic, text, float("inf"))

    def no_link(self, where: str, error: ExkiqError, claimed: Hello | None) -> None:
        """A handshake failed with whoever is at `where` and claims to be `claimed`."""
        who = where if claimed is None else f"{claimed.name} ({claimed.address or where})"
        if isinstance(error, ClusterMismatch):
            # By its own address: the peer we dial and the one that dials us are one topic.
            peer = where if claimed is None else claimed.address or claimed.name
            self.warn_once(f"refused {peer}", f"no link with {who}: {error}")
        elif isinstance(error, RemoteWireError):
            self.warn(f"frame {where}", f"no link with {who}: it sent {error}")
        else:
            log.debug("no link with %s: %s", who, error)

    def _say(self, topic: str, text: str, again_s: float) -> None:
        now = self._clock.monotonic()
        said_at = self._said_at.get(topic)
        if said_at is not None and now - said_at < again_s:
            return
        self._said_at.pop(topic, None)
        self._said_at[topic] = now
        if len(self._said_at) > TOPICS_MAX:
            del self._said_at[next(iter(self._said_at))]
        log.warning("%s", text)
