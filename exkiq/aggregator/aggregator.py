"""The leader's hand: who gets which job, what is due, who is lost. Idle on every other node.

Nothing here is replicated and nothing here is trusted: all it does is to add operations to the
log, and the machine checks each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from exkiq.aggregator.leadership import Leadership, Settings
from exkiq.clock import Clock
from exkiq.machine import Applied, Machine
from exkiq.telemetry import log
from exkiq.wire import Value, check

Answer = TypeVar("Answer")

REST_S = 1.0
"""After a failure nothing is said for so long: what is on its way is applied by then, and a bug
that comes back at once does not fill log and disk."""


class Aggregator:
    """One on each node; on the leader it works, elsewhere every call is answered with nothing.

    The machine is asked for anew each time, because a snapshot may replace it. A demand must
    come before the flush of the entry that has the completions it counts.

    `failures` counts bugs: each is logged, and this part alone starts anew.
    """

    def __init__(self, machine: Callable[[], Machine], settings: Settings, clock: Clock) -> None:
        self._machine = machine
        self._settings = settings
        self._clock = clock
        self._term = 0
        self._leadership: Leadership | None = None
        self._rest_until = clock.monotonic()
        self.failures = 0

    @property
    def is_active(self) -> bool:
        """Does this node lead?"""
        return self._leadership is not None

    def tree(self) -> dict[str, Any] | None:
        """What the leader goes by, for people; None on every other node."""
        return None if self._leadership is None else self._leadership.tree()

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
        self._ask(lambda leadership: leadership.heard(node, at), None)

    def demand(self, node: str, message: list[Value]) -> None:
        """The DEMAND message of a node. Errors: RemoteWireError."""
        check(message)
        _, session, seen_total, free, queues, unable = cast(
            "tuple[int, int, int, dict[str, int], dict[str, int], list[str]]", message
        )
        self._ask(
            lambda leadership: leadership.demand(node, session, seen_total, free, queues, unable),
            None,
        )

    def before_flush(self, ops: list[bytes]) -> list[bytes]:
        """What the leader adds behind `ops`, of which an entry is about to be made."""
        if self._is_resting:
            return []
        return self._ask(lambda leadership: leadership.before_flush(ops), [])

    def applied(self, applied: Applied) -> None:
        """An entry was applied."""
        self._ask(lambda leadership: leadership.applied(applied), None)

    def wants_flush(self) -> bool:
        """Is there something to propose although no operation waits?"""
        return not self._is_resting and self._ask(Leadership.wants_flush, False)

    def next_wake(self) -> float | None:
        """When to ask `wants_flush` again at the latest, in seconds of the monotonic clock."""
        return self._rest_until if self._is_resting else self._ask(Leadership.next_wake, None)

    @property
    def _is_resting(self) -> bool:
        return self.failures > 0 and self._clock.monotonic() < self._rest_until

    def _ask(self, question: Callable[[Leadership], Answer], otherwise: Answer) -> Answer:
        """What the leadership says. A bug in it costs what it knew, which nodes say again soon."""
        if self._leadership is None:
            return otherwise
        try:
            return question(self._leadership)
        except Exception as error:  # noqa: BLE001 (logged; this part starts anew, the node goes on)
            log.error("the aggregator failed and starts anew", exc_info=error)
            self.failures += 1
            self._rest_until = self._clock.monotonic() + REST_S
            self._leadership = Leadership(self._machine, self._settings, self._clock)
            return otherwise
