"""Carries out a schedule of faults, each in a thread of its own, and writes down what it did."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from random import Random

from tests.faults.history import Disturbance
from tests.faults.kinds import Doing, Scene
from tests.faults.nodes import Nodes
from tests.faults.schedule import Planned

FAULT_SECONDS_MAX = 60.0
LOOK_S = 0.05


class Injector:
    """Duties: begin each fault when it is due; see that all of them are over before `stop`
    returns; count; start again what ended by itself.
    """

    def __init__(self, nodes: Nodes, planned: list[Planned], told: Callable[[str], None]) -> None:
        self.done: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.disturbances: list[Disturbance] = []
        self.failures: list[str] = []  # of the harness itself
        self._nodes, self._planned, self._told = nodes, planned, told
        self._is_over = threading.Event()
        self._scene = Scene(nodes, self._is_over)
        self._threads: list[threading.Thread] = []

    def run(self, seconds: float, look: Callable[[], None] = lambda: None) -> None:
        """The whole schedule; `look` is called now and then."""
        began = time.monotonic()
        left = list(self._planned)
        while (now := time.monotonic() - began) < seconds:
            while left and left[0].at <= now:
                fault = left.pop(0)
                thread = threading.Thread(target=self._one, args=(fault,), daemon=True)
                self._threads.append(thread)
                thread.start()
            look()
            self._is_over.wait(LOOK_S)
        self._is_over.set()
        for thread in self._threads:
            thread.join(FAULT_SECONDS_MAX)
            if thread.is_alive():
                self.failures.append("a fault does not end")

    def _one(self, fault: Planned) -> None:
        doing = Doing(self._scene, fault.lasts, Random(fault.seed))
        disturbance = Disturbance(fault.kind, (), time.monotonic())
        self.disturbances.append(disturbance)
        self._told(f"{fault.kind} begins, {fault.lasts:.1f} s")
        try:
            doing.run(fault.kind)
        except Exception as error:
            self.failures.append(f"{fault.kind}: {error!r}")
        disturbance.end, disturbance.nodes = time.monotonic(), tuple(doing.nodes)
        if doing.skipped or not (doing.nodes or fault.kind == "transfers"):
            why = doing.skipped or "another fault has its nodes"
            self.skipped[f"{fault.kind}: {why}"] += 1
            self._told(f"{fault.kind} left out: {why}")
            return
        self.done[fault.kind] += 1
        self._told(f"{fault.kind} ends, {' '.join(doing.nodes) or 'all'}")


class Hostile:
    """Strangers at the door of every node, all the time."""

    def __init__(self, ports: list[int], seed: int) -> None:
        self.sent = 0
        self._ports, self._chance = ports, Random(f"hostile {seed}")
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        idle: list[socket.socket] = []
        while not self._is_over.wait(0.1):
            with suppress(OSError):
                door = socket.create_connection(
                    ("127.0.0.1", self._chance.choice(self._ports)), 0.2
                )
                door.settimeout(0.2)
                door.sendall(self._bytes())
                idle.append(door)
                self.sent += 1
            while len(idle) > 10:
                idle.pop(0).close()
        for door in idle:
            door.close()

    def _bytes(self) -> bytes:
        return self._chance.choice(
            (
                self._chance.randbytes(self._chance.randint(1, 4_000)),
                b"\xff\xff\xff\xff" + bytes(10),
                b"\x00\x00\x00\x10" + b"\x81" * 16,
                b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
                b"",
            )
        )

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()
