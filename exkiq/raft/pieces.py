"""How much is on its way to each peer.

The engine would write a whole snapshot, or all of the log that a peer does not have, into a
link in one go. Each append is answered by the peer's transport with its number; with too much
unanswered the peer is hidden from the engine, which then turns to the next one. So a peer that
does not keep up costs the leader no more memory than this.
"""

from __future__ import annotations

from typing import TypeAlias

ON_THE_WAY_BYTES_MAX = 4 * 1024 * 1024
"""A link that has much more to send than this is closed. The engine's last batch may come on
top of it: 4 MiB."""

PIECES_ON_THE_WAY_MAX = 16
"""Of a snapshot, however small they are."""

APPEND_BYTES_MIN = 16 * 1024
"""What an append counts at least, so that their number has a bound."""

ANSWER_SECONDS_MAX = 1.0
"""Without any answer: what was sent is lost, go on, all is checked at last."""

Sent: TypeAlias = tuple[tuple[int, int], ...]  # numbers of appends, and what each counts


class Pieces:
    """Counts what was sent and not answered. Times in monotonic seconds."""

    def __init__(self) -> None:
        self._on_the_way: dict[str, Sent] = {}
        self._full_since: dict[str, float] = {}

    def sent_piece(self, name: str, number: int, now: float) -> bool:
        """One more piece of a snapshot; True when the peer is to take some before the next."""
        return self._sent(name, number, ON_THE_WAY_BYTES_MAX // PIECES_ON_THE_WAY_MAX, now)

    def sent_entries(self, name: str, number: int, size: int, now: float) -> bool:
        """One more append of so many bytes; True as above."""
        return self._sent(name, number, max(size, APPEND_BYTES_MIN), now)

    def _sent(self, name: str, number: int, size: int, now: float) -> bool:
        sent = self._on_the_way[name] = (*self._on_the_way.get(name, ()), (number, size))
        if sum([size for _, size in sent]) < ON_THE_WAY_BYTES_MAX:
            return False
        self._full_since.setdefault(name, now)
        return True

    def taken(self, name: str, number: int) -> None:
        """The peer answered this append: it lives, and has read all up to it."""
        sent = self._on_the_way.get(name, ())
        if sent and sent[0][0] <= number:
            self._on_the_way[name] = tuple([each for each in sent if each[0] > number])
            self._full_since.pop(name, None)

    def forget(self, name: str) -> None:
        """The link is gone, or new."""
        self._on_the_way.pop(name, None)
        self._full_since.pop(name, None)

    def full(self, now: float) -> set[str]:
        """The peers that are to be sent no more at the moment."""
        for name, since in list(self._full_since.items()):
            if now - since > ANSWER_SECONDS_MAX:
                self.forget(name)
        return set(self._full_since)
