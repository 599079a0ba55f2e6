"""Certificates for tests, and an ear on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from exkiq.cli.authority import Authority
from exkiq.config import certificates
from exkiq.config.certificates import Certificates
from tests.links.loopback import Peer


class Papers:
    """A CA in a folder; certificates are signed when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = Authority(folder, datetime.now(UTC))
        self.ca.found()

    def node(self, name: str) -> Certificates:
        if not (self.folder / f"{name}.pem").exists():
            self.ca.sign_node(name, 1)
        return self.load(name)

    def client(self) -> Certificates:
        if not (self.folder / "client.pem").exists():
            self.ca.sign_client("client", 1)
        return self.load("client")

    def expired(self, name: str) -> Certificates:
        """Good yesterday, and loaded then."""
        if not (self.folder / f"{name}.pem").exists():
            Authority(self.folder, datetime.now(UTC) - timedelta(days=2)).sign_node(name, 1)
        return unchecked(self.files(name))

    def files(self, name: str) -> tuple[Path, Path, Path]:
        return self.folder / f"{name}.pem", self.folder / f"{name}.key", self.folder / "ca.pem"

    def load(self, name: str) -> Certificates:
        return certificates.load(self.files(name))


def unchecked(files: tuple[Path, Path, Path]) -> Certificates:
    """As `load`, for those that it would refuse."""
    dialling = certificates._context(ssl.PROTOCOL_TLS_CLIENT, *files)
    accepting = certificates._context(ssl.PROTOCOL_TLS_SERVER, *files)
    return Certificates(files, frozenset(), dialling, accepting)


@contextlib.asynccontextmanager
async def tapped(
    node: Peer, change: Callable[[bytes], bytes] = lambda data: data
) -> AsyncIterator[tuple[str, bytearray]]:
    """An address that leads to the node, and all bytes that go through."""
    wire = bytearray()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                wire.extend(data)
                writer.write(change(data))
        writer.close()

    async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", node.port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_server(through, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", wire
    server.close()
    await asyncio.sleep(0.01)
