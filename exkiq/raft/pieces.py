"""How much of a snapshot is on its way to each peer.

The engine would write a whole snapshot into a link in one go. Each piece is answered by the
peer's transport; with too many unanswered the peer is hidden from the engine, which then turns
to the next one.
"""

from __future__ import annotations

PIECES_ON_THE_WAY_MAX = 16  # 4 MiB: a link that has much more to send is closed
PIECE_SECONDS_MAX = 1.0  # without an answer to a piece: it was lost, go on, all is checked at last


class Pieces:
    """Counts the pieces that were sent and not answered. Times in monotonic seconds."""

    def __init__(self) -> None:
        self._on_the_way: dict[str, int] = {}
        self._full_since: dict[str, float] = {}

    def sent(self, name: str, now: float) -> bool:
        """One more piece; True when the peer has to take some before it is sent more."""
        count = self._on_the_way[name] = self._on_the_way.get(name, 0) + 1
        if count < PIECES_ON_THE_WAY_MAX:
            return False
        self._full_since.setdefault(name, now)
        return True

    def taken(self, name: str) -> None:
        """The peer answered something: it lives and reads."""
        if name in self._on_the_way:
            self._on_the_way[name] = max(0, self._on_the_way[name] - 1)
            self._full_since.pop(name, None)

    def forget(self, name: str) -> None:
        """The link is gone, or new."""
        self._on_the_way.pop(name, None)
        self._full_since.pop(name, None)

    def full(self, now: float) -> set[str]:
        """The peers that are to be sent no more at the moment."""
        for name, since in list(self._full_since.items()):
            if now - since > PIECE_SECONDS_MAX:
                self.forget(name)
        return set(self._full_since)
