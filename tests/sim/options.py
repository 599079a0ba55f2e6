"""What one run is made of: drawn from its seed, or said by whoever repeats it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from tests.sim.clients import Load
from tests.sim.pool import Habits

FAULTS = (
    "crash",
    "power",
    "majority",
    "stop",
    "pause",
    "step",
    "transfer",
    "join",
    "remove",
    "replace",
    "isolate",
    "halves",
    "bridge",
    "ring",
    "oneway",
    "halfopen",
    "flap",
    "reset",
    "slowlink",
    "slowdisk",
    "fulldisk",
    "baddisk",
    "bitflip",
    "cutcommit",
    "snapshots",
)


@dataclass(frozen=True)
class Options:
    """Seconds are virtual."""

    nodes: int = 3
    seconds: float = 15.0
    faults: dict[str, float] = field(default_factory=dict)  # weights
    gap: float = 1.5  # mean time between two faults
    delay: float = 0.0005
    jitter: float = 0.001
    compact: int = 100_000  # entries; few make snapshots
    disk: str = "memory"
    load: Load = field(default_factory=Load)
    habits: Habits = field(default_factory=Habits)


def drawn(
    seed: int,
    *,
    seconds: float | None = None,
    faults: tuple[str, ...] | None = None,
    disk: str = "memory",
    nodes: int | None = None,
) -> Options:
    """The options of a seed: a random subset of faults with random weights."""
    chance = Random(f"options {seed}")
    names = [fault for fault in FAULTS if chance.random() < 0.4]
    weights = {name: chance.choice((0.3, 1.0, 3.0)) for name in FAULTS}
    wanted = names if faults is None else faults
    lan = chance.random() < 0.7
    options = Options(
        nodes=chance.choice((3, 3, 5)),
        seconds=chance.uniform(10, 40),
        faults={name: weights[name] for name in wanted},
        gap=chance.choice((0.5, 1.0, 2.0)),
        delay=0.0005 if lan else 0.02,
        jitter=chance.choice((0.0005, 0.002)) if lan else 0.02,
        compact=chance.choice((60, 200)) if "snapshots" in wanted else 100_000,
        disk=disk,
        load=Load(rate=chance.choice((5.0, 20.0, 40.0))),
        habits=Habits(
            slots=chance.choice((1, 4, 8)),
            seconds=chance.choice((0.01, 0.05, 0.2)),
            is_slow=chance.choice((0.03, 0.3)),
            haunts=chance.choice((0.3, 1.0)),
        ),
    )
    if nodes is not None:
        options = replace(options, nodes=nodes)
    return options if seconds is None else replace(options, seconds=seconds)
