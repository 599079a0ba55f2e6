"""`check`: a data folder read as a restart would read it, with no node running on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exkiq.cli import show
from exkiq.cli.reach import AsJson


def check(
    data_dir: Annotated[
        Path, typer.Option("--data-dir", metavar="DIR", help="Data folder of a stopped node.")
    ],
    as_json: AsJson = False,
) -> None:
    """Verify the data folder of a stopped node.

    Reads journal, snapshot and founding as a restart would, and checks the jobs they lead to.
    """
    # imported late: no other command needs the log's code
    from exkiq import raft
    from exkiq.discovery import FileFoundingStore

    report = raft.check(data_dir, lambda: FileFoundingStore(data_dir).load().cluster_id)
    if as_json:
        show.as_json({"facts": report.facts, "faults": report.faults})
    else:
        show.facts(report.facts)
    for fault in report.faults:
        show.fault(fault)
    if report.faults:
        raise typer.Exit(1)
    if not as_json:
        show.line("no faults")
