"""Addresses that strangers announce: worth a dial now and then, never a link or a member."""

from __future__ import annotations

import asyncio
import contextlib
import time

from exkiq.links import StrangerLimits, Timings
from exkiq.wire import Hello
from tests.links.loopback import CLIENT, SECRET, Peer, dial_as, said, until

PATIENT = Timings(redial=0.3, refused_redial=0.3, linger=0.1)


@contextlib.asynccontextmanager
async def trap(answer: bytes = b""):
    """What a spoofed announcement leads to: it counts who dials and keeps what they say."""
    heard: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(2_000))
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", heard
    server.close()
    await asyncio.sleep(0.01)


def test_a_flood_of_hints_is_a_few_dials(run_once):
    """Spoofed announcements would make every node hammer an address of somebody's choice."""

    async def dials(hints: int) -> int:
        node = await Peer("n1", timings=PATIENT).start()
        async with trap() as (address, heard):
            node.mesh.sight(address)
            end = time.monotonic() + 0.4
            while time.monotonic() < end:
                await asyncio.sleep(0.4 / hints)
                node.mesh.sight(address)
            await node.stop()
            assert node.linked() == set()
            assert SECRET not in b"".join(heard)
        return len(heard)

    async def work() -> None:
        calm, flooded = await asyncio.gather(dials(1), dials(400))
        assert 1 <= flooded <= calm + 2

    run_once(work())


def test_a_hint_is_not_forgotten(run_once, caplog):
    """A node that came back just after a dial would be found half a minute later."""

    async def work() -> None:
        node = await Peer("n1", timings=Timings(redial=0.2, refused_redial=60, linger=0.1)).start()
        other = await Peer("n2", secret=b"wrong").start()
        node.mesh.sight(other.address)
        await until(lambda: len(said(caplog)) == 2)  # both sides say that the secrets differ
        await other.stop()
        right = await Peer("n2").start(other.port)
        node.mesh.sight(other.address)
        await until(lambda: node.linked() == {"n2"})
        await right.stop()

    run_once(work())


def test_the_right_name_with_the_wrong_secret_is_never_linked(run_once):
    """A stranger who knows a member's name and announces it would take its place."""

    async def work() -> None:
        node = await Peer("n1").start()
        real, fake = await Peer("n2").start(), await Peer("n2", secret=b"guessed").start()
        node.mesh.sight(fake.address)
        await until(lambda: node.mesh._routes[fake.address][0]._attempts >= 2)
        assert node.linked() == set()
        node.mesh.sight(real.address)
        await until(lambda: node.linked() == {"n2"})
        assert node.mesh.links["n2"].peer.address == real.address
        node.mesh.sight(fake.address)
        await asyncio.sleep(0.1)
        assert node.mesh.links["n2"].peer.address == real.address
        assert [event for event in node.events if event != ("up", "n2")] == []

    run_once(work())


def test_our_own_address_is_not_dialled(run_once):
    """Each node hears its own announcement, and so would every stranger make it do."""

    async def work() -> None:
        node = await Peer("n1").start()
        node.mesh.sight(node.address)
        assert node.mesh._routes == {}

    run_once(work())


def test_a_crowd_at_the_port_does_not_lock_out_this_machine(run_once, tmp_path):
    """Idle connections from the network would stop the programs beside a node from enqueuing."""

    async def work() -> None:
        limits = StrangerLimits(at_once=4, patience=60)
        node = await Peer("n1", limits=limits).start()
        path = tmp_path / "run" / "n1.sock"
        node.listener.start_unix(path)
        crowd = [await asyncio.open_connection("127.0.0.1", node.port) for _ in range(10)]
        await until(lambda: len(node.listener._strangers) == 4)
        link = await dial_as(CLIENT, f"unix:{path}", timings=Timings(handshake=0.7))
        assert link.is_open
        link.close("done")
        for _, writer in crowd:
            writer.close()

    run_once(work())


def test_a_crowd_passes_quickly(run_once):
    """Behind a thousand idle connections an honest peer would wait for minutes."""

    async def work() -> None:
        limits = StrangerLimits(at_once=16, per_local_address=1_000, patience=0.03)
        node = await Peer("n1", limits=limits).start()
        crowd = [await asyncio.open_connection("127.0.0.1", node.port) for _ in range(160)]
        loop = asyncio.get_running_loop()
        began = loop.time()
        link = await dial_as(Hello("client", "late"), node.address)
        # ten rooms full of strangers, not 160 strangers one after the other
        assert loop.time() - began < 160 * limits.patience / 4
        link.close("done")
        for _, writer in crowd:
            writer.close()

    run_once(work())
