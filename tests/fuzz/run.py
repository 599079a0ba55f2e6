"""scripts/fuzz: coverage-guided fuzzing of everything that reads bytes of others.

    scripts/fuzz --minutes 20            all targets, the time shared among them, on all cores
    scripts/fuzz --minutes 5 handshake   one of them
    scripts/fuzz --repeat FILE journal   an input that was found

What is found, and the inputs that reach new code, are kept in a folder that is named at the end;
`--corpus DIR` goes on with an earlier one. Ends with 1 when something was found.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from tests.fuzz.targets import TARGETS

LOOK_SECONDS = 0.2
INTERRUPTED = 130


@dataclass
class Run:
    """One target in a process of its own."""

    name: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def said(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def findings(self) -> list[Path]:
        kinds = ("crash-*", "timeout-*", "oom-*")
        return sorted(path for kind in kinds for path in self.folder.glob(kind))

    def figure(self, pattern: str) -> str:
        """The last number that it said of something."""
        found = re.findall(pattern, self.said)
        return f"{int(found[-1]):,}" if found else "?"


def main(words: list[str]) -> int:
    made = argparse.ArgumentParser(prog="scripts/fuzz", description="Fuzz what reads bytes.")
    made.add_argument("targets", nargs="*", default=[], metavar="TARGET", help=", ".join(TARGETS))
    made.add_argument("--minutes", type=float, default=1.0, help="for all of them together")
    made.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    made.add_argument("--corpus", type=Path, help="folder to go on with")
    made.add_argument("--repeat", type=Path, metavar="FILE", help="one input, once")
    asked = made.parse_args(words)
    unknown = set(asked.targets) - set(TARGETS)
    if unknown:
        made.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if asked.repeat is not None:
        for name in asked.targets:
            TARGETS[name](asked.repeat.read_bytes())
        return 0
    folder = asked.corpus or Path(tempfile.mkdtemp(prefix="exkiq-fuzz-"))
    return _all(asked.targets or list(TARGETS), folder, asked.minutes * 60, asked.jobs)


def _all(names: list[str], folder: Path, seconds: float, jobs: int) -> int:
    console = Console(stderr=True)
    share = max(1.0, seconds * min(jobs, len(names)) / len(names))
    waiting, runs = list(names), list[Run]()
    began = time.monotonic()
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("fuzzing", total=share * -(-len(names) // jobs))
        while waiting or any(run.process.poll() is None for run in runs):
            live = [run for run in runs if run.process.poll() is None]
            while waiting and len(live) < jobs:
                live.append(_started(waiting.pop(0), folder, share))
                runs.append(live[-1])
            bar.update(
                task,
                completed=time.monotonic() - began,
                description="fuzzing " + ", ".join(run.name for run in live),
            )
            for run in live[:1]:
                with suppress(subprocess.TimeoutExpired):
                    run.process.wait(LOOK_SECONDS)
    for run in runs:
        _tell(run)
    print(f"inputs and findings: {folder}")
    return int(any(run.findings or run.process.returncode for run in runs))


def _started(name: str, folder: Path, seconds: float) -> Run:
    own = folder / name
    own.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.one", name, str(own), str(seconds)]
    with (own / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    return Run(name, own, process)


def _tell(run: Run) -> None:
    done = run.figure(r"number_of_executed_units: (\d+)")
    edges = run.figure(r"cov: (\d+)")
    print(f"{run.name:14} {done:>12} inputs {edges:>6} edges  {len(run.findings)} found")
    for path in run.findings:
        print(f"  repeat: scripts/fuzz --repeat {path} {run.name}")
    if run.process.returncode and not run.findings:
        print("  " + "\n  ".join(run.said.splitlines()[-5:]))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
