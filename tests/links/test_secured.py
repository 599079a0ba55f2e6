"""Links over TLS: who gets in, who is told why not, and what others can read."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

from exkiq.errors import ClusterMismatch
from exkiq.links import Timings
from exkiq.wire import Hello, Kind
from tests.links.loopback import (
    CLIENT,
    SECRET,
    Mailbox,
    Peer,
    dial_as,
    said,
    settled,
    until,
)
from tests.links.papers import Papers, tapped, unchecked


@pytest.fixture(scope="module")
def papers(tmp_path_factory) -> Papers:
    return Papers(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Papers:
    """Of somebody else's CA."""
    return Papers(tmp_path_factory.mktemp("other-ca"))


def peer(papers: Papers, name: str, **more) -> Peer:
    return Peer(name, certificates=papers.node(name), **more)


async def refused(node: Peer, text: str, hello: Hello = CLIENT, **more) -> None:
    with pytest.raises(ClusterMismatch, match=f"127.0.0.1:{node.port}: {text}"):
        await dial_as(hello, node.address, **more)


# ---- what works ------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [SECRET, None], ids=["secret", "none"])
def test_nodes_and_clients_talk(run, papers, secret):
    """TLS could be switched on and nothing would work any more."""

    async def work() -> None:
        one = await peer(papers, "n1", secret=secret).start()
        two = await peer(papers, "n2", secret=secret).start()
        one.mesh.sight(two.address)
        two.mesh.sight(one.address)
        await until(lambda: settled(one, two))
        large = [int(Kind.PROPOSE), [b"x" * 1_000_000] * 3]
        assert one.mesh.links["n2"].send(large)
        await until(lambda: two.messages)
        assert two.messages == [("n1", large)]

        box = Mailbox()
        papers_of_client = papers.client()
        link = await dial_as(
            CLIENT, one.address, secret, on_open=box.take, certificates=papers_of_client
        )
        for request in ([1, "small"], [2, "y" * 64]):
            assert link.send(request)
        await until(lambda: len(box.messages) == 2)
        assert box.messages == [[1, 0, "small"], [2, 0, "y" * 64]]
        link.close("done")
        await until(lambda: not one.clients[0].is_open)

    run(work())


def test_nobody_on_the_way_can_read(run_once, papers):
    """What TLS is for: arguments of jobs would be seen by everybody on the network."""

    async def work() -> None:
        node = await peer(papers, "n1").start()
        box = Mailbox()
        async with tapped(node) as (address, wire):
            link = await dial_as(CLIENT, address, on_open=box.take, certificates=papers.client())
            link.send([1, "precious precious"])
            await until(lambda: box.messages)
            link.close("done")
            await link.wait_closed()
        assert box.messages == [[1, 0, "precious precious"]]
        for leak in (b"precious", b"exkiq", b"default", b"life of n1"):
            assert leak not in wire

    run_once(work())


def test_what_was_sent_before_a_close_arrives(run, papers):
    """The last messages of a node that drains would be lost."""

    async def work() -> None:
        slow = Timings(ping=0.001, silent_max=10_000)
        one = await peer(papers, "n1", timings=slow).start()
        two = await peer(papers, "n2", timings=slow).start()
        one.mesh.sight(two.address)
        await until(lambda: one.linked() and two.linked())
        one.mesh.links["n2"].send([int(Kind.PROPOSE), [b"x" * 5_000_000]])
        one.mesh.links["n2"].send([int(Kind.LEAVE), "n1"])
        await one.mesh.stop()
        await until(lambda: len(two.messages) == 2)
        assert two.messages[1] == ("n1", [Kind.LEAVE, "n1"])

    run(work())


def test_a_reader_that_reads_nothing_is_dropped(run_once, papers, monkeypatch):
    """Below TLS the limit of what waits for a slow peer would not count."""
    monkeypatch.setattr("exkiq.links.link.OUTGOING_BYTES_MAX", 200_000)

    async def work() -> None:
        one, two = await peer(papers, "n1").start(), await peer(papers, "n2").start()
        one.mesh.sight(two.address)
        await until(lambda: one.linked() and two.linked())
        two.mesh.links["n1"]._transport._below.pause_reading()
        link = one.mesh.links["n2"]
        message = [int(Kind.PROPOSE), [b"x" * 100_000]]
        for _ in range(1_000):
            if not link.send(message):
                break
            await asyncio.sleep(0)
        assert not link.is_open

    run_once(work())


def test_the_unix_socket_needs_no_certificate(run, papers, tmp_path):
    """Programs beside a node would need certificates to talk to it."""

    async def work() -> None:
        node = await peer(papers, "n1").start()
        path = tmp_path / "run" / "n1.sock"
        node.listener.start_unix(path)
        for certificates in (None, papers.client()):
            link = await dial_as(CLIENT, f"unix:{path}", certificates=certificates)
            link.close("done")

    run(work())


# ---- who does not get in, and is told why ----------------------------------------------------


def test_without_tls_where_it_is_on(run, caplog, papers):
    """An operator would see a connection that closes, and nothing else, on either side."""

    async def work() -> None:
        node = await peer(papers, "n1").start()
        await refused(node, "refused by the other side: TLS is set here, none is set there")
        assert node.clients == []

    run(work())
    assert [text.partition(": ")[2] for text in said(caplog)] == [
        "TLS is set here, none is set there"
    ]


def test_with_tls_where_it_is_off(run, caplog, papers):
    """The same the other way round."""

    async def work() -> None:
        node = await Peer("n1").start()
        await refused(node, "TLS is set here, none is set there", certificates=papers.client())

    run(work())
    assert [text.partition(": ")[2] for text in said(caplog)] == [
        "no TLS is set here, one is set there"
    ]


def test_another_ca(run, caplog, papers, others):
    """Whoever can make certificates would be a member; both sides must be told."""

    async def work() -> None:
        node = await peer(papers, "n1").start()
        await refused(node, "its certificate is refused here: ", certificates=others.client())
        await until(lambda: said(caplog))

    run(work())
    assert [text.partition(": ")[2] for text in said(caplog)] == [
        "our certificate is refused by the other side: unknown ca"
    ]


def test_a_client_of_another_ca_that_trusts_ours(run, caplog, papers, others):
    """The CA of the acceptor counts, not that of the client."""
    certificate, key, _ = others.client().files
    stranger = unchecked((certificate, key, papers.folder / "ca.pem"))

    async def work() -> None:
        node = await peer(papers, "n1").start()
        text = "our certificate is refused by the other side: unknown ca"
        await refused(node, text, certificates=stranger)
        assert node.clients == []

    run(work())
    assert [text.partition(": ")[2] for text in said(caplog)] == [
        "its certificate is refused here: unable to get local issuer certificate"
    ]


def test_no_certificate_at_all(run_once, caplog, papers):
    """TLS without a certificate of the client hides what a stranger says, and proves nothing."""

    async def work() -> None:
        node = await peer(papers, "n1").start()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port, ssl=context)
        with contextlib.suppress(OSError):
            assert await reader.read() == b""
        writer.close()

    run_once(work())
    assert [text.partition(": ")[2] for text in said(caplog)] == ["it shows no certificate"]


def test_an_older_tls_is_refused(run, caplog, papers):
    """A connection could be talked down to ciphers of twenty years ago."""
    old = unchecked(papers.client().files)
    old.dialling.minimum_version = ssl.TLSVersion.TLSv1_2
    old.dialling.maximum_version = ssl.TLSVersion.TLSv1_2

    async def work() -> None:
        node = await peer(papers, "n1").start()
        text = "TLS is refused by the other side: protocol version"
        await refused(node, text, certificates=old)

    run(work())
    assert [text.partition("it sent ")[2] for text in said(caplog)] == [
        "what is no TLS 1.3: unsupported protocol"
    ]


def test_an_expired_certificate(run, caplog, papers):
    """A key that was given away long ago would open the door for ever."""
    old = papers.expired("old")

    async def work() -> None:
        node = await peer(papers, "n1").start()
        text = "our certificate is refused by the other side: certificate expired"
        await refused(node, text, certificates=old)

    run(work())
    assert [text.partition(": ")[2] for text in said(caplog)] == [
        "its certificate is refused here: certificate has expired"
    ]


def test_a_node_under_another_name(run, caplog, papers):
    """With the secret and any certificate one could be every member: take its jobs and votes."""
    posing = Hello("member", "n2", "run", "life")

    async def work() -> None:
        node = await peer(papers, "n1").start()
        text = "refused by the other side: node n2 shows a certificate for n3"
        await refused(node, text, posing, certificates=papers.node("n3"))
        assert node.linked() == set()

    run(work())
    assert [text.partition(": ")[2] for text in said(caplog)] == [
        "node n2 shows a certificate for n3"
    ]


def test_a_node_that_answers_under_another_name(run, papers):
    """Whoever takes over an address, with a certificate of its own, would be given the jobs."""

    async def work() -> None:
        posing = await Peer("n2", certificates=papers.node("n3")).start()
        text = "node n2 shows a certificate for n3"
        await refused(posing, text, certificates=papers.client())

    run(work())


def test_a_client_s_certificate_makes_no_node(run, papers):
    """A web server that may enqueue could vote, or take the place of a node."""
    posing = Hello("member", "client", "run", "life")

    async def work() -> None:
        node = await peer(papers, "n1").start()
        text = "refused by the other side: node client shows a certificate for client client"
        await refused(node, text, posing, certificates=papers.client())
        fake = await Peer("n2", certificates=unchecked(papers.client().files)).start()
        text = "its certificate is refused here: unsuitable certificate purpose"
        await refused(fake, text, certificates=papers.client())

    run(work())
