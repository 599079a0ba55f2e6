"""What a failure mode answers: a decision, as it stands in the log.

    ["retry", delay_ms]   back into the queue after a wait, one failure more
    ["failed"]            into the failed set
    ["abandon"]           ended, not kept in the failed set
    ["requeue"]           the tail of its own queue, at once
    ["move", queue]       the tail of another queue, with a fresh budget of retries

Only the decision is replicated, never the code that made it.
"""

from __future__ import annotations

from collections.abc import Callable

from exkiq.machine import limits

Decision = list[str | int]

DELAY_SECONDS_MAX = limits.DELAY_MS_MAX // 1000


def retry_after(seconds: float) -> Decision:
    """Retry after a wait, rounded to a millisecond and bounded.

    Units:  seconds, 0 or more.
    Errors: TypeError or ValueError for what is no such number.
    """
    check_seconds(seconds, "a delay")
    return ["retry", round(min(seconds, DELAY_SECONDS_MAX) * 1000)]


def check_seconds(seconds: object, what: str) -> float:
    """`seconds` as it came, if it is a number of seconds that one can wait."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{what} is a number of seconds, not {seconds!r}")
    if not seconds >= 0:
        raise ValueError(f"{what} is 0 seconds or more, not {seconds!r}")
    return seconds


def check_queue_name(name: object) -> str:
    """`name` as it came, if a queue can be called that."""
    if not isinstance(name, str):
        raise TypeError(f"a queue's name is a str, not {name!r}")
    if not 0 < len(name.encode()) <= limits.QUEUE_NAME_BYTES_MAX:
        raise ValueError(
            f"a queue's name has 1 to {limits.QUEUE_NAME_BYTES_MAX} bytes, not {name!r}"
        )
    return name


def check_decision(decision: object) -> Decision:
    """A decision fit for the log.

    Shapes: any list or tuple in, a fresh list out.
    Errors: TypeError or ValueError that shows what came instead.
    """
    if not isinstance(decision, list | tuple) or not decision:
        raise TypeError(f"a failure mode returns a decision such as ['failed'], not {decision!r}")
    verb, rest = decision[0], list(decision[1:])
    check = _REST.get(verb) if isinstance(verb, str) else None
    if check is None or not check(rest):
        raise ValueError(f"not a decision: {decision!r}")
    return [verb, *rest]


def _is_delay(rest: list[object]) -> bool:
    if len(rest) != 1 or type(rest[0]) is not int:
        return False
    return 0 <= rest[0] <= limits.DELAY_MS_MAX


def _is_queue(rest: list[object]) -> bool:
    if len(rest) != 1 or not isinstance(rest[0], str):
        return False
    return 0 < len(rest[0].encode(errors="replace")) <= limits.QUEUE_NAME_BYTES_MAX


def _is_empty(rest: list[object]) -> bool:
    return not rest


_REST: dict[str, Callable[[list[object]], bool]] = {
    "retry": _is_delay,
    "failed": _is_empty,
    "abandon": _is_empty,
    "requeue": _is_empty,
    "move": _is_queue,
}
