"""What a replica tells the node above it."""

from __future__ import annotations

from typing import Protocol

from exkiq.machine import Applied, MemberChange


class Listener(Protocol):
    """Called on the loop, inside a turn; must not block."""

    def applied(self, applied: Applied) -> None:
        """An entry was applied to the machine."""

    def installed(self) -> None:
        """A snapshot replaced the machine; what it skipped was never applied here."""

    def leadership(self, leader: str | None, term: int) -> None:
        """Another leader, another term, or this leader is ready now."""

    def before_flush(self, ops: list[bytes]) -> list[bytes]:
        """Leader only: an entry of `ops` is about to be made; what else goes in."""

    def wants_flush(self) -> bool:
        """Leader only: whether there is something to propose although nothing was gathered."""

    def member_appended(self, change: MemberChange) -> None:
        """Leader only: a change of members is in the log."""

    def failed(self, error: Exception) -> None:
        """The replica cannot go on; the node must stop."""
