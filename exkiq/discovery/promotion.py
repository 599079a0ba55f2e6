"""Who is to vote: the leader promotes whoever has the log, and replaces who is lost for long.

Pure: time comes as an argument, in seconds of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

VOTERS_MAX = 5  # more voters make every commit slower and survive nothing that five do not


@dataclass(frozen=True, slots=True)
class Sight:
    """What the leader sees of the members: `linked` are those that answer."""

    voters: Collection[str]
    non_voters: Collection[str]
    linked: Collection[str]
    matched: Callable[[str], int]
    commit_index: int


@dataclass(frozen=True, slots=True)
class Move:
    """A member that is to vote from now on, or no more."""

    verb: str
    name: str
    reason: str


class Promotion:
    """Looks at the members now and then, and says what is due.

    A non-voter has caught up when it has what was committed at the look before: a vote is given
    to nobody for whom a commit would have to wait. Of several the one that has kept up longest
    comes first. A voter that is lost for `replace_after_s` makes room for one of them; 0 is never.
    """

    def __init__(self, own_name: str, replace_after_s: float) -> None:
        self._own_name, self._replace_after_s = own_name, replace_after_s
        self._goal: int | None = None
        self._kept_up_since: dict[str, float] = {}
        self._lost_since: dict[str, float] = {}

    def forget(self) -> None:
        """We lead no more; what was seen is not continued by the next time."""
        self._goal = None
        self._kept_up_since.clear()
        self._lost_since.clear()

    def look(self, sight: Sight, now: float) -> Move | None:
        """What to do about it, one thing at a time."""
        self._note(sight, now)
        ready = sorted((since, name) for name, since in self._kept_up_since.items())
        if not ready:
            return None
        if len(sight.voters) < VOTERS_MAX:
            name = ready[0][1]
            return Move("promote", name, f"{name} has the whole log: it votes from now on")
        return self._replacement(ready[0][1], now)

    def _replacement(self, heir: str, now: float) -> Move | None:
        lost = sorted((since, name) for name, since in self._lost_since.items())
        if not lost or not self._replace_after_s or now - lost[0][0] < self._replace_after_s:
            return None
        name = lost[0][1]
        reason = f"{name} is lost for {now - lost[0][0]:.0f} s: it votes no more, {heir} does"
        return Move("demote", name, reason)

    def _note(self, sight: Sight, now: float) -> None:
        goal, self._goal = self._goal, sight.commit_index
        linked = {*sight.linked, self._own_name}
        keeping_up = {
            name
            for name in sight.non_voters
            if goal is not None and name in linked and sight.matched(name) >= goal
        }
        self._kept_up_since = _since(self._kept_up_since, keeping_up, now)
        self._lost_since = _since(self._lost_since, set(sight.voters) - linked, now)


def _since(known: dict[str, float], names: set[str], now: float) -> dict[str, float]:
    return {name: known.get(name, now) for name in names}
