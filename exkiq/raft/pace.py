"""How fast the snapshot thread goes: it leaves the interpreter and the core to the loop."""

from __future__ import annotations

import time

REST = 1.0  # for each second of work
PAUSE_SECONDS = 0.0002, 0.001  # at least and at most, between steps of half a millisecond


class Pace:
    """Sleeps between the steps of one thread, as long as the step before worked."""

    def __init__(self) -> None:
        self._worked = 0.0

    def pause(self) -> None:
        """Between two steps."""
        step = time.thread_time() - self._worked
        shortest, longest = PAUSE_SECONDS
        time.sleep(min(max(step * REST, shortest), longest))
        self._worked = time.thread_time()
