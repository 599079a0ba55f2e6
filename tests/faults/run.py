"""scripts/faults: real nodes under load and faults, and a judge of the whole history.

    scripts/faults --minutes 3                 three nodes, every kind of fault, alone then mixed
    scripts/faults --nodes 5 --seed 7          another size, another schedule
    scripts/faults --kinds cut-leader,flap     only these
    scripts/faults --failover 50               kill the leader 50 times: how long until it works
    scripts/faults --quiet-minutes 10          idle, then under full load: no election

Ends with 1 when a promise was broken. The links between the nodes go through a TCP proxy of this
program, so that it runs without rights; as root one node's disk is a small one that is filled.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from tests.faults.failover import failover
from tests.faults.load import SHORT
from tests.faults.quiet import quiet
from tests.faults.schedule import LASTS
from tests.faults.trial import Report, Terms, Trial

# some outlive the loss of their node, so that a second run can overlap the first
DURATIONS = (*SHORT * 5, 3.0)


def _arguments(words: list[str]) -> argparse.Namespace:
    lines = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(
        prog="scripts/faults",
        description=lines[0].partition(": ")[2],
        epilog="\n".join(lines[2:]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=_positive, default=1.0, help="of faults (1)")
    parser.add_argument("--nodes", type=int, choices=(3, 5), default=3, help="how many (3)")
    parser.add_argument("--kinds", type=_kinds, default=list(LASTS), help=", ".join(LASTS))
    parser.add_argument("--seed", type=int, default=1, help="of the schedule (1)")
    parser.add_argument("--rate", type=_positive, default=80.0, help="calls a second (80)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the verdict, for machines")
    parser.add_argument("--keep", action="store_true", help="keep logs, ledgers and journals")
    parser.add_argument("--failover", type=_count, metavar="KILLS", help="of the leader, measured")
    parser.add_argument(
        "--quiet-minutes", type=_positive, metavar="M", help="idle, and a tenth of it under load"
    )
    return parser.parse_args(words)


def _positive(text: str) -> float:
    number = float(text)
    if number <= 0:
        raise argparse.ArgumentTypeError("more than 0")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("1 or more")
    return number


def _kinds(text: str) -> list[str]:
    kinds = [kind for kind in text.split(",") if kind]
    unknown = sorted(set(kinds) - set(LASTS))
    if unknown or not kinds:
        known = ", ".join(LASTS)
        raise argparse.ArgumentTypeError(f"no such kind: {', '.join(unknown)}; there are {known}")
    return kinds


# ---- showing -----------------------------------------------------------------------------------


def _picture(trial: Trial) -> Table:
    faults, skipped = trial.injector.done, trial.injector.skipped
    table = Table(title=f"{trial.stage}, {trial.left:.0f} s left", title_justify="left")
    table.add_column("faults")
    table.add_column(f"{sum(faults.values())}", justify="right")
    for kind, count in sorted(faults.items()):
        table.add_row(kind, str(count))
    if skipped:
        table.add_row("left out", str(sum(skipped.values())))
    table.add_section()
    table.add_row("acknowledged", f"{trial.load.acknowledged:,}")
    table.add_row("longest gap", f"{trial.load.longest_gap:.2f} s")
    return table


def _show(report: Report, console: Console) -> None:
    told = report.as_json()
    table = Table("fault", "times", title="faults", title_justify="left")
    for kind, count in told["faults_by_kind"].items():
        table.add_row(kind, str(count))
    console.print(table)
    for kind, count in told["left_out"].items():
        console.print(f"left out {count} times: {kind}", soft_wrap=True)
    console.print(
        f"{told['faults']} faults of {len(told['faults_by_kind'])} kinds, {told['strangers']} "
        f"hostile connections; {told['acknowledged']} of {told['asked']} jobs acknowledged, "
        f"{told['runs']} runs; longest gap between acknowledgements {told['longest_gap_s']} s",
        soft_wrap=True,
    )
    console.print(
        f"lost {told['lost']}, double claims {told['double_claims']}, jobs done twice "
        f"{told['jobs_done_twice']}, runs that overlapped {told['runs_overlapping']} "
        f"(worst {told['worst_overlap_s']} s)",
        soft_wrap=True,
    )
    if report.is_kept and not told["log_checked"]:
        console.print("the log was compacted: it was not held against the model")
    for text in (*told["broken"], *told["harness"]):
        console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


# ---- the three programs --------------------------------------------------------------------------


def _faults(arguments: argparse.Namespace, folder: Path, console: Console) -> tuple[bool, Any]:
    terms = Terms(
        arguments.minutes * 60,
        arguments.kinds,
        nodes=arguments.nodes,
        seed=arguments.seed,
        rate=arguments.rate,
        durations=DURATIONS,
    )
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        trial = Trial(folder, terms, lambda trial: live.update(_picture(trial)))
        report = trial.run()
    (folder / "timeline").write_text("\n".join(report.timeline) + "\n")
    _show(report, console)
    if not report.is_kept:
        words = [f"--minutes {arguments.minutes:g}", f"--nodes {arguments.nodes}"]
        words += [f"--seed {arguments.seed}", f"--rate {arguments.rate:g}"]
        words += (
            [f"--kinds {','.join(arguments.kinds)}"] if len(arguments.kinds) < len(LASTS) else []
        )
        console.print(f"scripts/faults {' '.join(words)}", markup=False, highlight=False)
    return report.is_kept, report.as_json()


def _failover(arguments: argparse.Namespace, folder: Path, console: Console) -> tuple[bool, Any]:
    with console.status("starting") as status:
        told = failover(folder, arguments.failover, arguments.nodes, arguments.seed, status.update)
    table = Table(f"{told['kills']} kills", "p50 ms", "p99 ms", "max ms")
    for name in ("kill to next job started", "longest gap between acknowledged sends"):
        table.add_row(name, *(f"{told[name][each]:.0f}" for each in ("p50", "p99", "max")))
    console.print(table)
    return told["kept"], told


def _quiet(arguments: argparse.Namespace, folder: Path, console: Console) -> tuple[bool, Any]:
    seconds = arguments.quiet_minutes * 60
    with console.status("starting") as status:
        told = quiet(folder, seconds, arguments.nodes, status.update)
    for name, row in told["phases"].items():
        console.print(
            f"{name}: {row['seconds']:.0f} s, {row['acknowledged']} jobs acknowledged, "
            f"{row['elections']} elections"
        )
    return told["kept"], told


def main(words: list[str]) -> int:
    arguments, console = _arguments(words), Console()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # no node may outlive its harness
    program: Callable[..., tuple[bool, Any]] = _faults
    if arguments.failover is not None:
        program = _failover
    elif arguments.quiet_minutes is not None:
        program = _quiet
    folder = Path(tempfile.mkdtemp(prefix="exkiq-faults-"))
    is_kept = False
    try:
        is_kept, told = program(arguments, folder, console)
    finally:
        if is_kept and not arguments.keep:
            shutil.rmtree(folder)
        else:
            console.print(f"logs, ledgers, journals and timeline: {folder}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")
    console.print("every promise was kept" if is_kept else "promises were broken")
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
