"""The mesh: one link to each peer, whatever order things happen in."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from exkiq.links import Timings
from exkiq.wire import Kind
from tests.links.loopback import CALM, Peer, peers, said, settled, stop, until


def test_who_is_sighted_is_linked_and_heard(run):
    """Nodes would never meet."""

    async def work() -> None:
        one, two = await peers("n1", "n2")
        one.mesh.sight(two.address)
        one.mesh.sight(two.address)
        await until(lambda: settled(one, two))
        assert two.mesh.links["n1"].peer == one.hello

        one.mesh.links["n2"].send([int(Kind.LEAVE), "n1"])
        two.mesh.links["n1"].send([int(Kind.RAFT), {"type": "x"}])
        await until(lambda: one.messages and two.messages)

        assert two.messages == [("n1", [Kind.LEAVE, "n1"])]
        assert one.messages == [("n2", [Kind.RAFT, {"type": "x"}])]
        await stop(one, two)
        assert one.events == [("up", "n2"), ("down", "n2")]

    run(work())


@pytest.mark.parametrize("round_", range(2))
def test_both_dial_at_once_and_one_link_stays(run, round_):
    """Messages would overtake each other on two links, or none would be left."""

    async def work() -> None:
        all_ = await peers("n1", "n2", "n3", "n4")
        for one in all_:
            for other in all_:
                one.mesh.sight(other.address)
        await until(lambda: settled(*all_))
        await asyncio.sleep(CALM.redial * 1.5)

        assert settled(*all_)
        for peer in all_:
            ups = [name for event, name in peer.events if event == "up"]
            downs = [name for event, name in peer.events if event == "down"]
            assert len(ups) == len(downs) + 3
        await stop(*all_)

    run(work())


@pytest.mark.parametrize("dialler", ["n1", "n2"])
def test_of_two_crossing_links_the_smaller_names_stays(run_once, dialler):
    """The two sides would keep different links and close both."""

    async def work() -> None:
        one, two = await peers("n1", "n2")
        first, second = (one, two) if dialler == "n1" else (two, one)
        first.mesh.sight(second.address)
        await until(lambda: settled(one, two))
        kept = one.mesh.links["n2"]

        # The second dials too, as if it had not seen the first's link yet.
        second.mesh._is_wanted = lambda route, peer: True
        second.mesh._is_linked = lambda route: False
        second.mesh.sight(first.address)
        await until(
            lambda: len(second.mesh._routes) and second.mesh._routes[first.address][0].name == ""
        )
        await asyncio.sleep(0.05)
        second.mesh.forget(first.address)
        await until(lambda: settled(one, two))

        assert one.mesh.links["n2"].dialled == two.address
        assert two.mesh.links["n1"].dialled is None
        assert (one.mesh.links["n2"] is kept) == (dialler == "n1")
        await stop(one, two)

    run_once(work())


def test_down_comes_before_up_when_a_link_is_replaced(run_once):
    """A room above would read an old link's messages after a new one's."""

    async def work() -> None:
        one, two = await peers("n1", "n2")
        two.mesh.sight(one.address)
        await until(lambda: settled(one, two))
        one.mesh._is_wanted = lambda route, peer: True
        one.mesh._is_linked = lambda route: two.mesh.links["n1"].dialled is None
        one.mesh.sight(two.address)
        await until(lambda: len(one.events) >= 3 and len(two.events) >= 3)

        assert one.events == [("up", "n2"), ("down", "n2"), ("up", "n2")]
        assert two.events == [("up", "n1"), ("down", "n1"), ("up", "n1")]
        await stop(one, two)

    run_once(work())


def test_a_lost_peer_is_dialled_until_it_is_back(run_once):
    """A node that was restarted would stay alone."""

    async def work() -> None:
        one, two = await peers("n1", "n2")
        one.mesh.sight(two.address)
        await until(lambda: settled(one, two))
        await two.stop()
        await until(lambda: one.events[-1] == ("down", "n2"))
        await asyncio.sleep(CALM.redial * 1.5)

        again = await Peer("n2").start(two.port)
        await until(lambda: settled(one, again), CALM.redial * 3)
        assert one.events == [("up", "n2"), ("down", "n2"), ("up", "n2")]
        await stop(one, again)

    run_once(work())


def test_a_cut_link_is_back_at_once(run):
    """A short network fault would cost an election."""

    async def work() -> None:
        one, two = await peers("n1", "n2")
        one.mesh.sight(two.address)
        await until(lambda: settled(one, two))
        loop = asyncio.get_running_loop()
        two.mesh.links["n1"]._transport.abort()
        await until(lambda: one.events == [("up", "n2"), ("down", "n2"), ("up", "n2")])
        start = loop.time()
        await until(lambda: settled(one, two))
        assert loop.time() - start < 0.2
        await stop(one, two)

    run(work())


def test_what_is_forgotten_is_not_dialled_again(run_once):
    """A node that left would be called for ever."""

    async def work() -> None:
        one, two = await peers("n1", "n2")
        one.mesh.sight(two.address)
        await until(lambda: settled(one, two))
        one.mesh.forget(two.address)
        one.mesh.forget("nobody:1")
        assert one.linked()
        one.mesh.links["n2"].close("left")
        await asyncio.sleep(CALM.redial * 2)
        assert not one.linked()
        await stop(one, two)

    run_once(work())


def test_a_node_never_links_to_itself(run_once, caplog):
    """A node would count itself as its own peer."""

    async def work() -> None:
        (one,) = await peers("n1")
        one.mesh.sight(one.address)
        one.mesh.sight(f"localhost:{one.port}")
        await until(one.mesh._routes[f"localhost:{one.port}"][1].done)
        assert one.events == []
        await stop(one)

    run_once(work())
    assert said(caplog) == []


def test_one_peer_by_two_addresses_is_linked_once(run_once):
    """Two spellings of one address would replace each other's link for ever."""

    async def work() -> None:
        one, two = await peers("n1", "n2")
        one.mesh.sight(two.address)
        await until(lambda: settled(one, two))
        for _ in range(4):
            one.mesh.sight(f"localhost:{two.port}")
            await asyncio.sleep(CALM.redial / 2)
        assert one.events == [("up", "n2")]
        await stop(one, two)

    run_once(work())


def test_an_address_that_got_another_owner_is_found_out(run_once):
    """A port that was used again would hide its new owner behind the old one's name."""

    async def work() -> None:
        one, two = await peers("n1", "n2")
        one.mesh.sight(two.address)
        await until(lambda: settled(one, two))
        old_address = two.address
        await two.stop()
        moved = await Peer("n2").start()
        moved.mesh.sight(one.address)
        await until(lambda: settled(one, moved))
        three = await Peer("n3").start(two.port)
        one.mesh.sight(old_address)
        await until(lambda: one.linked() == {"n2", "n3"})
        await stop(one, moved, three)

    run_once(work())


def test_a_second_node_of_the_same_name_is_ignored_and_named(run_once, caplog):
    """Two processes would take turns as one member."""

    async def work() -> None:
        one, two = await peers("n1", "n2")
        twin = await Peer("n2").start()
        twin.hello = replace(twin.hello, run_id="another run", incarnation="another life")
        one.mesh.sight(two.address)
        await until(lambda: settled(one, two))
        twin.mesh.sight(one.address)
        two.mesh.sight(twin.address)
        await asyncio.sleep(CALM.redial * 3)

        assert one.events == [("up", "n2")]
        assert one.mesh.links["n2"].peer == two.hello
        assert two.linked() == {"n1"}
        await stop(one, two, twin)

    run_once(work())
    texts = set(said(caplog))
    assert texts
    assert all("two nodes are named n2" in text for text in texts)


def test_a_new_process_replaces_the_silent_link_of_the_old(run_once):
    """After a power cut a node would wait for its own old link to be found dead."""

    slow = Timings(ping=10.0)  # the old link would live for another 40 s

    async def work() -> None:
        one, two = await peers("n1", "n2", timings=slow)
        two.mesh.sight(one.address)
        await until(lambda: settled(one, two))
        old = one.mesh.links["n2"]
        reborn = await Peer("n2").start()
        reborn.hello = replace(reborn.hello, run_id="another run")
        old.last_heard -= 100
        reborn.mesh.sight(one.address)
        await until(lambda: one.linked() and one.mesh.links["n2"] is not old)
        assert one.mesh.links["n2"].peer.run_id == "another run"
        await stop(one, two, reborn)

    run_once(work())
