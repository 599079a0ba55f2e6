"""The failure modes: what they decide, and which options they refuse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exkiq.failure_modes import (
    Abandon,
    Decision,
    ExponentialRetry,
    FailureMode,
    Move,
    Requeue,
    Retry,
    check_decision,
    decide_by_default,
)


@dataclass
class Job:
    id: str = "j1"
    queue: str = "default"


ERROR = ValueError("broken")


def decide(mode: FailureMode, failures: int, chance: float = 0.0) -> Decision:
    return mode.decide(Job(), ERROR, failures, chance)


def test_exponential_waits_are_1_3_7_15_31_and_then_failed() -> None:
    """The default waits that users are promised would have moved."""
    waits = [decide(ExponentialRetry(5), k) for k in range(1, 7)]

    assert [["retry", s * 1000] for s in (1, 3, 7, 15, 31)] + [["failed"]] == waits


def test_the_default_rule_is_the_exponential_one() -> None:
    """A child's death would be retried at other times than an exception."""
    for failures in range(1, 8):
        expected = decide(ExponentialRetry(5), failures, 0.7)
        assert expected == decide_by_default(failures, 5, 0.7)


def test_no_retries_is_failed_at_once() -> None:
    """retries=0 would run twice."""
    assert decide_by_default(1, 0, 0.5) == ["failed"]


def test_jitter_adds_up_to_its_share() -> None:
    """Jobs that fail together would come back together, or far too late."""
    mode = ExponentialRetry(5, jitter=0.1)

    assert decide(mode, 5, 0.0) == ["retry", 31_000]
    assert decide(mode, 5, 0.5) == ["retry", 32_550]
    assert decide(ExponentialRetry(5, jitter=0), 5, 0.9) == ["retry", 31_000]


def test_max_delay_bounds_the_wait_with_its_jitter() -> None:
    """`max_delay` would be exceeded by chance."""
    assert decide(ExponentialRetry(9, max_delay=10), 5, 0.99) == ["retry", 10_000]


@given(
    base=st.floats(1.0001, 1e300),
    failures=st.integers(1, 10**9),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_any_exponential_wait_is_fit_for_the_log(base: float, failures: int, chance: float) -> None:
    """A large budget of retries would overflow a float, or the due time."""
    decision = ExponentialRetry(10**9, base=base).decide(Job(), ERROR, failures, chance)

    assert decision == check_decision(decision)
    assert decision[0] == "retry"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"times": 0}, ValueError),
        ({"times": True}, TypeError),
        ({"times": 1.5}, TypeError),
        ({"times": 3, "base": 1}, ValueError),
        ({"times": 3, "base": float("inf")}, ValueError),
        ({"times": 3, "base": "2"}, TypeError),
        ({"times": 3, "jitter": -0.1}, ValueError),
        ({"times": 3, "jitter": 1.1}, ValueError),
        ({"times": 3, "max_delay": float("nan")}, ValueError),
    ],
)
def test_exponential_refuses_bad_options_when_built(
    options: dict[str, Any], error: type[Exception]
) -> None:
    """A bad option would show only when the first job fails."""
    with pytest.raises(error):
        ExponentialRetry(**options)


def test_retry_runs_times_plus_one_then_the_failed_set() -> None:
    """A job would run once too often or too rarely."""
    waits = [decide(Retry(times=2, delay=1.5), k) for k in (1, 2, 3)]

    assert waits == [["retry", 1500], ["retry", 1500], ["failed"]]


@pytest.mark.parametrize(
    ("finally_", "expected"),
    [
        (Abandon(), ["abandon"]),
        (Requeue(), ["requeue"]),
        (Move("graveyard"), ["move", "graveyard"]),
    ],
)
def test_retry_ends_in_its_finally(finally_: FailureMode, expected: Decision) -> None:
    """`finally_` would be ignored."""
    assert expected == decide(Retry(times=1, finally_=finally_), 2)


def test_a_retrying_finally_counts_from_one() -> None:
    """Three quick runs and two slow ones would be three quick ones only."""
    mode = Retry(times=3, finally_=Retry(times=2, delay=60))

    assert [decide(mode, k) for k in (4, 5, 6)] == [
        ["retry", 60_000],
        ["retry", 60_000],
        ["failed"],
    ]


def test_fun_says_how_long_and_when_to_stop() -> None:
    """`fun` would be asked with the wrong things, or its None not heard."""
    seen: list[tuple[str, BaseException, int]] = []

    def fun(job: Any, error: BaseException, failures: int) -> float | None:
        seen.append((job.id, error, failures))
        return 0.25 if failures < 2 else None

    mode = Retry(times=5, fun=fun)

    assert [decide(mode, 1), decide(mode, 2)] == [["retry", 250], ["failed"]]
    assert seen == [("j1", ERROR, 1), ("j1", ERROR, 2)]


@pytest.mark.parametrize("wait", ["soon", -1, float("nan"), True])
def test_a_fun_that_returns_no_wait_raises(wait: Any) -> None:
    """Rubbish would come into the log as a due time."""
    with pytest.raises((TypeError, ValueError)):
        decide(Retry(fun=lambda job, error, n: wait), 1)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"times": 0}, ValueError),
        ({"times": "3"}, TypeError),
        ({"delay": -1}, ValueError),
        ({"finally_": Abandon}, TypeError),
        ({"finally_": "failed"}, TypeError),
        ({"fun": 5}, TypeError),
    ],
)
def test_retry_refuses_bad_options_when_built(
    options: dict[str, Any], error: type[Exception]
) -> None:
    """A bad option would show only when the first job fails."""
    with pytest.raises(error):
        Retry(**options)


def test_move_refuses_the_jobs_own_queue() -> None:
    """The job would go round for ever with a fresh budget each time."""
    with pytest.raises(ValueError, match="default"):
        decide(Move("default"), 1)


@pytest.mark.parametrize(
    ("name", "error"), [("", ValueError), ("q" * 256, ValueError), (3, TypeError)]
)
def test_move_refuses_what_is_no_queue_name(name: Any, error: type[Exception]) -> None:
    """The refusal would come from the log, long after."""
    with pytest.raises(error):
        Move(name)


def test_abandon_takes_no_options() -> None:
    """A misplaced option would be ignored."""
    with pytest.raises(TypeError):
        Abandon(3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "decision",
    [
        None,
        [],
        "failed",
        ["retry"],
        ["retry", -1],
        ["retry", 1.5],
        ["retry", True],
        ["retry", 10**15],
        ["move"],
        ["move", ""],
        ["move", 3],
        ["failed", 1],
        ["explode"],
        [3],
        [["failed"]],
    ],
)
def test_what_is_no_decision_is_refused(decision: Any) -> None:
    """A user's mode could put anything into the log."""
    with pytest.raises((TypeError, ValueError)):
        check_decision(decision)


@pytest.mark.parametrize(
    "decision", [["retry", 0], ("failed",), ["abandon"], ["requeue"], ["move", "q"]]
)
def test_a_decision_is_taken_as_a_list(decision: Any) -> None:
    """A tuple from a user's mode would not be heard."""
    assert list(decision) == check_decision(decision)
