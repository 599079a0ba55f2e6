"""How a command reaches a node: the options they share, and one question at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        envvar="EXKIQ_URL",
        show_envvar=False,
        help="Node to ask: exkiq://HOST:PORT[,HOST:PORT] or exkiq+unix:///PATH. (default: the "
        "node of this machine; EXKIQ_URL)",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="C",
        envvar="EXKIQ_CLUSTER",
        show_envvar=False,
        help="Cluster whose node on this machine to ask. (default: default; EXKIQ_CLUSTER)",
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=0.1,
        max=3600,
        show_default=False,
        help="Seconds to wait for an answer. (default: 5)",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@dataclass(frozen=True, slots=True)
class Reached:
    """A node that answers this command."""

    client: Any
    timeout: float

    def ask(self, verb: str, *arguments: object) -> Any:
        """The answer to one question."""
        return self.client.request(verb, *arguments, timeout=self.timeout)


@contextmanager
def reached(url: str | None, cluster: str | None, timeout: float) -> Iterator[Reached]:
    """A node, and the connection closed at the end.

    Errors: NoNodeError says how to start or name one.
    """
    from exkiq.client import Client

    with Client(url, cluster=cluster) as client:
        yield Reached(client, timeout)
