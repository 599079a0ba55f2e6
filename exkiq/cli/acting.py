"""`pause`, `resume`, `retry`, `cancel`: what can be done to queues and jobs."""

from __future__ import annotations

from typing import Annotated

import typer

from exkiq.cli import show
from exkiq.cli.reach import Way, asks_a_node
from exkiq.errors import ConfigError
from exkiq.machine import commands

FAILED = 1

CANCELLED = {
    "ok": "cancelled",
    "stopping": "runs, and is asked to stop",
    "in_progress": "runs already, left alone; --running asks it to stop",
    "not_found": "ended already, or no such job",
}

DONE = {"ok", "stopping"}

Queues = Annotated[list[str], typer.Argument(metavar="QUEUE", hidden=True)]
Ids = Annotated[list[str], typer.Argument(metavar="ID", hidden=True)]


@asks_a_node
def pause(way: Way, queue: Queues) -> None:
    """Start no more jobs of QUEUE on any node; running ones end."""
    with way.node() as node:
        for name in queue:
            operation = commands.pause(node.client.next_pid(), name)
            is_new = node.change(operation, f"queue {name!r}")
            show.line(f"{name}: {'paused' if is_new else 'was paused already'}")


@asks_a_node
def resume(way: Way, queue: Queues) -> None:
    """Start jobs of QUEUE again."""
    with way.node() as node:
        for name in queue:
            operation = commands.resume(node.client.next_pid(), name)
            is_new = node.change(operation, f"queue {name!r}")
            show.line(f"{name}: {'resumed' if is_new else 'was not paused'}")


@asks_a_node
def retry(
    way: Way,
    job: Annotated[list[str] | None, typer.Argument(metavar="ID", hidden=True)] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", metavar="Q", help="All failed jobs of this queue.")
    ] = None,
    is_all: Annotated[bool, typer.Option("--all", help="All failed jobs.")] = False,
) -> None:
    """Run failed jobs again, with the same ids and all their retries."""
    if sum((bool(job), queue is not None, is_all)) != 1:
        raise ConfigError("retry: give one of these: jobs by their ID, --queue Q, or --all")
    with way.node() as node:
        operation = commands.retry(node.client.next_pid(), job or None, queue)
        count = node.change(operation, "the failed jobs")
    show.line(f"{count} {'job runs' if count == 1 else 'jobs run'} again")
    if job and count < len(set(job)):
        show.fault(f"{len(set(job)) - count} of the {len(set(job))} jobs are not in the failed set")
        raise typer.Exit(FAILED)


@asks_a_node
def cancel(
    way: Way,
    job: Ids,
    running: Annotated[
        bool, typer.Option("--running", help="Also ask those that run to stop.")
    ] = False,
) -> None:
    """Cancel the jobs ID; those that run only with --running.

    A running job ends as cancelled, unless it succeeds before it stops.
    """
    outcomes = {}
    with way.node() as node:
        for each in job:
            operation = commands.cancel(node.client.next_pid(), each, running=running)
            outcomes[each] = node.change(operation, f"job {each}")
    for each, outcome in outcomes.items():
        if outcome in DONE:
            show.line(f"{each}: {CANCELLED[outcome]}")
        else:
            show.fault(f"{each}: {CANCELLED[outcome]}")
    if not DONE.issuperset(outcomes.values()):
        raise typer.Exit(FAILED)
