"""What speaks to a node's port without being a node or a client of it."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgpack
import pytest

from exkiq import Client
from exkiq.errors import ExkiqError
from tests.cluster.harness import Cluster, cluster, until
from tests.cluster.jobs import Note

chance = random.Random(7)


def frame(value: object) -> bytes:
    body: bytes = msgpack.packb(value)
    return struct.pack(">I", len(body)) + body


SPEECHES: dict[str, Callable[[], bytes]] = {
    "noise": lambda: chance.randbytes(5_000),
    "http": lambda: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls": lambda: bytes.fromhex("16030102000100") + chance.randbytes(300),
    "huge": lambda: b"\xff\xff\xff\xff" + b"x" * 100,
    "empty frame": lambda: bytes(4),
    "number": lambda: frame(7),
    "map": lambda: frame({"role": "member", "name": "n1"}),
    "hello without sense": lambda: frame([1, 2, 3]) + frame(["member", "n1", None]),
    "raft message": lambda: frame([1, {"type": "append_entries", "term": 2**40}]),
    "request": lambda: frame([1, "cluster_leave"]),
    "deep": lambda: frame([]) + struct.pack(">I", 900) + b"\x91" * 900,
    "half a frame": lambda: frame("x" * 100)[:20],
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("speech", SPEECHES.values(), ids=SPEECHES.keys())
def test_a_stranger_that_talks_nonsense(live: Cluster, speech: Callable[[], bytes]) -> None:
    """It is hung up on, or left waiting for a moment; work goes on meanwhile."""
    with live.client() as client:
        before = client.stats(consistent=True)
    open_ones = []
    for port in live.ports.values():
        stranger = socket.create_connection(("127.0.0.1", port), 2)
        open_ones.append(stranger)
        with suppress(OSError):  # hung up on already
            stranger.sendall(speech())
    with live.client() as client:
        assert client.stats(consistent=True) == before
    for stranger in open_ones:
        stranger.close()


def test_idle_strangers_are_shown_out(live: Cluster) -> None:
    """They would hold a descriptor each, for ever."""
    port = live.ports["n1"]
    idle = [socket.create_connection(("127.0.0.1", port), 2) for _ in range(20)]
    with live.client() as client:
        assert client.request("ping") == "pong"  # the other nodes are not besieged
    for each in idle:
        each.settimeout(5)
        with suppress(ConnectionResetError):
            while each.recv(4096):
                pass
        each.close()
    with live.client("n1") as client:
        assert client.request("ping") == "pong"


def test_noise_while_work_goes_on(live: Cluster) -> None:
    """Garbage on every port from several threads, and 200 jobs that all end at once."""
    is_over = threading.Event()

    def shout() -> None:
        noise = random.Random(threading.get_ident())
        while not is_over.is_set():
            with suppress(OSError):
                port = noise.choice(list(live.ports.values()))
                with socket.create_connection(("127.0.0.1", port), 1) as stranger:
                    stranger.sendall(noise.choice(list(SPEECHES.values()))())
                    stranger.sendall(os.urandom(100))

    threads = [threading.Thread(target=shout) for _ in range(4)]
    with live.client() as client:
        for thread in threads:
            thread.start()
        try:
            for number in range(20):
                assert client.request("ping", timeout=5) == "pong", number
        finally:
            is_over.set()
            for thread in threads:
                thread.join()


def test_another_cluster_s_name(live: Cluster) -> None:
    """Jobs would go into the wrong cluster."""
    address = f"exkiq://127.0.0.1:{live.ports['n1']}"
    with Client(address, cluster="elsewhere") as client, pytest.raises(ExkiqError) as told:
        client.request("ping", timeout=2)
    assert "elsewhere" in str(told.value)


def test_a_secret_that_nobody_asked_for(live: Cluster) -> None:
    """One side has a secret and the other none: a line that says which."""
    address = f"exkiq://127.0.0.1:{live.ports['n1']}"
    with Client(address, secret=b"s" * 32) as client, pytest.raises(ExkiqError) as told:
        client.request("ping", timeout=2)
    assert "secret" in str(told.value)


def test_a_wrong_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a client nor a node gets in; one WARNING tells of the node, none the secret."""
    secrets = {name: tmp_path / name for name in ("right", "wrong")}
    for name, path in secrets.items():
        path.touch(mode=0o600)
        path.write_text(name * 10)
    monkeypatch.setenv("EXKIQ_SECRET_FILE", str(secrets["right"]))
    with cluster(tmp_path, 1) as c:
        address = f"exkiq://127.0.0.1:{c.ports['n1']}"
        with Client(address, secret=b"wrong" * 10) as client, pytest.raises(ExkiqError) as told:
            client.request("ping", timeout=2)
        assert "secret" in str(told.value)
        stranger = Cluster(tmp_path, 1, "--secret-file", str(secrets["wrong"]))
        stranger.names = ["n9"]
        stranger.ports = {"n1": c.ports["n1"], "n9": stranger.ports["n1"]}
        try:
            stranger.start("n9")
            log = tmp_path / "n1.log"
            until(lambda: "secret" in log.read_text(), 10.0, "a warning")
            text = log.read_text() + stranger.logs()
            assert "wrongwrong" not in text
            assert "rightright" not in text
            assert "Traceback" not in text
            assert sum("secret" in line for line in log.read_text().splitlines()) <= 2
        finally:
            stranger.stop()
        with Client(address, secret=b"right" * 10) as client:
            assert len(client.request("status")["cluster"]["members"]) == 1
            assert Note.perform_inline(1) == 1
