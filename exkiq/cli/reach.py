"""How a command reaches a node: the options they share, and one question at a time."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exkiq.config.certificates import TlsFiles
from exkiq.config.secret import read_secret_file
from exkiq.errors import ConfigError

if TYPE_CHECKING:
    from exkiq.client import Client

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="Node to ask: exkiq://HOST:PORT[,HOST:PORT] or exkiq+unix:///PATH. (default: the "
        "node of this machine; EXKIQ_URL)",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="NAME",
        help="Cluster whose node on this machine to ask. (default: default; EXKIQ_CLUSTER)",
    ),
]
SecretFile = Annotated[
    Path | None,
    typer.Option(
        "--secret-file",
        metavar="FILE",
        help="File with the secret of the cluster. (default: none; EXKIQ_SECRET_FILE)",
    ),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert",
        metavar="FILE",
        help="Certificate of this client, where the cluster uses TLS. (default: none; "
        "EXKIQ_TLS_CERT)",
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option("--tls-key", metavar="FILE", help="Its key. (default: none; EXKIQ_TLS_KEY)"),
]
TlsCa = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca", metavar="FILE", help="The cluster's CA. (default: none; EXKIQ_TLS_CA)"
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=0.1,
        max=3600,
        help="Seconds to wait for an answer. (default: 5; 15 to move the lead, 45 to remove)",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@dataclass(frozen=True, slots=True)
class Node:
    """A node that answers this command."""

    client: Client
    timeout: float

    def ask(self, verb: str, *arguments: object) -> Any:
        """The answer to one question."""
        return self.client.request(verb, *arguments, timeout=self.timeout)

    def change(self, operation: bytes, about: str) -> Any:
        """The outcome of one operation of `exkiq.machine.commands`."""
        return self.client.propose(operation, about, timeout=self.timeout)


@dataclass(frozen=True, slots=True)
class Way:
    """Which node to ask, how to prove that we may, how long to wait."""

    url: str | None
    cluster: str | None
    secret_file: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    tls_ca: Path | None
    timeout: float | None

    @contextmanager
    def node(self, timeout: float = 5.0) -> Iterator[Node]:
        """A node; the connection is closed at the end.

        Units:  timeout in seconds for each question, where the command line names none.
        Errors: ConfigError for what is no URL or secret; NoNodeError when none answers.
        """
        # imported late: help and usage errors must not wait for the client
        from exkiq.client import Client

        secret, tls = self._secret(), self._tls()
        with Client(self.url, cluster=self.cluster, secret=secret, tls=tls) as client:
            yield Node(client, self.timeout or timeout)

    def _tls(self) -> TlsFiles | None:
        match (self.tls_cert, self.tls_key, self.tls_ca):
            case (None, None, None):
                return None
            case (Path() as certificate, Path() as key, Path() as ca):
                return certificate, key, ca
        raise ConfigError("--tls-cert, --tls-key and --tls-ca belong together")

    def _secret(self) -> bytes | None:
        if self.secret_file is None:
            return None
        try:
            return read_secret_file(self.secret_file)
        except ValueError as error:
            raise ConfigError(f"--secret-file: {error}") from error


SHARED: dict[str, tuple[Any, Any]] = {
    "url": (Url, None),
    "cluster": (Cluster, None),
    "secret_file": (SecretFile, None),
    "tls_cert": (TlsCert, None),
    "tls_key": (TlsKey, None),
    "tls_ca": (TlsCa, None),
    "timeout": (Timeout, None),
}


def asks_a_node(command: Callable[..., None]) -> Callable[..., None]:
    """Gives `command(way, ...)` the options that name a node; typer reads the signature."""

    @functools.wraps(command)
    def asking(**given: Any) -> None:
        way = Way(**{name: given.pop(name) for name in SHARED})
        command(way, **given)

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    shared = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
        )
        for name, (annotation, default) in SHARED.items()
    ]
    keyword_only = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
    asking.__signature__ = inspect.Signature([*keyword_only, *shared])  # type: ignore[attr-defined]
    asking.__annotations__ = {}
    return asking
