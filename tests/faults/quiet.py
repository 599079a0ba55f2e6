"""No needless election: not while nothing happens, and not under as much load as there can be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exkiq import Client
from exkiq.errors import ExkiqError
from exkiq.machine import Spec
from exkiq.orders import Order
from exkiq.wire.codec import encode_call
from tests.faults.nodes import Nodes

LOOK_S = 0.5
LOAD_SHARE = 0.1  # of the quiet time
LOAD_SECONDS_MIN = 15.0
SENDERS = 3
BULK = 500
WAITING_MAX = 20_000  # then the senders wait, so that running is part of the load
SPEC = Spec("tests.faults.jobs:Nothing", "default", 0, 0, 0, 3, 0)


def quiet(folder: Path, seconds: float, count: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Elections in idle time, and under full load."""
    nodes = Nodes(folder, count)
    phases: dict[str, dict[str, float]] = {}
    try:
        nodes.start()
        nodes.wait_ready(60.0)
        phases["idle"] = {**_watch(nodes, seconds, lambda left: say(f"idle, {left:.0f} s left"))}
        phases["idle"]["acknowledged"] = 0
        flood = Flood(nodes.url)
        seconds = max(LOAD_SECONDS_MIN, seconds * LOAD_SHARE)
        phases["full load"] = _watch(nodes, seconds, lambda left: say(f"load, {left:.0f} s left"))
        phases["full load"]["acknowledged"] = flood.stop()
    finally:
        nodes.stop()
        nodes.unmount()
    is_kept = all(row["elections"] == 0 for row in phases.values()) and not nodes.stopped
    return {"kept": is_kept, "nodes": count, "phases": phases, "stopped": nodes.stopped}


def _watch(nodes: Nodes, seconds: float, say: Callable[[float], None]) -> dict[str, float]:
    """How far the terms of all nodes have moved meanwhile."""
    began, first = time.monotonic(), _terms(nodes)
    while (left := began + seconds - time.monotonic()) > 0:
        say(left)
        nodes.note_stopped()
        time.sleep(min(left, LOOK_S))
    last = _terms(nodes)
    moved = max(last.values()) - min(first.values())
    return {"seconds": time.monotonic() - began, "elections": moved}


def _terms(nodes: Nodes) -> dict[str, int]:
    """A term never goes back, so the first and the last say how many there were."""
    return {name: nodes.status(name)["cluster"]["term"] for name in nodes.names}


class Flood:
    """Senders that enqueue jobs which do nothing, as fast as they are taken."""

    def __init__(self, url: str) -> None:
        self.acknowledged = 0
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._send, args=(url,), daemon=True) for _ in range(SENDERS)
        ]
        for thread in self._threads:
            thread.start()

    def _send(self, url: str) -> None:
        with Client(url) as client:
            while not self._is_over.is_set():
                payload = encode_call([], {})
                orders = [Order(SPEC, client.next_id(), payload) for _ in range(BULK)]
                try:
                    client.enqueue_all(orders)
                    with self._lock:
                        self.acknowledged += BULK
                    while client.stats()["queued"] > WAITING_MAX and not self._is_over.is_set():
                        self._is_over.wait(0.05)
                except ExkiqError:
                    self._is_over.wait(0.1)

    def stop(self) -> int:
        self._is_over.set()
        for thread in self._threads:
            thread.join()
        return self.acknowledged
