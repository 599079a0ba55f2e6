"""`cluster`: who belongs to it."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

import typer

from exkiq.cli import show
from exkiq.cli.reach import AsJson, Node, Way, asks_a_node
from exkiq.cli.reading import show_members
from exkiq.errors import NotRunning, Refused

TRANSFER_SECONDS = 15.0  # a node gives it 5 s
LEAVE_SECONDS = 45.0  # a node gives a member 30 s to end its jobs and go

tree = typer.Typer(help="Show and change who belongs to the cluster.", rich_markup_mode=None)
tree.callback(invoke_without_command=True)(show.help_without_command)


@tree.command()
@asks_a_node
def members(way: Way, as_json: AsJson = False) -> None:
    """List the members: name, address, role, whether they are alive.

    The leader and its followers vote; a non-voter follows, runs jobs and waits for a vote.
    """
    with way.node() as node:
        answer = _members(node)
    if as_json:
        show.as_json(answer)
    else:
        show_members(answer)


@tree.command()
@asks_a_node
def remove(
    way: Way,
    name: Annotated[str, typer.Argument(metavar="NAME", hidden=True)],
    as_json: AsJson = False,
) -> None:
    """Remove the member NAME, which will not come back.

    If it is alive it ends its jobs first, hands back the rest, and stops.
    """
    with way.node(LEAVE_SECONDS) as node:
        _remove(node, name)
    _tell({"removed": name}, f"{name} is no member any more", is_json=as_json)


@tree.command()
@asks_a_node
def leave(way: Way, as_json: AsJson = False) -> None:
    """Let the node that is asked leave the cluster and stop."""
    with way.node(LEAVE_SECONDS) as node:
        # by name: a question without an answer is put to the next node, which must not leave too
        name = node.ask("status")["node"]
        _remove(node, name)
    _tell({"left": name}, f"{name} has left the cluster", is_json=as_json)


def _tell(fact: dict[str, str], text: str, *, is_json: bool) -> None:
    if is_json:
        show.as_json(fact)
    else:
        show.line(text)


def _remove(node: Node, name: str) -> None:
    names = [each["name"] for each in _members(node)]
    if name not in names:
        raise NotRunning(f"no member is named {name!r}; there are {', '.join(names)}")
    if names == [name]:
        raise Refused(f"{name} is the only member; stop it instead")
    with contextlib.suppress(NotRunning):  # it was a member just now: done when first asked
        node.ask("cluster_remove", name, False)


@tree.command()
@asks_a_node
def transfer(
    way: Way,
    name: Annotated[str | None, typer.Argument(metavar="NAME", hidden=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Give leadership to the member NAME.

    Without NAME it goes to the member that is caught up best. If it is not taken over in time
    the former leader goes on.
    """
    with way.node(TRANSFER_SECONDS) as node:
        # by name also here: asked twice for anybody, leadership would move on
        name = _heir(_members(node)) if name is None else name
        node.ask("cluster_transfer", name)
    _tell({"leader": name}, f"{name} leads", is_json=as_json)


def _heir(members: list[dict[str, Any]]) -> str:
    """The living voter beside the leader that has applied most of the log."""
    living = [each for each in members if each["state"] == "alive" and each["role"] == "follower"]
    if not living:
        raise Refused("no other member that votes is alive")
    heir: str = max(living, key=lambda each: each["applied"] or 0)["name"]
    return heir


def _members(node: Node) -> list[dict[str, Any]]:
    members: list[dict[str, Any]] = node.ask("status")["cluster"]["members"]
    return members
