"""Dialling: nobody there, somebody else there, somebody too fast."""

from __future__ import annotations

import asyncio
import socket

import pytest

from exkiq.errors import ClusterMismatch, ConfigError, NoNodeError, RemoteWireError
from exkiq.links import Timings
from exkiq.wire import Handshake, Hello, Side, encode_frame
from tests.links.loopback import CLIENT, SECRET, Mailbox, Peer, dial_as, said, until


@pytest.mark.parametrize(
    ("hello", "secret", "text"),
    [
        (CLIENT, b"guess", "the secrets differ"),
        (CLIENT, None, "a secret is set here, none is set there"),
        (
            Hello("client", "c", cluster="staging"),
            SECRET,
            "cluster 'default' here, 'staging' there",
        ),
    ],
)
def test_who_does_not_belong_is_told_why(run, caplog, hello, secret, text):
    """An operator would see a connection that closes, and nothing else."""

    async def work() -> None:
        node = await Peer("n1").start()
        for _ in range(2):
            with pytest.raises(ClusterMismatch, match=f"127.0.0.1:{node.port}: refused .*{text}"):
                await dial_as(hello, node.address, secret)
        assert node.clients == []
        await node.stop()

    run(work())
    assert [text in text for text in said(caplog)] == [True]


def test_nobody_at_the_address(run, tmp_path):
    """A client would see an error of the system's instead of one of the house."""

    async def work() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            with pytest.raises(NoNodeError, match=f"nobody answers at 127.0.0.1:{port}"):
                await dial_as(CLIENT, f"127.0.0.1:{port}")
        with pytest.raises(NoNodeError, match=r"no\.sock"):
            await dial_as(CLIENT, f"unix:{tmp_path}/no.sock")
        for address in ("", "host:port", "host:70000"):
            with pytest.raises(ConfigError, match="is no address"):
                await dial_as(CLIENT, address)

    run(work())


def test_somebody_who_accepts_and_says_nothing(run):
    """A client would wait for ever on a port that something else has."""

    async def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            address = f"127.0.0.1:{mute.getsockname()[1]}"
            with pytest.raises(NoNodeError, match=r"no handshake within 0.05 s"):
                await dial_as(CLIENT, address, timings=Timings(handshake=0.05))

    run(work())


def test_a_connect_that_hangs_is_given_up(run):
    """A host that drops packets would hold a dialler for two minutes."""

    async def work() -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            where = full.getsockname()
            # The queue is full: the kernel drops further attempts.
            waiting = [socket.socket() for _ in range(4)]
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(where)
            with pytest.raises(NoNodeError, match=r"no connection within 0.05 s"):
                await dial_as(CLIENT, f"127.0.0.1:{where[1]}", timings=Timings(connect=0.05))
            for one in waiting:
                one.close()

    run(work())


def test_something_else_answers(run):
    """A web server on the port would crash the client."""

    async def work() -> None:
        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(reply, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RemoteWireError):
            await dial_as(CLIENT, f"127.0.0.1:{port}")
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)

    run(work())


def test_a_dial_that_is_cancelled_leaves_no_connection(run):
    """Each timeout of a caller would leak a socket."""

    async def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            address = f"127.0.0.1:{mute.getsockname()[1]}"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await dial_as(CLIENT, address)
            await asyncio.sleep(0.01)  # the loop closes in its next turn
            connection, _ = mute.accept()
            with connection:
                connection.settimeout(1)
                while connection.recv(4096):  # our hello, then the end
                    pass

    run(work())


def test_a_message_sent_right_behind_the_handshake_is_read(run):
    """A fast peer's first message, in the same read as its proof, would be lost."""

    async def work() -> None:
        async def node(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            machine = Handshake(Side.ACCEPTOR, Hello("member", "n1"), None, b"n" * 32)
            writer.write(machine.receive(await reader.read(2000)).send)
            last = machine.receive(await reader.read(2000)).send
            writer.write(last + encode_frame([1, 0, "x" * 5000]))
            await reader.read()
            writer.close()

        server = await asyncio.start_server(node, "127.0.0.1", 0)
        box = Mailbox()
        port = server.sockets[0].getsockname()[1]
        link = await dial_as(CLIENT, f"127.0.0.1:{port}", None, on_open=box.take)
        await until(lambda: box.messages)
        assert box.messages == [[1, 0, "x" * 5000]]
        link.close("done")
        server.close()
        await asyncio.sleep(0.01)

    run(work())
