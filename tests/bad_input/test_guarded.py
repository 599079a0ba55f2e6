"""A cluster with a secret and TLS: what somebody can do who has neither, one, or both."""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import exkiq
from exkiq import Client
from exkiq.clock import SystemClock
from exkiq.config.certificates import FILES
from exkiq.errors import ClusterMismatch
from exkiq.links import Link, dial
from exkiq.wire import Hello, Kind, encode_frame
from tests.bad_input.conftest import log_of
from tests.cluster.harness import Cluster, until
from tests.cluster.jobs import Note
from tests.links.papers import Papers

SECRET = b"s" * 32
IDLE = int(os.environ.get("EXKIQ_IDLE_CONNECTIONS", "300"))


class Guarded(Cluster):
    """Three nodes, each with a certificate of its own."""

    def __init__(self, folder: Path, papers: Papers, secret: Path) -> None:
        super().__init__(folder)
        self.papers = papers
        self.secret = secret

    def _spawn(self, name: str) -> Any:
        self.papers.node(name)
        self.options = ("--secret-file", str(self.secret))
        for setting, path in zip(FILES, self.papers.files(name), strict=True):
            self.options += ("--" + setting.replace("_", "-"), str(path))
        return super()._spawn(name)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    secret = folder / "secret"
    secret.touch(mode=0o600)
    secret.write_bytes(SECRET)
    papers = Papers(folder / "ca")
    papers.client()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXKIQ_SECRET_FILE", str(secret))
        for setting, path in zip(FILES, papers.files("client"), strict=True):
            patch.setenv(f"EXKIQ_{setting.upper()}", str(path))
        made = Guarded(folder, papers, secret)
        try:
            made.start()
            made.wait_ready()
            yield made
        finally:
            made.stop()


@pytest.fixture
def calm(guarded: Guarded) -> Iterator[Guarded]:
    """The cluster; afterwards nobody leads but who led, nothing is stored, and a job runs."""
    before = guarded.status("n1")
    yield guarded
    with guarded.client() as client:
        exkiq.client.use(client)
        assert Note.perform_async(7).result(timeout=10) == 7
    after = guarded.status("n1")
    for about in ("term", "leader", "members", "id"):
        ignored = {"applied", "state"}
        was, is_now = before["cluster"][about], after["cluster"][about]
        if about == "members":
            was, is_now = (
                [{key: member[key] for key in member.keys() - ignored} for member in members]
                for members in (was, is_now)
            )
        assert was == is_now, about
    assert after["stats"]["enqueued_total"] == before["stats"]["enqueued_total"] + 1
    until(guarded.same_state, 5.0, "one state")
    assert guarded.alive == guarded.names
    for name in guarded.names:
        text = log_of(guarded, name)
        assert "Traceback" not in text
        assert SECRET.decode() not in text


def client_hello(cluster: Cluster) -> Hello:
    return Hello("client", "a client", "run", cluster=cluster.name)


def node_hello(cluster: Cluster, name: str) -> Hello:
    cluster_id = cluster.status("n1")["cluster"]["id"]
    return Hello("member", name, "run", "life", "127.0.0.1:9", cluster.name, cluster_id)


async def opened(cluster: Guarded, node: str, hello: Hello, papers: str, **more: Any) -> Link:
    address = f"127.0.0.1:{cluster.ports[node]}"
    certificates = cluster.papers.load(papers)
    return await dial(
        address,
        hello,
        more.pop("secret", SECRET),
        clock=SystemClock(),
        nonce=os.urandom,
        certificates=certificates,
    )


async def reply(link: Link, frame: bytes, *, is_sealed: bool = True) -> list[Any]:
    """What comes back: the messages, and "closed" when the node hung up."""
    came: list[Any] = []
    is_over = asyncio.Event()

    def received(_: Link, message: list[Any]) -> None:
        if message[0] and not link.told.is_node:  # to a node much is said unasked
            came.append(message)
            is_over.set()

    def closed(_: Link, __: str) -> None:
        came.append("closed")
        is_over.set()

    link.on_message, link.on_close = received, closed
    if is_sealed:
        link.send_frame(frame)
    else:
        link._transport.write(frame)
    async with asyncio.timeout(5):
        await is_over.wait()
    answers = list(came)
    link.close("done")
    await link.wait_closed()
    for _ in range(3):  # what is below it closes in the loop's next turns
        await asyncio.sleep(0)
    return answers


# ---- with the secret and a client's certificate ------------------------------------------------

MEMBERS = [["n1", "h:1", "life"]]
OF_NODES: dict[Kind, list[Any]] = {
    Kind.RAFT: [{"type": "append_entries", "term": 2**40, "commit_index": 2**40, "entries": []}],
    Kind.PROPOSE: [[b"x"]],
    Kind.DEMAND: [1, 1, {"": 1000}, {"notes": 1}, []],
    Kind.JOIN: ["n9", "life", "h:9"],
    Kind.WELCOME: ["other", MEMBERS],
    Kind.PROMISE: ["n9", "id", MEMBERS],
    Kind.PROMISED: ["id", True, ""],
    Kind.FOUNDED: ["other", MEMBERS],
    Kind.DENIED: ["go away"],
    Kind.NOT_LEADER: ["n9", None],
    Kind.LEAVE: ["n1"],
    Kind.PING: [],
    Kind.CALL: [1, "transfer", ["n2"]],
    Kind.ANSWER: [1, True, None],
    Kind.HELLO: [Hello("member", "n2").fields()],
    Kind.PROGRESS: [[["job", 1, b"x"]]],
}


def test_a_client_that_sends_what_nodes_send(calm: Guarded) -> None:
    """With the secret a program could vote, lead, or throw a member out."""
    assert set(OF_NODES) == set(Kind)

    async def work() -> None:
        for kind, items in OF_NODES.items():
            for node in ("n1", calm.leader()):
                link = await opened(calm, node, client_hello(calm), "client")
                (answer,) = await reply(link, encode_frame([int(kind), *items]))
                is_refused = answer == "closed" or answer[1:3] == [1, "UnsupportedOperation"]
                assert is_refused, (kind, answer)

    asyncio.run(work())


def body_of(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


FRAMES = {
    "empty": body_of(b""),
    "no msgpack": body_of(b"\xc1"),
    "number": encode_frame(7),
    "map": encode_frame({"a": 1}),
    "no verb": encode_frame([1]),
    "negative id": encode_frame([-1, "ping"]),
    "long verb": encode_frame([1, "x" * 1000]),
    "deep": body_of(b"\x91" * 10_000 + b"\xc0"),
    "deep map": body_of(b"\x92\x01" + b"\x81\xa1k" * 100 + b"\xc0"),
    "claims 4 billion": body_of(b"\xdd\xff\xff\xff\xff"),
    "claims 2 GiB": body_of(b"\xdb\x7f\xff\xff\xff"),
    "too many": body_of(b"\xdd" + struct.pack(">I", 131_073) + b"\xc0" * 131_073),
    "extension": body_of(b"\xd4\x05a"),
    "length 2 GiB": b"\x7f\xff\xff\xff",
    "pickle": body_of(b"\x80\x04\x95cos\nsystem\n."),
}


@pytest.mark.parametrize("kind", ["client", "node"])
def test_frames_that_are_none(calm: Guarded, kind: str) -> None:
    """A broken or hostile program with the secret could stop a node."""
    calm.papers.node("n9")

    async def work() -> None:
        for name, frame in FRAMES.items():
            hello = client_hello(calm) if kind == "client" else node_hello(calm, "n9")
            link = await opened(calm, "n2", hello, "client" if kind == "client" else "n9")
            assert await reply(link, frame) == ["closed"], name

    asyncio.run(work())


def test_a_frame_without_its_tag(calm: Guarded) -> None:
    """Inside of TLS, too, whoever speaks must go on proving the secret."""

    async def work() -> None:
        link = await opened(calm, "n1", client_hello(calm), "client")
        request = encode_frame([1, "ping"]) + bytes(16)
        assert await reply(link, request, is_sealed=False) == ["closed"]
        link = await opened(calm, "n1", client_hello(calm), "client")
        assert await reply(link, encode_frame([1, "ping"])) == [[1, 0, "pong"]]

    asyncio.run(work())


def test_a_new_node_that_talks_nonsense(calm: Guarded) -> None:
    """Whatever it sends instead of the log's messages costs its link, and nothing else."""
    calm.papers.node("n9")
    nonsense: list[Any] = [{}, {"type": 1}, {"type": "append_entries"}, {"type": "x" * 100}]
    nonsense += [{"type": "request_vote", "term": "high"}, {"type": "next_node_idx", "term": -1}]

    async def work() -> None:
        for value in nonsense:
            link = await opened(calm, "n3", node_hello(calm, "n9"), "n9")
            assert await reply(link, encode_frame([int(Kind.RAFT), value])) == ["closed"], value

    asyncio.run(work())


# ---- with less -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("papers", "secret", "named"),
    [
        ("n9", b"x" * 32, "the secrets differ"),
        ("n9", None, "a secret is set here, none is set there"),
        ("n2", SECRET, "node n9 shows a certificate for n2"),
        ("client", SECRET, "node n9 shows a certificate for client client"),
    ],
)
def test_half_of_what_is_needed(
    calm: Guarded, papers: str, secret: bytes | None, named: str
) -> None:
    """One of the two would be enough to be a member."""
    calm.papers.node("n9")
    hello = node_hello(calm, "n9")

    async def work() -> None:
        with pytest.raises(ClusterMismatch, match=named):
            await opened(calm, "n1", hello, papers, secret=secret)

    asyncio.run(work())


def test_a_client_without_certificates(
    calm: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says what is missing."""
    other = Papers(tmp_path / "other")
    other.client()
    place = f"exkiq://127.0.0.1:{calm.ports['n1']}"
    files = (*other.files("client")[:2], calm.papers.folder / "ca.pem")
    for setting in FILES:
        monkeypatch.delenv(f"EXKIQ_{setting.upper()}")
    with Client(place) as client, pytest.raises(ClusterMismatch, match="TLS is set here"):
        client.request("ping", timeout=2)
    with pytest.raises(exkiq.errors.ConfigError, match="unable to get local issuer"):
        Client(place, tls=files)
    with Client(place, tls=calm.papers.files("client")) as client:
        assert client.request("ping", timeout=2) == "pong"


# ---- a crowd -------------------------------------------------------------------------------------


def p99(client: Client) -> float:
    """Of enqueues one after the other; the middle one of three, for a machine that does more."""
    return statistics.median(_p99(client) for _ in range(3))


def _p99(client: Client) -> float:
    exkiq.client.use(client)
    later = Note.set(queue="later")
    took = []
    end = time.monotonic() + 0.25
    while time.monotonic() < end:
        began = time.monotonic()
        later.perform_async(1)
        took.append(time.monotonic() - began)
    return sorted(took)[len(took) * 99 // 100]


def test_a_crowd_of_idle_connections_leaves_the_cluster_working(guarded: Guarded) -> None:
    """Anybody could stop a cluster by opening connections to it and saying nothing."""
    crowd: list[socket.socket] = []
    with guarded.client() as client:
        calm = p99(client)
        for number in range(IDLE):
            each = socket.socket()
            each.setblocking(False)
            with suppress(BlockingIOError):
                each.connect(("127.0.0.1", guarded.ports[guarded.names[number % 3]]))
            crowd.append(each)
        try:
            busy = p99(client)
            assert busy < 3 * calm + 0.05
            term = guarded.status("n1")["cluster"]["term"]
            assert Note.perform_async(7).result(timeout=10) == 7
        finally:
            for each in crowd:
                each.close()
        exkiq.queue("later").clear()
    assert term == guarded.status("n1")["cluster"]["term"]
    until(guarded.same_state, 5.0, "one state")
    assert guarded.alive == guarded.names
