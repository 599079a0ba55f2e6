"""scripts/sim: whole clusters under faults, in virtual time.

    scripts/sim --seeds 200              seeds 0 to 199, on all cores
    scripts/sim --seeds 200 --from 1000  seeds 1000 to 1199
    scripts/sim --seed 44 --seconds 8    one seed, as a failure says it
    scripts/sim --shrink --seed 44       the smallest run that breaks the same promise
    scripts/sim --transcript --seed 44   what happens in it, for people
    scripts/sim --transcripts            write those of tests/sim/transcripts anew
    scripts/sim --directed               each directed schedule, --seeds times
    scripts/sim --mutants                the first of --seeds that finds each planted fault

Ends with 1 when a promise was broken, with a line for each that repeats it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tests.sim import transcript
from tests.sim.directed import DIRECTED
from tests.sim.hunt import Quarry, hunt
from tests.sim.mutants import MUTANTS
from tests.sim.processes import Processes
from tests.sim.shrink import shrink
from tests.sim.trial import Result, Trial, named, parser

INTERRUPTED = 130


def _arguments(words: list[str]) -> argparse.Namespace:
    made = parser()
    made.description = "Whole clusters under faults, in virtual time."
    made.add_argument("--seeds", type=int, default=100, help="how many")
    made.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    made.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    made.add_argument("--shrink", action="store_true", help="make a failing run as small as can be")
    made.add_argument("--transcript", action="store_true", help="what happens, for people")
    made.add_argument("--transcripts", action="store_true", help="write the kept ones anew")
    return made.parse_args(words)


def _say(console: Console, text: str, style: str = "") -> None:
    """A line as it is, however long."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


class Tally:
    """What the runs added up to; failures are told as they happen."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.kinds: Counter[str] = Counter()
        self.began = time.perf_counter()
        self.held = self.entries = self.acknowledged = self.overlaps = 0
        self.virtual = 0.0

    @property
    def failures(self) -> int:
        return self.kinds.total()

    def add(self, result: Result) -> None:
        if result.kind:
            self.kinds[result.kind] += 1
            _say(self._console, result.text, style="red")
            _say(self._console, f"    {result.trial.line}")
        elif result.outcome is not None:
            self.held += 1
            self.virtual += result.outcome.virtual_seconds
            self.entries += result.outcome.entries
            self.acknowledged += result.outcome.acknowledged
            self.overlaps += result.outcome.overlaps

    def show(self) -> None:
        took = time.perf_counter() - self.began
        _say(
            self._console,
            f"{self.held} runs held: {self.virtual:.0f} virtual s in {took:.0f} s "
            f"({self.virtual / max(took, 0.01):.0f} a second), {self.entries} entries, "
            f"{self.acknowledged} acknowledged, {self.overlaps} overlapping runs",
        )
        if self.failures:
            _say(self._console, f"{self.failures} broke a promise: {dict(self.kinds)}")


class Bar:
    """One bar for all: what is done, what it was worth, what broke, the time that is left."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, text: str, *, by: int = 1) -> None:
        self._progress.update(self._task, advance=by, text=text)


@contextmanager
def _bar(console: Console, total: int) -> Iterator[Bar]:
    columns = (
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f}{task.fields[text]}"),
        TimeRemainingColumn(compact=True),
    )
    is_shown = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not is_shown) as progress:
        yield Bar(progress, progress.add_task("", total=total, text=""))


def _seeds(arguments: argparse.Namespace) -> range:
    if arguments.seed is not None:
        return range(arguments.seed, arguments.seed + 1)
    return range(arguments.first, arguments.first + arguments.seeds)


def _trials(arguments: argparse.Namespace) -> list[Trial]:
    if arguments.directed is None:
        return [named(arguments, seed) for seed in _seeds(arguments)]
    names = list(DIRECTED) if arguments.directed == "all" else [arguments.directed]
    return [Trial(seed, directed=name) for name in names for seed in _seeds(arguments)]


def _runs(arguments: argparse.Namespace, console: Console) -> int:
    tally, trials = Tally(console), _trials(arguments)
    is_interrupted = False
    with _bar(console, len(trials)) as bar, Processes(_jobs(arguments, trials)) as processes:
        try:
            for result in processes.results(trials):
                tally.add(result)
                bar.advance(f", {tally.virtual:.0f} virtual s, {tally.failures} broken")
        except KeyboardInterrupt:
            is_interrupted = True
    tally.show()
    return INTERRUPTED if is_interrupted else int(tally.failures > 0)


def _jobs(arguments: argparse.Namespace, trials: list[Trial]) -> int:
    return max(1, min(arguments.jobs, len(trials)))


def _mutants(arguments: argparse.Namespace, console: Console) -> int:
    names = list(MUTANTS) if arguments.mutants == "all" else [arguments.mutants]
    seeds, missed, is_interrupted = _seeds(arguments), 0, False
    console.print(f"{'':20} {'about':5} {'':9} {'seeds':>6} {'s':>6}")
    with _bar(console, len(names)) as bar, Processes(arguments.jobs) as processes:
        try:
            for quarry in hunt(names, seeds, processes):
                missed += not quarry.found
                _say(console, _row(quarry))
                bar.advance(f" mutants, {missed} not found")
        except KeyboardInterrupt:
            is_interrupted = True
    if is_interrupted:
        return INTERRUPTED
    _say(console, f"{missed} not found in {len(seeds)} seeds" if missed else "all found")
    return int(missed > 0)


def _row(quarry: Quarry) -> str:
    if not quarry.found:
        found, text = "NOT FOUND", MUTANTS[quarry.mutant].what
    else:
        first = quarry.found[0]
        found, text = f"seed {first.trial.seed}", first.text.split("\n")[0][:100]
    name = f"{quarry.mutant:20} {MUTANTS[quarry.mutant].hazard:5}"
    return f"{name} {found:9} {quarry.needed:6} {quarry.seconds:6.1f}  {text}"


def _shrunk(arguments: argparse.Namespace, console: Console) -> int:
    trial = _trials(arguments)[0]
    with Processes(arguments.jobs) as processes:
        failure = next(processes.results([trial]))
        if not failure.kind:
            console.print("every promise held: nothing to shrink")
            return 0
        _say(console, failure.text, style="red")
        try:
            smallest = shrink(failure, processes, lambda r: _say(console, f"  {r.trial.line}"))
        except KeyboardInterrupt:
            return INTERRUPTED
    _say(console, smallest.text, style="red")
    _say(console, smallest.trial.line)
    return 1


def main(words: list[str]) -> int:
    arguments, console = _arguments(words), Console()
    if arguments.transcripts:
        transcript.rewrite()
        return 0
    if arguments.mutants is not None:
        return _mutants(arguments, console)
    if arguments.transcript or arguments.shrink:
        if arguments.seed is None:
            console.print("scripts/sim: which --seed?")
            return 2
        if arguments.shrink:
            return _shrunk(arguments, console)
        sys.stdout.write(transcript.of(_trials(arguments)[0]))
        return 0
    return _runs(arguments, console)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
