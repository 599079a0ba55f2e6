"""The door: strangers, full tables, taken ports, sockets of the dead."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from exkiq.errors import ConfigError
from exkiq.links import StrangerLimits
from exkiq.links.sockets import accept
from exkiq.links.strangers import Strangers
from tests.links.loopback import CALM, CLIENT, QUICK, Peer, dial_as, said, until


async def knock(peer: Peer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", peer.port)


async def is_closed(reader: asyncio.StreamReader, seconds: float = 1.0) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await reader.read() == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_port_0_and_the_address_it_got(run):
    """Nobody could be told where to dial."""

    async def work() -> None:
        node = Peer("n1")
        address = await node.listener.start("127.0.0.1", 0)
        assert address == node.address
        assert node.port > 0
        await node.stop()

    run(work())


def test_ipv6_is_written_in_brackets(run):
    """The address could not be dialled."""

    async def work() -> None:
        node = Peer("n1")
        try:
            address = await node.listener.start("::1", 0)
        except ConfigError:
            pytest.skip("this machine has no IPv6")
        assert address.startswith("[::1]:")
        link = await dial_as(CLIENT, address)
        link.close("done")
        await node.stop()

    run(work())


def test_a_taken_port_is_named(run):
    """The operator would have to find out which of many addresses is taken."""

    async def work() -> None:
        node, other = await Peer("n1").start(), Peer("n2")
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{node.port}.*in use"):
            await other.start(node.port)
        with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:0"):
            await other.listener.start("192.0.2.1", 0)
        await node.stop()
        await other.stop()

    run(work())


def test_a_port_is_free_again_after_a_stop(run):
    """A node could not be started again with the same address."""

    async def work() -> None:
        node = await Peer("n1").start()
        link = await dial_as(CLIENT, node.address)
        await node.stop()
        again = await Peer("n1").start(node.port)
        link.close("done")
        await again.stop()

    run(work())


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x7f\xff\xff\xff",
        b"\x80\x04\x95cos\nsystem\n.",
        os.urandom(2000),
    ],
    ids=["http", "2 GiB", "pickle", "random"],
)
def test_garbage_from_a_stranger_leaves_everybody_else_working(run, caplog, noise):
    """Anybody on the network could stop a node."""

    async def work() -> None:
        node = await Peer("n1").start()
        link = await dial_as(CLIENT, node.address)
        for _ in range(5):
            reader, writer = await knock(node)
            writer.write(noise)
            assert await is_closed(reader)
            writer.close()
        assert link.is_open
        other = await dial_as(CLIENT, node.address)
        for one in (link, other):
            one.close("done")
        await node.stop()

    run(work())
    assert len(said(caplog)) == 1
    assert "127.0.0.1" in said(caplog)[0]


def test_a_stranger_who_says_nothing_is_hung_up_on(run):
    """Open connections would pile up until no file is left."""

    async def work() -> None:
        node = await Peer("n1", timings=QUICK).start()
        reader, writer = await knock(node)
        start = asyncio.get_running_loop().time()
        assert await is_closed(reader)
        assert asyncio.get_running_loop().time() - start < 1.0
        assert len(node.listener._strangers) == 0
        writer.close()
        await node.stop()

    run(work())


def test_a_stranger_who_drips_is_hung_up_on(run):
    """One byte a second would hold a place for ever."""

    async def work() -> None:
        node = await Peer("n1", timings=QUICK).start()
        reader, writer = await knock(node)
        closed = asyncio.ensure_future(is_closed(reader))
        while not closed.done():
            writer.write(b"\x00")
            await asyncio.sleep(QUICK.handshake / 10)
        assert closed.result()
        writer.close()
        await node.stop()

    run(work())


def test_too_many_strangers_of_one_address_are_turned_away(run):
    """One host could take all places."""

    async def work() -> None:
        node = await Peer("n1", limits=StrangerLimits(per_local_address=2)).start()
        inside = [await knock(node) for _ in range(2)]
        await until(lambda: len(node.listener._strangers) == 2)
        reader, writer = await knock(node)

        assert await is_closed(reader, CALM.handshake / 2)
        assert not any(reader.at_eof() for reader, _ in inside)
        for _, one in (*inside, (reader, writer)):
            one.close()
        await node.stop()

    run(work())


def test_a_guest_gets_in_while_all_places_are_taken(run):
    """Silent strangers could lock everybody out, or be as many as they like."""

    async def work() -> None:
        limits = StrangerLimits(at_once=3, patience=0.02)
        node = await Peer("n1", limits=limits).start()
        inside = [await knock(node) for _ in range(3)]
        await until(lambda: len(node.listener._strangers) == 3)

        link = await dial_as(CLIENT, node.address)

        assert link.is_open
        assert await is_closed(inside[0][0], CALM.handshake / 4)  # the oldest made room
        assert len(node.listener._strangers) == 2
        link.close("done")
        for _, writer in inside:
            writer.close()
        await node.stop()

    run(work())


def test_a_drove_of_local_clients_all_get_in(run):
    """A web server with many workers would be refused at its start."""

    async def work() -> None:
        node = await Peer("n1", limits=StrangerLimits(at_once=8)).start()
        links = await asyncio.gather(*(dial_as(CLIENT, node.address) for _ in range(30)))
        await until(lambda: len(node.clients) == 30)
        for link in links:
            link.close("done")
        await node.stop()

    run(work())


def test_the_limits_by_address():
    """Eight strangers an address, more for this machine itself."""
    strangers = Strangers(StrangerLimits(), lambda: 0.0)
    for number in range(8):
        assert strangers.admits("10.0.0.1")
        strangers.came(number, "10.0.0.1")
        strangers.came(100 + number, "127.0.0.1")
    assert not strangers.admits("10.0.0.1")
    assert strangers.admits("10.0.0.2")
    assert strangers.admits("127.0.0.1")
    strangers.went(3)
    assert strangers.admits("10.0.0.1")


def test_the_door_stays_open_after_accept_errors(run, caplog, monkeypatch):
    """A node out of file descriptors for a second would be deaf for ever."""
    failures = [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.EAGAIN]

    def failing(server: socket.socket) -> tuple[socket.socket, str]:
        if failures:
            raise OSError(failures.pop(0), "nothing left")
        return accept(server)

    async def work() -> None:
        monkeypatch.setattr("exkiq.links.listener.ACCEPT_RETRY_S", 0.01)
        monkeypatch.setattr("exkiq.links.listener.accept", failing)
        node = await Peer("n1").start()
        link = await dial_as(CLIENT, node.address)
        assert failures == []
        link.close("done")
        await node.stop()
        failures[:] = [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.EAGAIN]

    run(work())
    assert [text[:27] for text in said(caplog)] == ["cannot accept a connection:"]


def test_strangers_are_left_alone_while_nobody_else_wants_in(run):
    """Slow but honest peers would be hung up on for no reason."""

    async def work() -> None:
        node = await Peer("n1", limits=StrangerLimits(at_once=2, patience=0.01)).start()
        inside = [await knock(node) for _ in range(2)]
        await until(lambda: len(node.listener._strangers) == 2)
        await asyncio.sleep(0.05)
        assert len(node.listener._strangers) == 2
        for _, writer in inside:
            writer.close()
        await node.stop()

    run(work())


# ---- the socket file -------------------------------------------------------------------------


def test_the_socket_file_is_private_and_works(run, tmp_path):
    """Any user of the machine could command the node."""
    path = tmp_path / "run" / "node.sock"

    async def work() -> None:
        node = await Peer("n1").start()
        node.listener.start_unix(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        link = await dial_as(CLIENT, f"unix:{path}")
        assert node.clients[0].remote_host == "unix"
        link.close("done")
        await node.stop()
        assert not path.exists()

    run(work())


def test_an_open_folder_is_refused(run, tmp_path):
    """Somebody else could put his own socket in our place."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o755)

    async def work() -> None:
        node = Peer("n1")
        with pytest.raises(ConfigError, match=f"{folder}: others may enter it"):
            node.listener.start_unix(folder / "node.sock")
        await node.stop()

    run(work())


def test_the_socket_of_a_dead_process_is_replaced(run, tmp_path):
    """After a crash the node could not be started again."""
    path = tmp_path / "run" / "node.sock"
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def work() -> None:
        node = Peer("n1")
        node.listener.start_unix(path)
        link = await dial_as(CLIENT, f"unix:{path}")
        link.close("done")
        await node.stop()

    run(work())


def test_the_socket_of_a_live_process_is_left_alone(run, tmp_path):
    """A second node would cut the first one off from its clients."""
    path = tmp_path / "run" / "node.sock"

    async def work() -> None:
        node, second = Peer("n1"), Peer("n2")
        node.listener.start_unix(path)
        with pytest.raises(ConfigError, match="another process listens on it"):
            second.listener.start_unix(path)
        await second.stop()
        link = await dial_as(CLIENT, f"unix:{path}")
        assert link.peer.name == "n1"
        link.close("done")
        await node.stop()

    run(work())


def test_a_file_in_the_way_and_a_path_too_long_are_named(run, tmp_path):
    """A user's file would be deleted, or the error would name nothing."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    (folder / "node.sock").write_text("precious")

    async def work() -> None:
        node = Peer("n1")
        with pytest.raises(ConfigError, match="no socket is in the way"):
            node.listener.start_unix(folder / "node.sock")
        with pytest.raises(ConfigError, match="longer than the 107 bytes"):
            node.listener.start_unix(Path("/tmp") / ("x" * 120))
        await node.stop()

    run(work())
    assert (folder / "node.sock").read_text() == "precious"
