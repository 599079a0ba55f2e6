"""One link over a real socket: what it carries, when it closes."""

from __future__ import annotations

import asyncio
import os

import pytest

from exkiq.errors import LocalWireError, RemoteWireError
from exkiq.links import Link, Timings
from exkiq.wire import Kind, encode_frame
from tests.links.loopback import CLIENT, SECRET, Mailbox, Peer, dial_as, said, until


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


def test_many_messages_to_a_peer_that_is_gone_are_not_complained_of(run, caplog):
    """asyncio would fill the log of a user's program while its client turns to another node."""

    async def work() -> None:
        node, box = await Peer("n1").start(), Mailbox()
        link = await dial_as(CLIENT, node.address, on_open=box.take)
        node.clients[0]._transport.abort()
        await asyncio.sleep(0)  # closed there, not yet seen here

        for number in range(1_000):
            link.send([number, "x" * 100])
        await until(lambda: box.reasons)

        assert [record for record in caplog.records if record.name == "asyncio"] == []
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
