"""A timer that tests let fire when they want to."""

from __future__ import annotations

from collections.abc import Callable


class Timer:
    def __init__(self, delay: float, call: Callable[[], None]) -> None:
        self.delay = delay
        self.call = call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True
