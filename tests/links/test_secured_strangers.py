"""Strangers at a door with TLS: half handshakes, noise, changed bytes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

from exkiq.errors import ClusterMismatch, NoNodeError, RemoteWireError
from exkiq.links import Link, StrangerLimits
from tests.links.loopback import CLIENT, QUICK, Mailbox, Peer, dial_as, said, until
from tests.links.papers import Papers, tapped


@pytest.fixture(scope="module")
def papers(tmp_path_factory) -> Papers:
    return Papers(tmp_path_factory.mktemp("ca"))


def test_tls_that_never_ends_its_handshake_is_hung_up_on(run, papers):
    """Half a handshake would hold a place and memory for ever."""

    async def work() -> None:
        node = await Peer(
            "n1", certificates=papers.node("n1"), timings=QUICK, limits=StrangerLimits(at_once=3)
        ).start()
        outgoing = ssl.MemoryBIO()
        half = papers.client().dialling.wrap_bio(ssl.MemoryBIO(), outgoing)
        with contextlib.suppress(ssl.SSLWantReadError):
            half.do_handshake()
        first = outgoing.read()
        for begin in (b"", first[:3], first):
            reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
            writer.write(begin)
            await until(lambda: len(node.listener._strangers) == 1)
            async with asyncio.timeout(2):
                with contextlib.suppress(ConnectionError):
                    while await reader.read(65_536):
                        pass
            writer.close()
            assert len(node.listener._strangers) == 0

    run(work())


@pytest.mark.parametrize("noise", [b"\x16\x03\x01\x02\x00" + b"\xff" * 600, b"\x16" * 5_000])
def test_noise_that_looks_like_tls(run, caplog, papers, noise):
    """Anybody could stop a node, or its door."""

    async def work() -> None:
        node = await Peer("n1", certificates=papers.node("n1")).start()
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writer.write(noise)
        async with asyncio.timeout(2):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()
        link = await dial_as(CLIENT, node.address, certificates=papers.client())
        link.close("done")

    run(work())
    assert len(said(caplog)) == 1


def test_a_changed_record_ends_the_link(run_once, papers):
    """Somebody on the way could change what is done."""
    is_bad = False

    def change(data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1]) if is_bad else data

    async def work() -> None:
        nonlocal is_bad
        node, box = await Peer("n1", certificates=papers.node("n1")).start(), Mailbox()
        async with tapped(node, change) as (address, _):
            link = await dial_as(CLIENT, address, on_open=box.take, certificates=papers.client())
            link.send([1, "good"])
            await until(lambda: box.messages)
            is_bad = True
            link.send([2, "bad"])
            await until(lambda: box.reasons)
        assert box.messages == [[1, 0, "good"]]

    run_once(work())


def test_what_came_before_a_changed_record_is_answered_by_nobody(run_once, caplog, papers):
    """Whoever answers at once would be hit by an error of TLS, and log a bug that is none."""
    held = bytearray()
    is_held = False

    def hold(data: bytes) -> bytes:
        if not is_held:
            return data
        held.extend(data)
        return b""

    async def work() -> None:
        nonlocal is_held
        node = await Peer("n1", certificates=papers.node("n1")).start()
        async with tapped(node, hold) as (address, _):
            link = await dial_as(CLIENT, address, certificates=papers.client())
            await until(lambda: node.clients)
            there, is_held = node.clients[0], True
            faults: list[Exception] = []
            reasons: list[str] = []

            def answer(link: Link, message: list) -> None:
                try:
                    link.send([message[0], 0, message[1]])
                except Exception as error:
                    faults.append(error)

            there.on_message = answer
            there.on_close = lambda link, reason: reasons.append(reason)
            link.send([1, "good" * 10])
            link.send([2, "bad" * 50])
            await until(lambda: len(held) > 200)
            there._transport.data_received(bytes(held[:-1]) + bytes([held[-1] ^ 1]))
            await until(lambda: reasons)
        assert faults == []
        assert "bad record mac" in reasons[0]

    run_once(work())


def test_a_server_that_speaks_something_else(run, papers):
    """A web server on the port would crash the client, or hold it."""

    async def work() -> None:
        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(reply, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((ClusterMismatch, NoNodeError, RemoteWireError)):
            await dial_as(CLIENT, f"127.0.0.1:{port}", certificates=papers.client())
        server.close()
        await asyncio.sleep(0.01)

    run(work())
