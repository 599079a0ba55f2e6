"""The mesh among other clusters, and what nodes tell each other of themselves."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from exkiq.links import Link
from exkiq.links.opening import Opening
from exkiq.wire import Kind
from tests.links.loopback import CALM, peers, said, settled, stop, until


def test_another_founded_cluster_is_refused_once_and_reported(run_once, caplog):
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

    run_once(work())
    texts = said(caplog)
    assert len(texts) == 2  # one on each node
    assert all("two clusters named 'default'" in text for text in texts)
    assert "INFO" not in {record.levelname for record in caplog.records}


def test_another_cluster_name_is_refused_once_on_each_side(run_once, caplog):
    """The peer we dial and the same peer that dials us would be two lines in the log."""

    async def work() -> None:
        (one,) = await peers("n1", cluster="one")
        (two,) = await peers("n2", cluster="two")
        one.mesh.sight(two.address)
        two.mesh.sight(one.address)
        await asyncio.sleep(CALM.refused_redial * 4)
        await stop(one, two)

    run_once(work())
    assert len(said(caplog)) == 2


def test_who_refused_us_is_left_in_peace_for_a_while(run_once):
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

    run_once(work())


def test_another_secret_is_refused_once_on_each_side(run_once, caplog):
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

    run_once(work())
    texts = said(caplog)
    assert len(texts) == 2
    assert all("the secrets differ" in text for text in texts)


def test_a_changed_hello_is_told_to_the_peers(run_once):
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

    run_once(work())


@pytest.mark.parametrize("side", ["n1", "n2"])
def test_a_hello_that_changed_during_the_handshake_is_told(run_once, side):
    """The peer would never learn that we are of its cluster, and Raft never see the link."""

    async def work() -> None:
        dialler, other = await peers("n1", "n2")
        changes, told = (dialler, other) if side == "n1" else (other, dialler)
        receive = Opening.data_received

        def found_in_between(opening: Opening, data: bytes) -> None:
            if opening._own.name == side and not changes.hello.cluster_id:
                changes.hello = replace(changes.hello, cluster_id="id-1")
                changes.mesh.announce()
            receive(opening, data)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Opening, "data_received", found_in_between)
            dialler.mesh.sight(other.address)
            await until(lambda: settled(dialler, other))
            await until(lambda: told.mesh.links[side].peer.cluster_id == "id-1")
        await stop(dialler, other)

    run_once(work())


def test_a_peer_that_became_another_cluster_is_let_go(run_once, caplog):
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

    run_once(work())
    assert any("id id-1 here, id-2 there" in text for text in said(caplog))


def test_a_peer_that_says_it_became_another_cluster_is_let_go(run_once):
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

    run_once(work())


@pytest.mark.parametrize(
    "change",
    [{"name": "n3"}, {"incarnation": "x"}, {"run_id": "x"}, {"cluster": "x"}],
    ids=lambda change: next(iter(change)),
)
def test_an_identity_cannot_be_changed_on_the_way(run_once, change):
    """A peer could become another member after its proof."""

    async def work() -> None:
        one, two = await peers("n1", "n2")
        two.mesh.sight(one.address)
        await until(lambda: settled(one, two))
        fields = two.hello.fields() | change
        two.mesh.links["n1"].send([int(Kind.HELLO), fields])
        await until(lambda: one.events[:2] == [("up", "n2"), ("down", "n2")])
        await stop(one, two)

    run_once(work())


def test_a_stopped_mesh_takes_no_link(run_once):
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

    run_once(work())


def test_an_address_that_is_none_is_said_and_left(run_once, caplog):
    """A typing error in --peer would be tried for ever in silence."""

    async def work() -> None:
        (one,) = await peers("n1")
        one.mesh.sight("n2:port")
        await asyncio.sleep(0.02)
        await stop(one)

    run_once(work())
    assert ["'n2:port' is no address" in text for text in said(caplog)] == [True]


def test_messages_sent_in_on_up_arrive(run_once):
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

    run_once(work())
