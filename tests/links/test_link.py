"""One link over a real socket: what it carries, when it closes."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from exkiq.clock import SystemClock
from exkiq.errors import ClusterMismatch, ConfigError, LocalWireError, NoNodeError, RemoteWireError
from exkiq.links import Link, Timings
from exkiq.links import link as link_module
from exkiq.links.timings import Silence
from exkiq.wire import Handshake, Hello, Kind, Side, encode_frame
from tests.links.loopback import CLIENT, QUICK, SECRET, Peer, dial_as, said, until


class Mailbox:
    """What came over one link."""

    def __init__(self) -> None:
        self.messages: list[list] = []
        self.reasons: list[str] = []

    def take(self, link: Link) -> None:
        link.on_message = lambda link, message: self.messages.append(message)
        link.on_close = lambda link, reason: self.reasons.append(reason)


@pytest.mark.parametrize("secret", [SECRET, None], ids=["sealed", "open"])
def test_a_client_asks_and_is_answered(run, secret):
    """Nobody could use a node."""

    async def work() -> None:
        node = await Peer("n1", secret=secret).start()
        box = Mailbox()
        link = await dial_as(CLIENT, node.address, secret, on_open=box.take)
        assert (link.peer.name, node.clients[0].peer.name) == ("n1", "c")
        assert link.dialled == node.address

        for request in ([1, "small"], [2, "x" * 64], [3, "y"]):
            assert link.send(request)
        await until(lambda: len(box.messages) == 3)

        assert box.messages == [[1, 0, "small"], [2, 0, "x" * 64], [3, 0, "y"]]
        link.close("done")
        await until(lambda: not node.clients[0].is_open)
        await node.stop()

    run(work())


def test_a_message_of_a_megabyte_arrives_whole(run):
    """Frames larger than one read would break."""

    async def work() -> None:
        one, two = await Peer("n1").start(), await Peer("n2").start()
        one.mesh.sight(two.address)
        await until(lambda: one.linked())
        frame = encode_frame([int(Kind.PROPOSE), [b"x" * 1_000_000] * 3])

        assert one.mesh.links["n2"].send_frame(frame)
        await until(lambda: two.messages)

        assert two.messages == [("n1", [Kind.PROPOSE, [b"x" * 1_000_000] * 3])]
        await one.stop()
        await two.stop()

    run(work())


def test_a_closed_link_sends_nothing_and_says_so_once(run):
    """A caller would wait for the answer to what was never sent."""

    async def work() -> None:
        node, box = await Peer("n1").start(), Mailbox()
        link = await dial_as(CLIENT, node.address, on_open=box.take)

        link.close("enough")
        link.close("again")

        assert box.reasons == ["enough"]
        assert not link.send([1, "late"])
        await until(lambda: not node.clients[0].is_open)
        assert box.messages == []
        assert box.reasons == ["enough"]
        await node.stop()

    run(work())


def test_what_was_sent_before_a_close_arrives(run):
    """The last messages of a node that drains would be lost to a reset."""

    async def work() -> None:
        one = await Peer("n1", timings=Timings(ping=0.001, silent_max=10_000)).start()
        two = await Peer("n2", timings=Timings(ping=0.001, silent_max=10_000)).start()
        one.mesh.sight(two.address)
        await until(lambda: one.linked() and two.linked())
        link = one.mesh.links["n2"]

        link.send([int(Kind.PROPOSE), [b"x" * 15_000_000]])
        link.send([int(Kind.LEAVE), "n1"])
        await one.mesh.stop()

        await until(lambda: len(two.messages) == 2)
        assert two.messages[1] == ("n1", [Kind.LEAVE, "n1"])

    run(work())


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (encode_frame(["no id"]), "a request that is no list"),
        (encode_frame([int(Kind.HELLO), CLIENT.fields()]), "verb"),
        (b"\x7f\xff\xff\xff", "limit"),
        (os.urandom(4000), ""),
    ],
    ids=["shape", "hello", "length", "noise"],
)
def test_a_bad_frame_closes_that_link_only(run, caplog, request_, text):
    """One broken client would stop the node, or fill its log."""

    async def work() -> None:
        node = await Peer("n1", secret=None).start()
        good, bad, box = None, Mailbox(), Mailbox()
        good = await dial_as(CLIENT, node.address, None, on_open=box.take)
        for _ in range(3):
            link = await dial_as(CLIENT, node.address, None, on_open=bad.take)
            link._transport.write(request_)
        await until(lambda: len(bad.reasons) == 3)

        assert good.send([1, "still here"])
        await until(lambda: box.messages)
        good.close("done")
        await node.stop()

    run(work())
    warnings = said(caplog)
    assert len(warnings) == 1
    assert "closed the link to c (127.0.0.1): it sent " in warnings[0]
    assert text in warnings[0]


def test_a_handler_that_refuses_a_message_closes_the_link(run):
    """A room above could not use the same way out as the checks here."""

    async def work() -> None:
        node = await Peer("n1", secret=None).start()
        reasons: list[str] = []
        refused: list[list] = []
        link = await dial_as(CLIENT, node.address, None)
        link.on_close = lambda link, reason: reasons.append(reason)

        def refuse(link: Link, message: list) -> None:
            refused.append(message)
            raise RemoteWireError("a verb nobody knows")

        node.clients[0].on_message = refuse
        link.send_frame(encode_frame([1, "what"]) + encode_frame([2, "what"]))
        await until(lambda: reasons)
        assert refused == [[1, "what"]]
        await node.stop()

    run(work())


def test_no_message_comes_after_the_close(run):
    """An owner that let go of a link would still be called."""

    async def work() -> None:
        node = await Peer("n1", secret=None).start()
        link = await dial_as(CLIENT, node.address, None)
        seen: list[list] = []

        def close(link: Link, message: list) -> None:
            seen.append(message)
            link.close("one is enough")

        node.clients[0].on_message = close
        link.send_frame(encode_frame([1, "a"]) + encode_frame([2, "b"]))
        await until(lambda: not link.is_open)
        assert seen == [[1, "a"]]
        await node.stop()

    run(work())


def test_our_own_bad_message_leaves_the_link_alone(run):
    """A bug in one message would cost all of them."""

    async def work() -> None:
        node = await Peer("n1").start()
        link = await dial_as(CLIENT, node.address)
        with pytest.raises(LocalWireError):
            link.send([1, object()])
        assert link.is_open
        link.close("done")
        await node.stop()

    run(work())


# ---- nobody there, somebody else there -------------------------------------------------------


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


# ---- silence, and too much of the contrary ---------------------------------------------------


async def mute_member(address: str) -> socket.socket:
    """A member that shakes hands and then is never heard again."""
    loop = asyncio.get_running_loop()
    host, _, port = address.rpartition(":")
    connection = socket.socket()
    connection.setblocking(False)
    await loop.sock_connect(connection, (host, int(port)))
    machine = Handshake(Side.DIALER, Hello("member", "mute", "r"), None, os.urandom(32))
    data = machine.start()
    while data:
        await loop.sock_sendall(connection, data)
        data = machine.receive(await loop.sock_recv(connection, 2000)).send
    return connection


def test_a_silent_peer_is_dead_after_four_pings(run):
    """A host without power would be a member in good standing for minutes."""

    async def work() -> None:
        node = await Peer("n1", secret=None, timings=QUICK).start()
        loop = asyncio.get_running_loop()
        with await mute_member(node.address):
            await until(node.linked)
            start = loop.time()
            await until(lambda: not node.linked())
            assert 3.5 * QUICK.ping < loop.time() - start < 10 * QUICK.ping
        await node.stop()
        assert node.events == [("up", "mute"), ("down", "mute")]

    run(work())


def test_two_live_nodes_keep_their_link(run):
    """Idle links would be closed and be missing when a vote is due."""

    async def work() -> None:
        one = await Peer("n1", timings=QUICK).start()
        two = await Peer("n2", timings=QUICK).start()
        one.mesh.sight(two.address)
        await until(lambda: one.linked() and two.linked())
        await asyncio.sleep(QUICK.ping * 7)
        assert one.events == [("up", "n2")]
        assert two.events == [("up", "n1")]
        assert two.messages == []
        await one.stop()
        await two.stop()

    run(work())


def test_a_silent_client_is_left_alone(run):
    """A client that waits for a result would be hung up on."""

    async def work() -> None:
        node = await Peer("n1", timings=QUICK).start()
        link = await dial_as(CLIENT, node.address)
        await asyncio.sleep(QUICK.ping * 6)
        assert link.is_open
        link.close("done")
        await node.stop()

    run(work())


def test_a_peer_that_does_not_read_is_closed(run, monkeypatch):
    """One slow reader would make a node hold all it ever sends."""
    monkeypatch.setattr(link_module, "OUTGOING_BYTES_MAX", 1_000_000)

    async def work() -> None:
        node = await Peer("n1", secret=None).start()
        with await mute_member(node.address):
            await until(node.linked)
            link = node.mesh.links["mute"]
            reasons: list[str] = []
            link.on_close = lambda link, reason: reasons.append(reason)
            frame = encode_frame([int(Kind.PROPOSE), [b"x" * 900_000]])
            sent = 0
            while link.send_frame(frame) and sent < 100:
                sent += 1
            assert reasons == []  # never inside of a send
            await until(lambda: reasons)
            assert reasons == ["it does not read what is sent to it"]
            assert sent < 20
        await node.stop()

    run(work())


PINGS = Timings(ping=0.2, silent_max=4)


def beats(*steps: tuple[float, float]) -> list[float | None]:
    """Judges at each (now, last heard)."""
    silence = Silence(PINGS, 0.0)
    return [silence.beat(now, heard) for now, heard in steps]


def test_four_silent_intervals_are_the_end():
    """A dead node would be believed too long, or a live one not long enough."""
    assert beats((0.2, 0.0), (0.4, 0.0), (0.6, 0.0), (0.8, 0.0)) == [0.2, 0.2, 0.2, None]


def test_a_byte_in_time_starts_the_count_again():
    """A lossy link would add up its gaps."""
    heard = [(0.2, 0.0), (0.4, 0.0), (0.6, 0.0), (0.8, 0.75), (1.0, 0.75), (1.2, 0.75), (1.4, 0.75)]
    assert beats(*heard)[-1] == 0.2


def test_a_node_that_was_stopped_reads_before_it_judges():
    """A node that was paused would drop all its links the moment it goes on."""
    silence = Silence(PINGS, 0.0)
    for now in (0.2, 0.4, 0.6):
        assert silence.beat(now, 0.0) == 0.2

    # Stopped for 10 s, one short of the end; the sockets were not read yet.
    grace = silence.beat(10.8, 0.0)
    assert grace is not None
    assert grace < PINGS.ping

    # They are read now: alive.
    assert silence.beat(10.8 + grace, 10.81) == 0.2


def test_a_stopped_node_still_finds_out_who_died_meanwhile():
    """A loop that is always late would never see a dead peer."""
    silence = Silence(PINGS, 0.0)
    now, answers = 0.0, []
    for _ in range(10):
        now += 1.0  # each beat comes much too late
        answers.append(silence.beat(now, 0.0))
        if answers[-1] is None:
            break
    assert answers == [0.05, 0.2] * 3 + [0.05, None]


def test_a_blocked_loop_does_not_close_its_links(run):
    """A second of garbage collection would cut a node off from all others."""

    async def work() -> None:
        one = await Peer("n1", timings=QUICK).start()
        two = await Peer("n2", timings=Timings(ping=0.03, silent_max=1000)).start()
        one.mesh.sight(two.address)
        await until(lambda: one.linked() and two.linked())
        clock = SystemClock()
        for _ in range(3):
            until_then = clock.monotonic() + QUICK.ping * 5
            while clock.monotonic() < until_then:
                pass  # both nodes share this loop, so nobody pings
            await asyncio.sleep(0.005)
        await asyncio.sleep(QUICK.ping * 2)
        assert one.events == [("up", "n2")]
        await one.stop()
        await two.stop()

    run(work())
