"""One run of the simulator, and the words that repeat it: scripts/sim --seed 44 --faults crash."""

from __future__ import annotations

import argparse
import shlex
import time
from dataclasses import dataclass, replace

from tests.sim.directed import DIRECTED, directed
from tests.sim.mutants import MUTANTS, finds
from tests.sim.options import FAULTS, Options, drawn
from tests.sim.violation import Violation
from tests.sim.world import Outcome, simulate

REPEATED_EACH = 100  # of so many seeds one is run twice: both must be the same run
NO_FAULTS = "none"


@dataclass(frozen=True)
class Trial:
    """What is drawn from the seed unless it is said."""

    seed: int
    seconds: float | None = None
    nodes: int | None = None
    disk: str = "memory"
    faults: tuple[str, ...] | None = None
    rate: float | None = None
    directed: str = ""
    mutant: str = ""

    @property
    def line(self) -> str:
        """The command that repeats it."""
        words = ["scripts/sim"]
        words += ["--directed", self.directed] if self.directed else []
        words += ["--mutants", self.mutant] if self.mutant else []
        words += ["--seed", str(self.seed)]
        words += ["--seconds", f"{self.seconds:g}"] if self.seconds is not None else []
        words += ["--nodes", str(self.nodes)] if self.nodes is not None else []
        words += ["--disk", self.disk] if self.disk != "memory" else []
        if self.faults is not None:
            words += ["--faults", ",".join(self.faults) or NO_FAULTS]
        words += ["--rate", f"{self.rate:g}"] if self.rate is not None else []
        return shlex.join(words)

    @property
    def options(self) -> Options:
        """Of a run under random faults."""
        options = drawn(
            self.seed,
            seconds=self.seconds,
            faults=self.faults,
            disk=self.disk,
            nodes=self.nodes,
        )
        if self.rate is None:
            return options
        return replace(options, load=replace(options.load, rate=self.rate))


@dataclass(frozen=True)
class Result:
    """How a trial went; without a `kind` every promise held, or the planted fault was missed."""

    trial: Trial
    outcome: Outcome | None = None
    kind: str = ""
    text: str = ""
    seconds: float = 0.0  # of the processor


def run(trial: Trial) -> Result:
    """Run it; what comes out where nothing may is part of the result."""
    began = time.process_time()
    outcome, kind, text = None, "", ""
    try:
        if trial.mutant:
            seconds = {} if trial.seconds is None else {"seconds": trial.seconds}
            text = finds(MUTANTS[trial.mutant], trial.seed, **seconds) or ""
            kind = "found" if text else ""
        elif trial.directed:
            outcome = directed(trial.directed, trial.seed)
        else:
            outcome = _random(trial)
    except Violation as violation:
        kind, text = violation.kind, str(violation)
    except Exception as error:  # a bug of the product that came out somewhere
        kind, text = type(error).__name__, repr(error)
    return Result(trial, outcome, kind, text, time.process_time() - began)


def _random(trial: Trial) -> Outcome:
    outcome = simulate(trial.seed, trial.options)
    if trial.seed % REPEATED_EACH == 0:
        again = simulate(trial.seed, trial.options)
        if again.trace != outcome.trace:
            raise Violation("determinism", f"traces {outcome.trace} and {again.trace}")
    return outcome


# ---- from words ------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The words that make a trial; scripts/sim has more."""
    made = argparse.ArgumentParser(prog="scripts/sim")
    made.add_argument("--seed", type=int, help="only this one")
    made.add_argument("--seconds", type=float, help="virtual seconds of faults")
    made.add_argument("--rate", type=float, help="what clients ask in a virtual second")
    made.add_argument("--nodes", type=int, choices=(1, 3, 5, 7))
    made.add_argument("--disk", choices=("memory", "sqlite"), default="memory")
    made.add_argument(
        "--faults", type=_faults, help=f"only these, with commas; {NO_FAULTS}: {', '.join(FAULTS)}"
    )
    for option, names, what in (
        ("--directed", DIRECTED, "directed schedules"),
        ("--mutants", MUTANTS, "planted faults"),
    ):
        made.add_argument(
            option,
            nargs="?",
            const="all",
            choices=("all", *names),
            metavar="NAME",
            help=f"the {what}, or one of them",
        )
    return made


def _faults(text: str) -> tuple[str, ...]:
    faults = tuple(fault for fault in text.split(",") if fault not in ("", NO_FAULTS))
    unknown = [fault for fault in faults if fault not in FAULTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such faults: {', '.join(unknown)}")
    return faults


def named(arguments: argparse.Namespace, seed: int, **more: str) -> Trial:
    """The trial of a seed that these arguments ask for."""
    said = (arguments.seconds, arguments.nodes, arguments.disk, arguments.faults, arguments.rate)
    return Trial(seed, *said, **more)


def read(line: str) -> Trial:
    """The trial of a line as `Trial.line` gives it."""
    arguments = parser().parse_args(shlex.split(line)[1:])
    more = {"directed": arguments.directed or "", "mutant": arguments.mutants or ""}
    return named(arguments, arguments.seed, **more)
