"""`certs`: a certificate authority for one cluster, for those who have none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exkiq.cli import show
from exkiq.clock import SystemClock
from exkiq.config.table import NAME
from exkiq.errors import ConfigError, UnsupportedOperation

if TYPE_CHECKING:
    from exkiq.cli.authority import Authority

DAYS_MAX = 3_650

tree = typer.Typer(help="Make certificates for a cluster that uses TLS.", rich_markup_mode=None)
tree.callback(invoke_without_command=True)(show.help_without_command)

Folder = Annotated[Path, typer.Argument(metavar="DIR", hidden=True)]
Days = Annotated[
    int,
    typer.Option("--days", metavar="N", min=1, max=DAYS_MAX, help="Days it is good for."),
]


@tree.command()
def init(folder: Folder) -> None:
    """Make a CA in DIR: ca.pem goes to every machine, ca.key to none."""
    _tell(_authority(folder).found())


@tree.command()
def node(
    name: Annotated[str, typer.Argument(metavar="NAME", hidden=True)],
    folder: Folder,
    days: Days = 825,
) -> None:
    """Sign a certificate for the node NAME with the CA in DIR."""
    _tell(_authority(folder).sign_node(_checked(name), days))


@tree.command()
def client(
    folder: Folder,
    name: Annotated[
        str,
        typer.Option("--name", metavar="NAME", help="Name of the two files. (default: client)"),
    ] = "client",
    days: Days = 825,
) -> None:
    """Sign a certificate for programs that enqueue, with the CA in DIR."""
    _tell(_authority(folder).sign_client(_checked(name), days))


def _authority(folder: Path) -> Authority:
    try:
        # imported late: nothing else needs the extra
        from exkiq.cli.authority import Authority, clock_time
    except ImportError as error:
        raise UnsupportedOperation(
            "certificates are made with the package cryptography, which is not installed:"
            " pip install cryptography"
        ) from error
    return Authority(folder, clock_time(SystemClock().now_ms()))


def _checked(name: str) -> str:
    try:
        return NAME.read(name)
    except ValueError as error:
        raise ConfigError(f"{name!r} is no name: {NAME.allowed}") from error


def _tell(files: list[Path]) -> None:
    for path in files:
        show.line(str(path))
