"""What the kernel is told of a link's socket."""

from __future__ import annotations

import socket

import pytest

from exkiq.links.sockets import USER_TIMEOUT_MS, tune


class Opened:
    """The part of a transport that is asked for its socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def get_extra_info(self, _: str) -> socket.socket:
        return self._connection


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="a kernel without it")
def test_bytes_that_nobody_acknowledges_end_the_link() -> None:
    """A peer behind a dropped cable would hold its link for a quarter of an hour."""
    with socket.socket() as connection:
        tune(Opened(connection))  # type: ignore[arg-type]

        def told(level: int, option: int) -> int:
            return connection.getsockopt(level, option)

        assert told(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == USER_TIMEOUT_MS
        assert told(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert told(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0


def test_a_unix_socket_is_left_as_it_is() -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        tune(Opened(connection))  # type: ignore[arg-type]
