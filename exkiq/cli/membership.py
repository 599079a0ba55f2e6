"""`cluster`: who belongs to it."""

from __future__ import annotations

from typing import Annotated

import typer

from exkiq.cli import show
from exkiq.cli.reach import AsJson, Cluster, Timeout, Url, reached

tree = typer.Typer(help="Show and change who belongs to the cluster.")


@tree.callback(invoke_without_command=True)
def top(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        show.line(context.get_help())
        raise typer.Exit(2)


@tree.command()
def members(
    url: Url = None, cluster: Cluster = None, timeout: Timeout = 5.0, as_json: AsJson = False
) -> None:
    """List the members: name, address, whether they vote, whether they are alive."""
    with reached(url, cluster, timeout) as node:
        answer = node.ask("status")["cluster"]["members"]
    if as_json:
        show.as_json(answer)
        return
    show.table(
        "",
        ("name", "address", "role", "state", "#applied"),
        [[each[name] for name in ("name", "address", "role", "state", "applied")] for each in answer],
    )


@tree.command()
def remove(
    name: Annotated[str, typer.Argument(help="The member to remove.")],
    is_forced: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Remove without a majority. Unsafe: what only the lost members had is lost, and "
            "they must never be started again with their data.",
        ),
    ] = False,
    url: Url = None,
    cluster: Cluster = None,
    timeout: Timeout = 5.0,
) -> None:
    """Remove a member that will not come back."""
    with reached(url, cluster, timeout) as node:
        node.ask("cluster_remove", name, is_forced)
    show.line(f"{name} is no member any more")


@tree.command()
def leave(url: Url = None, cluster: Cluster = None, timeout: Timeout = 5.0) -> None:
    """Let the node that is asked leave the cluster."""
    with reached(url, cluster, timeout) as node:
        node.ask("cluster_leave")
    show.line("the node has left the cluster")


@tree.command()
def transfer(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The member to lead; any other if left out.")
    ] = None,
    url: Url = None,
    cluster: Cluster = None,
    timeout: Timeout = 5.0,
) -> None:
    """Give leadership to another member."""
    with reached(url, cluster, timeout) as node:
        node.ask("cluster_transfer", name)
        leader = node.ask("status")["cluster"]["leader"]
    show.line(f"{leader} leads")
