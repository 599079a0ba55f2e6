"""Clusters of real processes on loopback, each with folders of its own."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import exkiq
from exkiq import Client
from exkiq.errors import ExkiqError
from exkiq.rendezvous import socket_path

ROOT = Path(__file__).resolve().parents[2]
APP = "tests.cluster.jobs"


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def until(condition: Callable[[], Any], seconds: float = 20.0, what: str = "it") -> Any:
    """Wait for a condition; errors of a cluster without a leader count as not yet."""
    end = time.monotonic() + seconds
    last: Exception | None = None
    while time.monotonic() < end:
        try:
            found = condition()
            if found:
                return found
        except (ExkiqError, TimeoutError) as error:
            last = error
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true within {seconds} s ({last})")


def name_of_cluster(folder: Path) -> str:
    """One of its own: clusters that run beside each other must not find each other."""
    return hashlib.sha256(str(folder).encode()).hexdigest()[:12]


class Cluster:
    """Some nodes; `options` go to every `exkiq start`."""

    def __init__(
        self, folder: Path, count: int = 3, *options: str, mdns: bool = False, app: str = APP
    ) -> None:
        self.folder, self.options, self.mdns, self.app = folder, options, mdns, app
        self.names = [f"n{number}" for number in range(1, count + 1)]
        self.ports = dict(zip(self.names, free_ports(count), strict=True))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.expect = count
        self.name = name_of_cluster(folder)
        os.environ["LEDGER"] = str(folder / "ledger")
        self.environ = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "PYTHONWARNINGS": "default"}

    def start(self, *names: str) -> None:
        for name in names or self.names:
            self.processes[name] = self._spawn(name)

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        peers = [f"127.0.0.1:{port}" for other, port in self.ports.items() if other != name]
        command = [sys.executable, "-m", "exkiq", "start", self.app, "--name", name]
        command += ["--cluster", self.name, "--processes", "1"]
        command += ["--data-dir", str(self.folder / name), "--join-wait", "1"]
        command += ["--bootstrap-expect", str(self.expect), *self.options]
        if not self.mdns:
            command += ["--bind", f"127.0.0.1:{self.ports[name]}", "--no-mdns"]
            command += [word for peer in peers for word in ("--peer", peer)]
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env=self.environ, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def alive(self) -> list[str]:
        return [name for name, process in self.processes.items() if process.poll() is None]

    def client(self, *names: str) -> Client:
        """A client of these nodes, or of all; it becomes the one of this process."""
        if self.mdns:
            places = next(self.status(name)["cluster"]["members"] for name in self.alive[:1])
            return exkiq.connect("exkiq://" + ",".join(member["address"] for member in places))
        wanted = names or tuple(self.names)
        return exkiq.connect(
            "exkiq://" + ",".join(f"127.0.0.1:{self.ports[name]}" for name in wanted)
        )

    def status(self, name: str) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_RUNTIME_DIR", self.environ["XDG_RUNTIME_DIR"])
            path = socket_path(self.name, name)  # elsewhere when the folder's path is long
        with Client(f"exkiq+unix://{path}") as client:
            status: dict[str, Any] = client.request("status", timeout=2.0)
        return status

    def wait_ready(self, seconds: float = 30.0) -> None:
        """Every living node sees all living members and the same leader."""

        def ready() -> bool:
            found = [self.status(name)["cluster"] for name in self.alive]
            leaders = {cluster["leader"] for cluster in found}
            sessions = {len(cluster["members"]) for cluster in found}
            return len(leaders) == 1 and None not in leaders and min(sessions) >= self.expect

        until(ready, seconds, "a cluster with one leader")

    def leader(self) -> str:
        def find() -> str | None:
            for name in self.alive:
                leader: str | None = self.status(name)["cluster"]["leader"]
                if leader in self.alive:
                    return leader
            return None

        leader: str = until(find, 10.0, "a leader")
        return leader

    def kill(self, *names: str, how: int = signal.SIGKILL) -> None:
        for name in names:
            process = self.processes[name]
            process.send_signal(how)
        for name in names:
            self.processes[name].wait(30)

    def same_state(self) -> bool:
        """All living nodes have applied the same and agree on it."""
        found = [self.status(name)["raft"] for name in self.alive]
        return len({(raft["state_hash"], raft["applied_index"]) for raft in found}) == 1

    def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
        for process in self.processes.values():
            process.wait(10)

    def logs(self) -> str:
        return "\n".join(
            f"--- {name}\n" + (self.folder / f"{name}.log").read_text()[-3000:]
            for name in self.names
            if (self.folder / f"{name}.log").exists()
        )


@contextmanager
def cluster(
    folder: Path, count: int = 3, *options: str, mdns: bool = False, app: str = APP
) -> Iterator[Cluster]:
    """A cluster that is up and has a leader; its logs are shown when the test fails."""
    made = Cluster(folder, count, *options, mdns=mdns, app=app)
    try:
        made.start()
        made.wait_ready()
        yield made
    except BaseException:
        sys.stderr.write(made.logs())
        raise
    finally:
        made.stop()
