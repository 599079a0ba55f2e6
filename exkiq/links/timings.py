"""How long links wait, in one place, and the judge of silence."""

from __future__ import annotations

from dataclasses import dataclass

LATE = 0.5  # of a ping interval: later than that the loop was busy, and silence proves nothing
GRACE = 0.25  # of a ping interval: enough for one look at the sockets


@dataclass(frozen=True, slots=True)
class Timings:
    """Units: seconds. The defaults are those of a node; tests pass shorter ones."""

    ping: float = 0.2
    silent_max: int = 4  # intervals without a byte; a lost node is seen within 0.8 s
    connect: float = 1.0  # a host that drops packets must not hold a dialler for minutes
    handshake: float = 2.0  # strangers get no longer
    redial: float = 1.0  # longest wait between two attempts
    refused_redial: float = 5.0  # a peer that refused us: only an operator changes its mind
    linger: float = 1.0  # to write out what was sent before a close


class Silence:
    """Counts the intervals in which nothing was heard.

    Duties: call a link dead after `silent_max` of them; count none that the loop itself spent
    elsewhere. After a late beat the sockets are read first, then the interval is judged: a
    process that was stopped and continued finds its links alive.
    """

    __slots__ = ("_counted", "_due", "_heard_until", "_is_grace", "_timings")

    def __init__(self, timings: Timings, now: float) -> None:
        self._timings = timings
        self._due = now + timings.ping
        self._heard_until = now
        self._counted = 0
        self._is_grace = False

    def beat(self, now: float, last_heard: float) -> float | None:
        """Seconds until the next beat, or None: the link is dead."""
        ping = self._timings.ping
        is_late = now - self._due > ping * LATE and not self._is_grace
        self._is_grace = False
        if last_heard > self._heard_until:
            self._heard_until = last_heard
            self._counted = 0
        elif is_late:
            self._is_grace = True
            return self._again(now, ping * GRACE)
        else:
            self._counted += 1
        return None if self._counted >= self._timings.silent_max else self._again(now, ping)

    def _again(self, now: float, delay: float) -> float:
        self._due = now + delay
        return delay
