"""Sockets: binding them, tuning them, naming them."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path
from typing import cast

from exkiq.config.addresses import join_address
from exkiq.errors import ConfigError

BACKLOG = 1_024
UNIX = "unix"
USER_TIMEOUT_MS = (
    10_000  # unacknowledged bytes: nobody is there; links of nodes ping, and know earlier
)
KEEPALIVE_IDLE_S = 15  # a client that lost its power is noticed within a minute
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_COUNT = 3
UNIX_PATH_BYTES_MAX = 107

_TCP_OPTIONS = (
    ("TCP_NODELAY", 1),
    ("TCP_USER_TIMEOUT", USER_TIMEOUT_MS),
    ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
    ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
    ("TCP_KEEPCNT", KEEPALIVE_COUNT),
)


def tune(transport: asyncio.Transport) -> None:
    """No delay, and a kernel that notices a peer without power."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family == socket.AF_UNIX:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_OPTIONS:
        option = getattr(socket, name, None)  # not every platform has all of them
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def remote_host(transport: asyncio.Transport) -> str:
    """The other side's IP address, or "unix"."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) else UNIX


async def bind_tcp(host: str, port: int) -> socket.socket:
    """A listening socket. Errors: ConfigError naming the address."""
    loop = asyncio.get_running_loop()
    address = join_address(host, port)
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
        return _listening(socket.socket(family, kind, protocol), where)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"cannot listen on {address}: {error}") from error


def _listening(server: socket.socket, where: object) -> socket.socket:
    try:
        server.setblocking(False)
        if server.family != socket.AF_UNIX:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(cast("str", where))
        if server.family == socket.AF_UNIX:
            Path(cast("str", where)).chmod(0o600)  # before listen: nobody connected meanwhile
        server.listen(BACKLOG)
    except OSError:
        server.close()
        raise
    return server


def accept(server: socket.socket) -> tuple[socket.socket, str]:
    """The next connection and its host, "unix" on a socket file."""
    connection, where = server.accept()
    connection.setblocking(False)
    return connection, str(where[0]) if isinstance(where, tuple) else UNIX


def bound_address(server: socket.socket) -> str:
    """`host:port` as the kernel gave it."""
    host, port = server.getsockname()[:2]
    return join_address(host, port)


def bind_unix(path: Path) -> socket.socket:
    """A listening socket that only this user can open. Errors: ConfigError naming the path.

    The folder is made if need be, and must be private; a socket file that nobody answers is
    replaced, one that somebody answers is not.
    """
    if len(bytes(path)) > UNIX_PATH_BYTES_MAX:
        raise ConfigError(f"{path}: longer than the {UNIX_PATH_BYTES_MAX} bytes of a socket path")
    try:
        _make_private_folder(path.parent)
        _clear_stale(path)
        return _listening(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), str(path))
    except OSError as error:
        raise ConfigError(f"cannot listen on {path}: {error}") from error


def _make_private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        raise ConfigError(f"{folder}: others may enter it; a socket's folder needs mode 0700")


def _clear_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path}: a file that is no socket is in the way")
    if _is_answered(path):
        raise ConfigError(f"{path}: another process listens on it")
    path.unlink(missing_ok=True)


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            return True  # its queue is full, so there is one
    return True
