"""The mesh: one link to each peer, whatever order things happen in."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from exkiq.links import Link, Timings
from exkiq.wire import Kind
from tests.links.loopback import CALM, Peer, said, until


async def peers(*names: str, **more) -> list[Peer]:
    return [await Peer(name, **more).start() for name in names]


async def stop(*all_: Peer) -> None:
    for peer in all_:
        await peer.stop()


def settled(*all_: Peer) -> bool:
    """Each has exactly the others, over one connection each."""
    names = {peer.hello.name for peer in all_}
    return all(peer.linked() == names - {peer.hello.name} for peer in all_) and all(
        is_one_connection(one, other) for one in all_ for other in all_ if one is not other
    )


def is_one_connection(one: Peer, other: Peer) -> bool:
    """Whether both sides kept the same of perhaps several connections."""
    here = one.mesh.links.get(other.hello.name)
    there = other.mesh.links.get(one.hello.name)
    if here is None or there is None:
        return False
    local = here._transport.get_extra_info("sockname")
    remote = there._transport.get_extra_info("peername")
    return local == remote and here.is_open and there.is_open


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


@pytest.mark.parametrize("round_", range(4))
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
def test_of_two_crossing_links_the_smaller_names_stays(run, dialler):
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

    run(work())


def test_down_comes_before_up_when_a_link_is_replaced(run):
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

    run(work())


def test_a_lost_peer_is_dialled_until_it_is_back(run):
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

    run(work())


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


def test_what_is_forgotten_is_not_dialled_again(run):
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

    run(work())


def test_a_node_never_links_to_itself(run, caplog):
    """A node would count itself as its own peer."""

    async def work() -> None:
        (one,) = await peers("n1")
        one.mesh.sight(one.address)
        one.mesh.sight(f"localhost:{one.port}")
        await asyncio.sleep(CALM.redial * 2)
        assert one.events == []
        assert one.mesh._routes[f"localhost:{one.port}"][1].done()
        await stop(one)

    run(work())
    assert said(caplog) == []


def test_one_peer_by_two_addresses_is_linked_once(run):
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

    run(work())


def test_an_address_that_got_another_owner_is_found_out(run):
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

    run(work())


def test_a_second_node_of_the_same_name_is_ignored_and_named(run, caplog):
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

    run(work())
    texts = set(said(caplog))
    assert texts
    assert all("two nodes are named n2" in text for text in texts)


def test_a_new_process_replaces_the_silent_link_of_the_old(run):
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

    run(work())


# ---- other clusters --------------------------------------------------------------------------


def test_another_founded_cluster_is_refused_once_and_reported(run, caplog):
    """Two clusters would merge, or a log would fill with the same line."""

    async def work() -> None:
        (one,) = await peers("n1", cluster_id="id-1")
        (two,) = await peers("n2", cluster_id="id-2")
        one.mesh.sight(two.address)
        two.mesh.sight(one.address)
        await until(lambda: one.strangers and two.strangers)
        await asyncio.sleep(CALM.refused_redial * 3)
        assert (one.linked(), two.linked()) == (set(), set())
        assert {hello.name for hello in one.strangers} == {"n2"}
        assert {hello.name for hello in two.strangers} == {"n1"}
        await stop(one, two)

    run(work())
    texts = said(caplog)
    assert len(texts) == 2  # one on each node
    assert all("two clusters named 'default'" in text for text in texts)
    assert "INFO" not in {record.levelname for record in caplog.records}


def test_another_cluster_name_is_refused_once_on_each_side(run, caplog):
    """The peer we dial and the same peer that dials us would be two lines in the log."""

    async def work() -> None:
        (one,) = await peers("n1", cluster="one")
        (two,) = await peers("n2", cluster="two")
        one.mesh.sight(two.address)
        two.mesh.sight(one.address)
        await asyncio.sleep(CALM.refused_redial * 4)
        await stop(one, two)

    run(work())
    assert len(said(caplog)) == 2


def test_who_refused_us_is_left_in_peace_for_a_while(run):
    """A node with a wrong setting would knock at every other one all the time."""

    async def work() -> None:
        patient = replace(CALM, redial=0.01, refused_redial=60.0)
        (one,) = await peers("n1", cluster_id="id-1", timings=patient)
        (two,) = await peers("n2", cluster_id="id-2")
        one.mesh.sight(two.address)
        await until(lambda: one.strangers)
        await asyncio.sleep(0.2)
        assert len(one.strangers) == 1
        await stop(one, two)

    run(work())


def test_another_secret_is_refused_once_on_each_side(run, caplog):
    """A node with the wrong secret would become a member, or fill the log."""

    async def work() -> None:
        (one,) = await peers("n1", secret=b"one secret")
        (two,) = await peers("n2", secret=b"another secret")
        one.mesh.sight(two.address)
        two.mesh.sight(one.address)
        await asyncio.sleep(CALM.refused_redial * 4)
        assert (one.linked(), two.linked()) == (set(), set())
        assert one.strangers == two.strangers == []
        await stop(one, two)

    run(work())
    texts = said(caplog)
    assert len(texts) == 2
    assert all("the secrets differ" in text for text in texts)


def test_a_changed_hello_is_told_to_the_peers(run):
    """A node that joined would be taken for a fresh one until its next start."""

    async def work() -> None:
        one, two = await peers("n1", "n2")
        one.hello = replace(one.hello, role="fresh")
        one.mesh.sight(two.address)
        await until(lambda: settled(one, two))
        assert two.mesh.links["n1"].peer.role == "fresh"

        one.hello = replace(one.hello, role="member", cluster_id="id-1", address="127.0.0.1:1")
        one.mesh.announce()
        await until(lambda: len(two.events) == 2)

        assert two.events == [("up", "n1"), ("changed", "n1")]
        assert two.mesh.links["n1"].peer == one.hello
        assert two.messages == []
        await stop(one, two)

    run(work())


def test_a_peer_that_became_another_cluster_is_let_go(run, caplog):
    """Two nodes that founded two clusters would go on as one."""

    async def work() -> None:
        one, two = await peers("n1", "n2")
        one.mesh.sight(two.address)
        await until(lambda: settled(one, two))
        two.hello = replace(two.hello, cluster_id="id-2")
        two.mesh.announce()
        await until(lambda: one.mesh.links["n2"].peer.cluster_id)

        one.mesh.forget(two.address)
        one.hello = replace(one.hello, cluster_id="id-1")
        one.mesh.announce()

        assert not one.linked()
        await until(lambda: not two.linked())
        assert [hello.cluster_id for hello in one.strangers] == ["id-2"]
        assert two.strangers == []
        await stop(one, two)

    run(work())
    assert any("id id-1 here, id-2 there" in text for text in said(caplog))


def test_a_peer_that_says_it_became_another_cluster_is_let_go(run):
    """The same, told by the other side."""

    async def work() -> None:
        one, two = await peers("n1", "n2")
        one.mesh.sight(two.address)
        await until(lambda: settled(one, two))
        one.mesh.forget(two.address)
        one.hello = replace(one.hello, cluster_id="id-1")
        two.hello = replace(two.hello, cluster_id="id-2")
        two.mesh.announce()
        await until(lambda: not one.linked() and not two.linked())
        assert [hello.cluster_id for hello in one.strangers] == ["id-2"]
        await stop(one, two)

    run(work())


@pytest.mark.parametrize(
    "change",
    [{"name": "n3"}, {"incarnation": "x"}, {"run_id": "x"}, {"cluster": "x"}],
    ids=lambda change: next(iter(change)),
)
def test_an_identity_cannot_be_changed_on_the_way(run, change):
    """A peer could become another member after its proof."""

    async def work() -> None:
        one, two = await peers("n1", "n2")
        two.mesh.sight(one.address)
        await until(lambda: settled(one, two))
        fields = two.hello.fields() | change
        two.mesh.links["n1"].send([int(Kind.HELLO), fields])
        await until(lambda: one.events[:2] == [("up", "n2"), ("down", "n2")])
        await stop(one, two)

    run(work())


def test_a_stopped_mesh_takes_no_link(run):
    """A node that drains would be linked again behind its back."""

    async def work() -> None:
        one, two = await peers("n1", "n2")
        two.mesh.sight(one.address)
        await until(lambda: settled(one, two))
        await one.mesh.stop()
        await one.mesh.stop()
        one.mesh.sight(two.address)
        await asyncio.sleep(CALM.redial * 2)
        assert one.events == [("up", "n2"), ("down", "n2")]
        await stop(one, two)

    run(work())


def test_an_address_that_is_none_is_said_and_left(run, caplog):
    """A typing error in --peer would be tried for ever in silence."""

    async def work() -> None:
        (one,) = await peers("n1")
        one.mesh.sight("n2:port")
        await asyncio.sleep(0.02)
        await stop(one)

    run(work())
    assert ["'n2:port' is no address" in text for text in said(caplog)] == [True]


def test_messages_sent_in_on_up_arrive(run):
    """A room above could not greet its peer."""

    async def work() -> None:
        one, two = await peers("n1", "n2")

        def greet(link: Link) -> None:
            link.send([int(Kind.LEAVE), "hello"])

        one.mesh._on_up = greet
        two.mesh._on_up = greet
        one.mesh.sight(two.address)
        await until(lambda: one.messages and two.messages)
        assert one.messages == [("n2", [Kind.LEAVE, "hello"])]
        assert two.messages == [("n1", [Kind.LEAVE, "hello"])]
        await stop(one, two)

    run(work())
