"""The leader's hand: who gets which job, what is due, who is lost. Idle on every other node.

Nothing here is replicated and nothing here is trusted: all it does is to add operations to the
log, and the machine checks each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from exkiq.aggregator.leadership import Leadership, Settings
from exkiq.clock import Clock
from exkiq.machine import Applied, Machine
from exkiq.wire import Value, check


class Aggregator:
    """One on each node; on the leader it works, elsewhere every call is answered with nothing.

    The machine is asked for anew each time, because a snapshot may replace it. A demand must
    come before the flush of the entry that has the completions it counts.
    """

    def __init__(self, machine: Callable[[], Machine], settings: Settings, clock: Clock) -> None:
        self._machine = machine
        self._settings = settings
        self._clock = clock
        self._term = 0
        self._leadership: Leadership | None = None

    @property
    def is_active(self) -> bool:
        """Does this node lead?"""
        return self._leadership is not None

    def begin(self, term: int) -> None:
        """This node leads from now on; nothing of an earlier leadership is kept."""
        if self._leadership is None or term != self._term:
            self._term = term
            self._leadership = Leadership(self._machine, self._settings, self._clock)

    def end(self) -> None:
        """This node leads no more. May be called twice."""
        self._leadership = None

    def heard(self, node: str, at: float | None = None) -> None:
        """A sign of life of `node`, `at` in seconds of the monotonic clock, None for now."""
        if self._leadership is not None:
            self._leadership.heard(node, at)

    def demand(self, node: str, message: list[Value]) -> None:
        """The DEMAND message of a node. Errors: RemoteWireError."""
        check(message)
        if self._leadership is not None:
            _, session, seen_total, free, queues = cast(
                "tuple[int, int, int, int, dict[str, int]]", message
            )
            self._leadership.demand(node, session, seen_total, free, queues)

    def before_flush(self, ops: list[bytes]) -> list[bytes]:
        """What the leader adds behind `ops`, of which an entry is about to be made."""
        return [] if self._leadership is None else self._leadership.before_flush(ops)

    def applied(self, applied: Applied) -> None:
        """An entry was applied."""
        if self._leadership is not None:
            self._leadership.applied(applied)

    def wants_flush(self) -> bool:
        """Is there something to propose although no operation waits?"""
        return self._leadership is not None and self._leadership.wants_flush()

    def next_wake(self) -> float | None:
        """When to ask `wants_flush` again at the latest, in seconds of the monotonic clock."""
        return None if self._leadership is None else self._leadership.next_wake()
