"""Which fault comes when: pure, from a seed. Alone first, each kind once, then mixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

FIRST_AT_S = 1.0
AT_ONCE_MAX = 3

# How long each kind lasts, in seconds. What it is done to is drawn when it begins.
LASTS: dict[str, tuple[float, float]] = {
    "kill-leader": (0.2, 2.0),
    "kill-follower": (0.2, 2.0),
    "kill-majority": (0.2, 2.0),
    "kill-all": (0.0, 1.0),
    "restart-order": (0.2, 0.8),
    "rolling-stop": (0.0, 0.3),
    "pause-leader": (0.3, 5.0),
    "pause-follower": (0.3, 5.0),
    "cut-leader": (0.5, 4.0),
    "cut-halves": (0.5, 4.0),
    "cut-bridge": (0.5, 4.0),
    "one-way": (0.5, 4.0),
    "flap": (1.0, 4.0),
    "black-hole": (2.0, 6.0),
    "half-open": (1.0, 4.0),
    "reset": (0.2, 1.0),
    "loss": (1.0, 4.0),
    "delay": (1.0, 4.0),
    "bandwidth": (1.0, 4.0),
    "clock-step": (1.0, 5.0),
    "full-disk": (1.0, 3.0),
    "kill-worker": (0.1, 0.5),
    "transfers": (0.5, 2.0),
}


@dataclass(frozen=True)
class Planned:
    """A fault to come. `seed` draws all that is left open."""

    at: float
    kind: str
    lasts: float
    seed: str


def plan(
    seed: int,
    seconds: float,
    kinds: Sequence[str],
    *,
    alone: float = 0.5,
    pace: float = 1.0,
    longest: float = 6.0,
) -> list[Planned]:
    """The faults of a run, by time.

    Units: `alone` is the largest share of the time in which one fault comes after the other;
           `pace` stretches the pauses between them; none lasts over `longest` seconds.
    """
    chance = Random(f"plan {seed}")
    planned: list[Planned] = []
    at = FIRST_AT_S * pace

    def add(kind: str) -> float:
        low, high = LASTS[kind]
        lasts = min(longest, chance.uniform(low, high))
        planned.append(Planned(at, kind, lasts, f"{seed} {len(planned)} {kind}"))
        return lasts

    one_by_one = list(kinds)
    chance.shuffle(one_by_one)
    for kind in one_by_one:
        if at >= seconds * alone:
            break
        at += add(kind) + chance.uniform(0.5, 1.5) * pace
    while at < seconds:
        for kind in chance.sample(list(kinds), min(len(kinds), chance.randint(1, AT_ONCE_MAX))):
            add(kind)
        at += chance.uniform(1.0, 4.0) * pace
    return planned
