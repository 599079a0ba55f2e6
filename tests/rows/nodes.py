"""Nodes inside this process for the tests of the requirement rows."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from exkiq import Client, Node
from exkiq import client as clients
from tests.cluster.harness import free_ports, until

APP = "tests.rows.jobs"
START_SECONDS_MAX = 20.0


def make_node(name: str, **options: Any) -> Node:
    """A node that keeps to this process unless it is told otherwise."""
    plain = {"app": APP, "cluster": "rows", "mdns": False, "join_wait": 0, "processes": 1}
    if "data_dir" not in options:
        plain["memory"] = True
    return Node(name=name, **{**plain, **options})


class Group:
    """Some nodes of one cluster, and a client of all of them."""

    def __init__(self, names: tuple[str, ...], **options: Any) -> None:
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self._options = {"bootstrap_expect": len(names)} | options
        self.nodes = {name: self._make(name) for name in names}
        self.client: Client

    def _make(self, name: str) -> Node:
        others = [f"127.0.0.1:{port}" for other, port in self.ports.items() if other != name]
        options = dict(self._options)
        if "folder" in options:
            options["data_dir"] = Path(options.pop("folder")) / name
        if "each" in options:
            options |= options.pop("each").get(name, {})
        return make_node(name, bind=f"127.0.0.1:{self.ports[name]}", peers=others, **options)

    def start(self) -> Group:
        threads = ThreadPoolExecutor(len(self.nodes))
        started = [threads.submit(node.start) for node in self.nodes.values()]
        for future in as_completed(started, timeout=START_SECONDS_MAX):
            future.result().wait_ready()
        threads.shutdown()
        self.client = self.client_of(*self.nodes)
        until(self.agrees, 10.0, "one leader")
        return self

    def start_one(self, name: str) -> None:
        """Start a node without waiting for it, until it has opened its door."""
        threading.Thread(target=self.nodes[name].start, daemon=True).start()

        def is_open() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.ports[name])) == 0

        until(is_open, 10.0, "an open door")

    def client_of(self, *names: str, **options: Any) -> Client:
        places = ",".join(f"127.0.0.1:{self.ports[name]}" for name in names)
        return Client(f"exkiq://{places}", secret=self._options.get("secret"), **options)

    def agrees(self) -> bool:
        """All know all members and the same leader."""
        alive = list(self.nodes.values())
        leaders = {node.leader for node in alive}
        return (
            len(leaders) == 1
            and leaders != {None}
            and all(len(node.members) == len(self.ports) for node in alive)
        )

    @property
    def leader(self) -> str:
        found: list[str] = until(lambda: [n for n in self.nodes if self.nodes[n].is_leader])
        return found[0]

    def use(self) -> Group:
        """Make the classes of this process enqueue here."""
        clients.use(self.client)
        return self

    def take_down(self, name: str) -> None:
        """Stop a node that stays a member."""
        self.nodes.pop(name).stop(drain=0.0)

    def bring_up(self, name: str) -> Node:
        self.nodes[name] = node = self._make(name).start().wait_ready()
        return node

    def stop(self) -> None:
        clients.use(None)
        self.client.close()
        for node in sorted(self.nodes.values(), key=lambda node: node.is_leader):
            node.stop(drain=0.0)

    def each(self, ask: Callable[[Client], Any]) -> list[Any]:
        """What each node answers by itself."""
        answers = []
        for name in self.nodes:
            with self.client_of(name) as client:
                answers.append(ask(client))
        return answers
