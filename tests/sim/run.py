"""scripts/sim: many seeds, one seed, the directed schedules, or the planted faults.

    scripts/sim --seeds 200              seeds 0 to 199
    scripts/sim --seeds 200 --from 1000  seeds 1000 to 1199
    scripts/sim --seed 44 --seconds 8    one seed, as a failure says it
    scripts/sim --directed               each directed schedule, --seeds times
    scripts/sim --mutants                how many of --seeds find each planted fault

Ends with 1 when a promise was broken, with a line for each that repeats it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.sim.directed import DIRECTED, directed
from tests.sim.mutants import MUTANTS, finds
from tests.sim.options import FAULTS, drawn
from tests.sim.violation import Violation
from tests.sim.world import Outcome, simulate


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/sim", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--seconds", type=float, help="virtual seconds of faults")
    parser.add_argument("--nodes", type=int, choices=(1, 3, 5, 7))
    parser.add_argument("--disk", choices=("memory", "sqlite"), default="memory")
    parser.add_argument("--faults", help=f"only these, with commas: {', '.join(FAULTS)}")
    parser.add_argument("--directed", action="store_true", help="the directed schedules")
    parser.add_argument("--mutants", nargs="?", const="all", help="planted faults, or one of them")
    return parser.parse_args(words)


class Tally:
    """What the runs added up to."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, str]] = []
        self.kinds: Counter[str] = Counter()
        self.outcomes: list[Outcome] = []
        self.began = time.perf_counter()

    def run(self, line: str, run: Callable[[], Outcome]) -> None:
        try:
            self.outcomes.append(run())
        except Violation as violation:
            self.kinds[violation.kind] += 1
            self.failures.append((str(violation), line))
        except Exception as error:  # a bug of the product that came out somewhere
            self.kinds["error"] += 1
            self.failures.append((repr(error), line))

    def show(self, console: Console) -> None:
        took = time.perf_counter() - self.began
        virtual = sum(o.virtual_seconds for o in self.outcomes)
        entries = sum(o.entries for o in self.outcomes)
        told = sum(o.acknowledged for o in self.outcomes)
        overlaps = sum(o.overlaps for o in self.outcomes)
        console.print(
            f"{len(self.outcomes)} runs held: {virtual:.0f} virtual s in {took:.0f} s "
            f"({virtual / max(took, 0.01):.0f} a second), {entries} entries, "
            f"{told} acknowledged, {overlaps} overlapping runs"
        )
        for text, line in self.failures:
            console.print(text, style="red", markup=False, highlight=False)
            console.print(f"    {line}", markup=False, highlight=False)
        if self.failures:
            console.print(f"{len(self.failures)} broke a promise: {dict(self.kinds)}")


@contextmanager
def _bar(console: Console, total: int) -> Iterator[Callable[[], None]]:
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("simulating", total=total)
        yield lambda: progress.advance(task)


def _seeds(arguments: argparse.Namespace) -> range:
    if arguments.seed is not None:
        return range(arguments.seed, arguments.seed + 1)
    return range(arguments.first, arguments.first + arguments.seeds)


def _random_runs(arguments: argparse.Namespace, console: Console) -> Tally:
    tally, seeds = Tally(), _seeds(arguments)
    faults = None if arguments.faults is None else tuple(filter(None, arguments.faults.split(",")))
    words = [
        f"--{name} {value}"
        for name, value in vars(arguments).items()
        if name in ("seconds", "nodes", "faults") and value is not None
    ]
    words += ["--disk sqlite"] if arguments.disk == "sqlite" else []
    with _bar(console, len(seeds)) as advance:
        for seed in seeds:
            options = drawn(
                seed,
                seconds=arguments.seconds,
                faults=faults,
                disk=arguments.disk,
                nodes=arguments.nodes,
            )
            line = " ".join(["scripts/sim", f"--seed {seed}", *words])
            tally.run(line, lambda seed=seed, options=options: simulate(seed, options))
            advance()
    return tally


def _directed_runs(arguments: argparse.Namespace, console: Console) -> Tally:
    tally, seeds = Tally(), _seeds(arguments)
    with _bar(console, len(seeds) * len(DIRECTED)) as advance:
        for name in DIRECTED:
            for seed in seeds:
                line = f"scripts/sim --directed --seed {seed}   # {name}"
                tally.run(line, lambda name=name, seed=seed: directed(name, seed))
                advance()
    return tally


def _mutant_runs(arguments: argparse.Namespace, console: Console) -> int:
    names = list(MUTANTS) if arguments.mutants == "all" else [arguments.mutants]
    seeds = _seeds(arguments)
    table = Table("mutant", "what is broken", "found by", "first", "as")
    missed = 0
    with _bar(console, len(names) * len(seeds)) as advance:
        for name in names:
            found: list[tuple[int, str]] = []
            for seed in seeds:
                text = finds(MUTANTS[name], seed)
                found += [] if text is None else [(seed, text)]
                advance()
            first = [str(found[0][0]), found[0][1][:70]] if found else ["", "NOT FOUND"]
            table.add_row(name, MUTANTS[name].what, f"{len(found)} of {len(seeds)}", *first)
            missed += not found
    console.print(table)
    return missed


def main(words: list[str]) -> int:
    arguments, console = _arguments(words), Console()
    if arguments.mutants is not None:
        return 1 if _mutant_runs(arguments, console) else 0
    runs = _directed_runs if arguments.directed else _random_runs
    tally = runs(arguments, console)
    tally.show(console)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
