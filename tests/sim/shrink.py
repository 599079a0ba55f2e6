"""The smallest run that breaks the same promise: fewer faults and nodes, less time and load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.sim.processes import Processes
from tests.sim.trial import Result, Trial

SECONDS = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
RATES = (1.0, 3.0, 10.0)


def shrink(failure: Result, processes: Processes, told: Callable[[Result], None]) -> Result:
    """Take away what the failure does not need; `told` hears of each smaller one."""
    smallest = failure
    while True:
        smaller = _first_alike(smallest, processes)
        if smaller is None:
            return smallest
        smallest = smaller
        told(smallest)


def _first_alike(failure: Result, processes: Processes) -> Result | None:
    for result in processes.results(_smaller(failure.trial)):
        if result.kind == failure.kind:
            return result
    return None


def _smaller(trial: Trial) -> Iterator[Trial]:
    """What to try next, the boldest first."""
    if trial.directed or trial.mutant:
        return
    options = trial.options
    faults = tuple(options.faults)
    for kept in _fewer(faults):
        yield replace(trial, faults=kept)
    for nodes in (1, 3, 5):
        if nodes < options.nodes:
            yield replace(trial, nodes=nodes)
    for seconds in SECONDS:
        if seconds < options.seconds:
            yield replace(trial, seconds=seconds)
    for rate in RATES:
        if rate < options.load.rate:
            yield replace(trial, rate=rate)


def _fewer(faults: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    half = len(faults) // 2
    if half > 1:
        yield faults[:half]
        yield faults[half:]
    for fault in faults:
        yield tuple(other for other in faults if other != fault)
