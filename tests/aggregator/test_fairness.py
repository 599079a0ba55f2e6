"""Smooth weighted round robin: shares by weight, nobody starves."""

from collections import Counter
from collections.abc import Mapping
from itertools import islice, repeat

from hypothesis import given
from hypothesis import strategies as st

from exkiq.aggregator.fairness import Fairness


def turns(fairness: Fairness, weights: Mapping[str, int], count: int) -> list[str]:
    sources = {queue: repeat(queue) for queue in weights}
    return list(islice(fairness.turns(sources, weights), count))


def test_weights_three_to_one_share_three_to_one() -> None:
    """The shares would not follow the weights, or come in blocks."""
    taken = turns(Fairness(), {"emails": 3, "default": 1}, 400)
    assert Counter(taken) == {"emails": 300, "default": 100}
    windows = [Counter(taken[at : at + 4]) for at in range(0, 400, 4)]
    assert all(window == {"emails": 3, "default": 1} for window in windows)


def test_equal_weights_alternate() -> None:
    """One of two equal queues would be served in runs."""
    assert turns(Fairness(), {"a": 1, "b": 1}, 6) == ["a", "b", "a", "b", "a", "b"]


def test_one_turn_at_a_time_is_as_fair_as_many() -> None:
    """With one free slot a turn the light queue would never be reached."""
    fairness = Fairness()
    taken = [turns(fairness, {"heavy": 10, "light": 1}, 1)[0] for _ in range(110)]
    assert Counter(taken) == {"heavy": 100, "light": 10}


def test_a_full_queue_never_starves_a_small_one() -> None:
    """A job that comes now and then would wait behind the backlog of another queue."""
    fairness = Fairness()
    turns(fairness, {"full": 100}, 5_000)
    assert "small" in turns(fairness, {"full": 100, "small": 1}, 2)


def test_being_away_saves_nothing_and_gains_nothing() -> None:
    """A queue that was empty for long would take every slot to catch up."""
    fairness = Fairness()
    turns(fairness, {"a": 1, "b": 1}, 10)
    turns(fairness, {"a": 1}, 1_000)
    assert Counter(turns(fairness, {"a": 1, "b": 1}, 100)) == {"a": 50, "b": 50}
    taken = []
    for at in range(100):  # b is there every other time, and gets what it would have had
        taken += turns(fairness, {"a": 1, "b": 1} if at % 2 else {"a": 1}, 1)
    assert 49 <= Counter(taken)["b"] <= 51


def test_a_queue_without_more_jobs_leaves_the_round() -> None:
    """An empty queue would be asked for ever, or end the round of the others."""
    sources = {"a": iter("A"), "b": iter("BBB"), "c": iter("")}
    assert list(Fairness().turns(sources, dict.fromkeys("abc", 1))) == ["A", "B", "B", "B"]


def test_queues_that_are_gone_are_forgotten() -> None:
    """The leader would keep a place for every queue name it ever saw."""
    fairness = Fairness()
    for at in range(1_000):
        turns(fairness, {f"queue-{at}": 1, "steady": 1}, 2)
    assert len(fairness._place) < 10


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 16), min_size=1, max_size=6))
def test_every_lap_gives_each_queue_its_weight(weights: dict[str, int]) -> None:
    """Some mixture of weights would not be shared by weight."""
    fairness = Fairness()
    lap = sum(weights.values())
    for _ in range(3):
        counts = Counter(turns(fairness, weights, lap))
        assert all(abs(counts[queue] - weight) <= 1 for queue, weight in weights.items())
