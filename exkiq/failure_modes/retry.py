"""Modes that try again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from exkiq.failure_modes.decision import (
    DELAY_SECONDS_MAX,
    Decision,
    check_seconds,
    retry_after,
)
from exkiq.failure_modes.mode import FailedJob, FailureMode

# fun(job, error, failures) -> seconds to wait, or None to stop.
Backoff = Callable[[FailedJob, BaseException, int], float | None]


@dataclass(frozen=True, slots=True)
class Retry(FailureMode):
    """Up to `times` more runs, `delay` seconds apart, then `finally_`, or else the failed set.

    `fun(job, error, failures)` returns the seconds to wait in place of `delay`, or None to stop.
    A `finally_` that retries counts its own failures from 1.
    """

    times: int = 3
    delay: float = 0
    finally_: FailureMode | None = None
    fun: Backoff | None = None

    def __post_init__(self) -> None:
        _check_times(self.times)
        check_seconds(self.delay, "delay")
        if self.finally_ is not None and not isinstance(self.finally_, FailureMode):
            raise TypeError(f"finally_ is a FailureMode, not {self.finally_!r}")
        if self.fun is not None and not callable(self.fun):
            raise TypeError(f"fun is called with (job, error, failures), not {self.fun!r}")

    def decide(
        self, job: FailedJob, error: BaseException, failures: int, chance: float
    ) -> Decision:
        delay = self._delay(job, error, failures) if failures <= self.times else None
        if delay is not None:
            return retry_after(delay)
        if self.finally_ is None:
            return ["failed"]
        return self.finally_.decide(job, error, max(1, failures - self.times), chance)

    def can_move_to(self, queue: str) -> bool:
        return self.finally_ is not None and self.finally_.can_move_to(queue)

    def _delay(self, job: FailedJob, error: BaseException, failures: int) -> float | None:
        return self.delay if self.fun is None else self.fun(job, error, failures)


@dataclass(frozen=True, slots=True)
class ExponentialRetry(FailureMode):
    """Up to `times` more runs; the k-th failure waits base^k - 1 seconds: 1, 3, 7, 15, 31.

    Up to `jitter` of the wait is added by chance, so that jobs that failed together do not
    come back together. `max_delay` bounds the whole.
    """

    times: int
    base: float = 2
    max_delay: float | None = None
    jitter: float = 0.1

    def __post_init__(self) -> None:
        _check_times(self.times)
        if check_seconds(self.base, "base") <= 1 or math.isinf(self.base):
            raise ValueError(f"base is over 1, not {self.base!r}")
        if self.max_delay is not None:
            check_seconds(self.max_delay, "max_delay")
        if not check_seconds(self.jitter, "jitter") <= 1:
            raise ValueError(f"jitter is a share between 0 and 1, not {self.jitter!r}")

    def decide(
        self,
        job: FailedJob,  # noqa: ARG002 - the contract of a mode; this one only counts
        error: BaseException,  # noqa: ARG002
        failures: int,
        chance: float,
    ) -> Decision:
        if failures > self.times:
            return ["failed"]
        wait = _power(self.base, failures) * (1 + self.jitter * chance)
        return retry_after(wait if self.max_delay is None else min(wait, self.max_delay))


def decide_by_default(failures: int, retries: int, chance: float) -> Decision:
    """The rule where the user gave none, or where no user code can be asked.

    Shapes: exponential waits while `failures` <= `retries`, which may be 0, then the failed set.
    Units:  failures counts from 1, this one included; chance is in [0, 1).
    """
    if failures > retries:
        return ["failed"]
    return retry_after(_power(2, failures) * (1 + 0.1 * chance))


def _power(base: float, failures: int) -> float:
    # By logarithm first: base**failures itself may be too large for a float.
    if failures * math.log(base) > math.log(DELAY_SECONDS_MAX):
        return DELAY_SECONDS_MAX
    return base**failures - 1


def _check_times(times: object) -> None:
    if isinstance(times, bool) or not isinstance(times, int):
        raise TypeError(f"times is an int, not {times!r}")
    if times < 1:
        raise ValueError(f"times is 1 or more, not {times}")
