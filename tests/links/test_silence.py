"""Peers that say nothing, peers that read nothing, and loops that were busy."""

from __future__ import annotations

import asyncio
import os
import socket

from exkiq.clock import SystemClock
from exkiq.links import Timings
from exkiq.links import link as link_module
from exkiq.links.timings import Silence
from exkiq.wire import Handshake, Hello, Kind, Side, encode_frame
from tests.links.loopback import CLIENT, QUICK, Peer, dial_as, until


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
