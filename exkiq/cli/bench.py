"""`bench`: starts a cluster of its own on this machine, measures it, removes it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from exkiq.cli import show
from exkiq.cli.reach import AsJson
from exkiq.clock import SystemClock


def bench(
    nodes: Annotated[int, typer.Option("--nodes", metavar="N", min=1, max=5, help="Nodes.")] = 3,
    processes: Annotated[
        int,
        typer.Option("--processes", metavar="P", min=1, max=64, help="Child processes a node."),
    ] = 1,
    concurrency: Annotated[
        int,
        typer.Option("--concurrency", metavar="C", min=1, max=10_000, help="Jobs a process."),
    ] = 100,
    seconds: Annotated[
        float,
        typer.Option("--seconds", metavar="S", min=0.1, max=600, help="Seconds each rate takes."),
    ] = 3.0,
    jobs: Annotated[
        int,
        typer.Option("--jobs", metavar="N", min=1, max=1_000_000, help="Jobs to run."),
    ] = 20_000,
    is_memory: Annotated[
        bool, typer.Option("--memory", help="Write nothing to disk, to see what the disk costs.")
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            metavar="DIR",
            help="Where the nodes keep their data meanwhile; its disk is what is measured. "
            "(default: a temporary folder)",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a cluster of its own on this machine.

    Starts the nodes, durable unless told otherwise, takes each figure, and removes everything.
    """
    from exkiq.cli.bench_cluster import BenchCluster

    cluster = BenchCluster(
        nodes,
        processes=processes,
        concurrency=concurrency,
        is_memory=is_memory,
        folder=folder,
        clock=SystemClock(),
    )
    with cluster:
        figures = _measured(cluster, seconds=seconds, jobs=jobs)
    setting = {
        "nodes": nodes,
        "processes": processes,
        "concurrency": concurrency,
        "durable": not is_memory,
        **_machine(),
    }
    _show(setting, figures, is_json=as_json)


def _measured(cluster: Any, *, seconds: float, jobs: int) -> dict[str, Any]:
    # imported late: they open the client, and help must not
    import exkiq
    from exkiq.cli.bench_figures import STEPS, Bench

    clock = SystemClock()
    with _progress() as progress:
        shown = progress.add_task("starting the nodes", total=None)
        client = exkiq.connect(cluster.url)
        cluster.await_ready(client)
        bench = Bench(client, clock, seconds=seconds, jobs=jobs)
        figures = {}
        for name, measure in STEPS.items():
            progress.update(shown, description=name)
            figures[name] = measure(bench)
        progress.update(shown, description="stopping the nodes")
    return figures


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _machine() -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": cores,
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _show(setting: dict[str, Any], figures: dict[str, Any], *, is_json: bool) -> None:
    if is_json:
        show.as_json(
            {**setting, "figures": [_as_map(name, each) for name, each in figures.items()]}
        )
        return
    show.facts(setting)
    show.table(
        "",
        ("what", "#count", "#seconds", "#a second", "#p50 ms", "#p99 ms"),
        [
            (
                name,
                each.count,
                each.seconds,
                round(each.rate),
                each.percentile_ms(50),
                each.percentile_ms(99),
            )
            for name, each in figures.items()
        ],
    )


def _as_map(name: str, figure: Any) -> dict[str, Any]:
    return {
        "what": name,
        "count": figure.count,
        "seconds": round(figure.seconds, 3),
        "per_second": round(figure.rate, 1),
        "p50_ms": _rounded(figure.percentile_ms(50)),
        "p99_ms": _rounded(figure.percentile_ms(99)),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
