"""The door of a node: where peers and clients come in."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

from exkiq.clock import Clock
from exkiq.config.certificates import Certificates
from exkiq.errors import ExkiqError
from exkiq.links.complaints import Complaints
from exkiq.links.link import Link
from exkiq.links.opening import Opening, Outcome, Terms
from exkiq.links.sockets import accept, bind_tcp, bind_unix, bound_address
from exkiq.links.strangers import StrangerLimits, Strangers
from exkiq.links.timings import Timings
from exkiq.service import Tasks
from exkiq.wire.hello import Hello

ACCEPT_RETRY_S = 0.1  # after EMFILE and its like: the door stays, the next try may work


def _nobody(*_: object) -> None:
    """Nobody wants to know."""


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Listener:
    """Accepts connections and hands out links.

    Duties: bind TCP and a Unix socket; keep strangers few and short; give each finished link to
    `on_client` or `on_peer`, by the role it proved; go on after whatever a stranger or the
    kernel does. `on_stranger` is told of proven peers of another founded cluster.
    """

    def __init__(
        self,
        hello: Callable[[], Hello],
        secret: bytes | None,
        *,
        clock: Clock,
        nonce: Callable[[int], bytes],
        on_client: Callable[[Link], None],
        on_peer: Callable[[Link], None],
        on_stranger: Callable[[Hello, ExkiqError], None] = _nobody,
        complaints: Complaints | None = None,
        limits: StrangerLimits | None = None,
        timings: Timings | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self.address = ""
        self.unix_path: Path | None = None
        self._complaints = complaints or Complaints(clock)
        self._terms = Terms(
            hello, secret, nonce, clock, timings or Timings(), self._complaints, certificates
        )
        self._on_client = on_client
        self._on_peer = on_peer
        self._on_stranger = on_stranger
        self._strangers = Strangers(limits or StrangerLimits(), clock.monotonic)
        # Apart: whoever besieges the port must not lock out this user's own programs.
        self._locals = Strangers(limits or StrangerLimits(), clock.monotonic)
        self._servers: list[socket.socket] = []
        self._tasks = Tasks()
        self._accepting: list[asyncio.Task[None]] = []
        self._knocks: dict[socket.socket, asyncio.Future[None]] = {}
        self._is_stopping = False

    async def start(self, host: str, port: int) -> str:
        """Listen on TCP; gives `address`, with the port the kernel chose for port 0.

        Errors: ConfigError naming the address, if it is taken or not ours.
        """
        server = await bind_tcp(host, port)
        self.address = bound_address(server)
        self._serve(server, self._strangers, f"accept on {self.address}")
        return self.address

    def start_unix(self, path: Path) -> None:
        """Listen on a socket file with mode 0600, in a folder with mode 0700.

        Errors: ConfigError naming the path, if a live process has it or the folder is open.
        """
        server = bind_unix(path)
        self.unix_path = path
        self._serve(server, self._locals, f"accept on {path}")

    async def stop(self) -> None:
        """Take no more and hang up on strangers; links go on. May be called twice."""
        # Nothing is cancelled: a connection that was just accepted would be lost unclosed.
        self._is_stopping = True
        for knock in self._knocks.values():
            _done(knock)
        self._abort_strangers()
        await asyncio.gather(*self._accepting)
        self._abort_strangers()
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self.unix_path is not None:
            self.unix_path.unlink(missing_ok=True)
            self.unix_path = None

    def _abort_strangers(self) -> None:
        self._strangers.abort()
        self._locals.abort()

    def _serve(self, server: socket.socket, strangers: Strangers, name: str) -> None:
        self._servers.append(server)
        self._accepting.append(self._tasks.start(self._accept(server, strangers), name=name))

    async def _accept(self, server: socket.socket, strangers: Strangers) -> None:
        while True:
            await self._knock(server)
            await strangers.room()
            if self._is_stopping:
                return
            try:
                connection, host = accept(server)
            except BlockingIOError:
                continue  # it gave up while it waited
            except OSError as error:
                self._complaints.warn("accept", f"cannot accept a connection: {error}")
                await asyncio.sleep(ACCEPT_RETRY_S)
                continue
            if strangers.admits(host):
                await self._open(connection, host, strangers)
            else:
                connection.close()
                self._complaints.warn(f"crowd {host}", f"too many strangers at once from {host}")

    async def _knock(self, server: socket.socket) -> None:
        """Until somebody waits in the kernel's queue, or we stop."""
        if self._is_stopping:
            return
        loop = asyncio.get_running_loop()
        knock = self._knocks[server] = loop.create_future()
        loop.add_reader(server, _done, knock)
        try:
            await knock
        finally:
            loop.remove_reader(server)

    async def _open(self, connection: socket.socket, host: str, strangers: Strangers) -> None:
        def opened(link: Link) -> None:
            strangers.went(opening)
            (self._on_peer if link.peer.is_node else self._on_client)(link)

        def failed(error: ExkiqError, peer: Hello | None) -> None:
            strangers.went(opening)
            self._complaints.no_link(host, error, opening.claimed)
            if peer is not None:
                self._on_stranger(peer, error)

        opening = Opening(self._terms, Outcome(opened, failed), dialled=None)
        strangers.came(opening, host)
        try:
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(lambda: opening, connection)
        except OSError as error:
            connection.close()
            opening.abort(f"lost while it was accepted: {error}")
