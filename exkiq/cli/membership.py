"""`cluster`: who belongs to it."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from exkiq.cli import show
from exkiq.cli.reach import AsJson, Node, Way, asks_a_node
from exkiq.cli.reading import show_members
from exkiq.errors import NoSuchJob, NotRunning

WRONG_USAGE = 2

tree = typer.Typer(help="Show and change who belongs to the cluster.", rich_markup_mode=None)


@tree.callback(invoke_without_command=True)
def top(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        show.line(context.get_help())
        raise typer.Exit(WRONG_USAGE)


@tree.command()
@asks_a_node
def members(way: Way, as_json: AsJson = False) -> None:
    """List the members: name, address, role, whether they are alive."""
    with way.node() as node:
        answer = node.ask("status")["cluster"]["members"]
    if as_json:
        show.as_json(answer)
    else:
        show_members(answer)


@tree.command()
@asks_a_node
def remove(way: Way, name: Annotated[str, typer.Argument(metavar="NAME", hidden=True)]) -> None:
    """Remove the member NAME, which will not come back."""
    with way.node() as node:
        _remove(node, name)
    show.line(f"{name} is no member any more")


@tree.command()
@asks_a_node
def leave(way: Way) -> None:
    """Let the node that is asked leave the cluster."""
    with way.node() as node:
        # by name: a question without an answer is put to the next node, which must not leave too
        name = node.ask("status")["node"]
        _remove(node, name)
    show.line(f"{name} has left the cluster")


def _remove(node: Node, name: str) -> None:
    if name not in [each["name"] for each in node.ask("status")["cluster"]["members"]]:
        raise NotRunning(f"no member is named {name!r}")
    with contextlib.suppress(NoSuchJob):  # it was a member just now: done when first asked
        node.ask("cluster_remove", name, False)


@tree.command()
@asks_a_node
def transfer(
    way: Way, name: Annotated[str | None, typer.Argument(metavar="NAME", hidden=True)] = None
) -> None:
    """Give leadership to the member NAME, or to any other."""
    with way.node() as node:
        node.ask("cluster_transfer", name)
        leader = node.ask("status")["cluster"]["leader"]
    show.line(f"{leader} leads")
