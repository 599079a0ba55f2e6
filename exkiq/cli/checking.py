"""`check`: a data folder read as a restart would read it, settings as a start would."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exkiq.cli import show
from exkiq.cli.reach import AsJson
from exkiq.cli.start import import_from_here
from exkiq.config import Settings, from_command_line
from exkiq.errors import ConfigError

Report = tuple[dict[str, object], list[str]]  # facts, faults


def check(
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", metavar="DIR", help="Data folder of a stopped node."),
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="TOML file with settings.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify the data folder of a stopped node, or a file of settings.

    Reads journal, snapshot and founding as a restart would, and checks the jobs they lead to.
    Of a file with settings it reads every value, imports the modules of the APP, and makes each
    part that the tables of its queues name.
    """
    facts: dict[str, object] = {}
    faults: list[str] = []
    if data_dir is None and config is None:
        raise typer.BadParameter("say what to check: --data-dir DIR, --config FILE, or both")
    for found, wrong in (_data(data_dir), _settings(config)):
        facts |= found
        faults += wrong
    if as_json:
        show.as_json({"facts": facts, "faults": faults})
    else:
        show.facts(facts)
    for fault in faults:
        show.fault(fault)
    if faults:
        raise typer.Exit(1)
    if not as_json:
        show.line("no faults")


def _data(data_dir: Path | None) -> Report:
    if data_dir is None:
        return {}, []
    # imported late: no other command needs the log's code
    from exkiq import raft
    from exkiq.discovery import FileFoundingStore

    report = raft.check(data_dir, lambda: FileFoundingStore(data_dir).load().cluster_id)
    return dict(report.facts), list(report.faults)


def _settings(config: str | None) -> Report:
    if config is None:
        return {}, []
    try:
        settings = from_command_line({}, config=config)
        facts = _facts_of(settings)
    except ConfigError as error:
        return {"settings": config}, list(error.faults)
    return {"settings": config} | facts, []


def _facts_of(settings: Settings) -> dict[str, object]:
    """What a start would go by. Errors: ConfigError, as its children would say it."""
    # imported late: the modules of the APP are of no concern to any other command
    from exkiq.declared import declared
    from exkiq.task import load_app

    import_from_here()
    queues: tuple[str, ...] = load_app(settings.app).queues if settings.app else ()
    declared.override(settings.queue_tables)
    told = declared.told().overridden(settings.queue_tables)
    told.check_slots(settings.processes * settings.concurrency)
    served = told.served(queues, settings.queues, settings.queue_tables)
    return {
        "app": ", ".join(settings.app) or "none",
        "queues": ", ".join(f"{name}:{weight}" for name, weight in served.items()),
        "pools": ", ".join(f"{name}:{slots}" for name, slots in told.slots.items()) or "none",
    }
