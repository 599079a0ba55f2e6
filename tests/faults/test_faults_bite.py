"""Each tool of the fault runs does what it says: a fault that is none would prove nothing."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.nodes import INSIDE
from tests.faults.proxy import Effect, Network

CUT = Effect(is_cut=True)


class Ends:
    """A connection that a dialled to b, through the proxy."""

    def __init__(self, network: Network, listener: socket.socket) -> None:
        self.a = socket.create_connection(("127.0.0.1", network.doors["a", "b"]))
        self.b, _ = listener.accept()
        for end in (self.a, self.b):
            end.settimeout(5)

    def close(self) -> None:
        self.a.close()
        self.b.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(5)
        yield made


@pytest.fixture
def network(listener: socket.socket) -> Iterator[Network]:
    made = Network({"a": 1, "b": listener.getsockname()[1]})
    yield made
    made.close()


@pytest.fixture
def ends(network: Network, listener: socket.socket) -> Iterator[Ends]:
    made = Ends(network, listener)
    yield made
    made.close()


def is_silent(end: socket.socket) -> bool:
    end.settimeout(0.1)
    try:
        return not end.recv(100)
    except TimeoutError:
        return True
    finally:
        end.settimeout(5)


def test_a_cut_holds_one_way_back_and_the_heal_delivers_it(network: Network, ends: Ends) -> None:
    """One-way cuts would cut nothing, or both ways."""
    off = network.spoil([("a", "b")], CUT)
    ends.b.sendall(b"back")
    assert ends.a.recv(100) == b"back"
    ends.a.sendall(b"there")
    assert is_silent(ends.b)
    off()
    assert ends.b.recv(100) == b"there"
    assert network.wires["a", "b"].carried == 5


def test_two_cuts_end_with_the_last(network: Network, ends: Ends) -> None:
    """The end of one fault would heal another one."""
    first, second = (network.spoil([("a", "b")], CUT) for _ in range(2))
    ends.a.sendall(b"there")
    first()
    assert is_silent(ends.b)
    second()
    assert ends.b.recv(100) == b"there"


def test_what_is_delayed_comes_late_and_in_order(network: Network, ends: Ends) -> None:
    """Delay, jitter and loss would reorder what TCP keeps in order."""
    network.spoil([("a", "b")], Effect(delay=0.1, jitter=0.05, loss=0.5))
    began, got = time.monotonic(), b""
    for number in range(20):
        ends.a.sendall(bytes([number]))
        time.sleep(0.002)
    while len(got) < 20:
        got += ends.b.recv(100)
    assert got == bytes(range(20))
    assert time.monotonic() - began >= 0.1


def test_a_narrow_wire_takes_its_time(network: Network, ends: Ends) -> None:
    """The bandwidth would not be limited."""
    network.spoil([("a", "b")], Effect(rate=100_000))
    began, got = time.monotonic(), 0
    ends.a.sendall(bytes(30_000))
    while got < 30_000:
        got += len(ends.b.recv(65_536))
    assert time.monotonic() - began >= 0.25


def test_a_reset_reaches_both_ends(network: Network, ends: Ends) -> None:
    """Connections would outlive the fault that breaks them."""
    network.reset([("b", "a")])  # whoever dialled
    for end in (ends.a, ends.b):
        try:
            assert end.recv(100) == b""
        except ConnectionResetError:
            continue


def test_the_clock_and_the_routes_of_a_node_are_the_harness_s(tmp_path: Path) -> None:
    """Clock steps would step nothing, and nodes would dial past the proxy."""
    clock = tmp_path / "clock"
    clock.write_bytes(struct.pack("<q", 3_600_000))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        code = (
            "import asyncio, time, uvloop\n"
            "async def dial():\n"
            "    await asyncio.get_running_loop().create_connection("
            "asyncio.Protocol, '127.0.0.1', 9)\n"
            "print(time.time(), time.time_ns() // 10**9, time.clock_gettime(time.CLOCK_REALTIME))\n"
            "asyncio.Runner(loop_factory=uvloop.new_event_loop).run(dial())\n"
        )
        environ = {
            **os.environ,
            "PYTHONPATH": str(INSIDE),
            "FAULTS_CLOCK": str(clock),
            "FAULTS_ROUTES": f'{{"127.0.0.1:9": {listener.getsockname()[1]}}}',
        }
        told = subprocess.run(
            [sys.executable, "-c", code, "exkiq"],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        listener.accept()[0].close()
    wrong, wrong_ns, right = map(float, told.stdout.split())
    assert 3_590 < wrong - right < 3_610
    assert 3_590 < wrong_ns - right < 3_610
