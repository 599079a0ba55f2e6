"""Real nodes whose clocks, links, disks and children can be got at."""

from __future__ import annotations

import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import exkiq.rendezvous
from exkiq import Client
from exkiq.errors import ExkiqError
from tests.cluster.harness import Cluster, until
from tests.faults import ledger
from tests.faults.proxy import Network

INSIDE = Path(__file__).parent / "inside"
DISK_MIB = 96
SPARE_MIB = 2  # left free until the fault begins to fill


class Nodes(Cluster):
    """A cluster behind a proxy; `network` is what lies between its nodes."""

    def __init__(self, folder: Path, count: int, *options: str, seed: int = 0) -> None:
        super().__init__(folder, count, *options, app="tests.faults.jobs")
        self.network = Network(self.ports, seed)
        self.small_disk = self._mount_small_disk()
        self.stopped: list[str] = []  # nodes that ended by themselves
        self._wanted: set[str] = set()  # those that nobody has stopped
        self._clocks = {name: self._make_clock(name) for name in self.names}
        self._paused: set[str] = set()
        self._starting = threading.Lock()

    # ---- life --------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        with self._starting:  # what a node is told in its environment is its own
            for name in names or self.names:
                super().start(name)
                self._wanted.add(name)

    def wait_ready(self, seconds: float = 30.0) -> None:
        """As of any cluster; a node that ended meanwhile is told at once."""
        until(self._is_ready, seconds, "a cluster with one leader")

    def _is_ready(self) -> bool:
        ended = [name for name in self.names if self.processes[name].poll() is not None]
        if ended:
            raise RuntimeError(f"{ended[0]} ended: {self.last(ended[0])}")
        told = [self.status(name)["cluster"] for name in self.names]
        leaders = {each["leader"] for each in told}
        alive = {member["state"] for each in told for member in each["members"]}
        whole = min(len(each["members"]) for each in told) >= self.expect
        return len(leaders) == 1 and None not in leaders and alive == {"alive"} and whole

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(filter(None, (str(INSIDE), os.environ.get("PYTHONPATH"))))
        self.environ |= {
            "PYTHONPATH": path,
            "FAULTS_NODE": name,
            "FAULTS_LEDGER": str(ledger.path_of(self.folder, name)),
            "FAULTS_CLOCK": str(self._clock_path(name)),
            "FAULTS_ROUTES": json.dumps(self.network.routes(name)),
        }
        return super()._spawn(name)

    def kill(self, *names: str, how: int = signal.SIGKILL) -> None:
        self._wanted -= set(names)
        for name in names:
            self.cont(name)  # a stopped process does not drain
        super().kill(*names, how=how)

    def forgive(self, name: str) -> None:
        """That this node ends by itself is what the fault is for."""
        self._wanted.discard(name)

    def note_stopped(self) -> None:
        """Take down which nodes have ended though nobody stopped them, and start them again."""
        for name in sorted(self._wanted):
            process = self.processes[name]
            if process.poll() is not None:
                self.stopped.append(f"{name}, exit code {process.returncode}: {self.last(name)}")
                self.start(name)

    def last(self, name: str) -> str:
        lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it wrote nothing"

    def tracebacks(self) -> list[str]:
        """What no node should ever print."""
        found = []
        for name in self.names:
            text = (self.folder / f"{name}.log").read_text(errors="replace")
            found += [f"{name}: {part[-600:]}" for part in _tracebacks(text)]
        return found

    # ---- looking -----------------------------------------------------------------------------

    @property
    def awake(self) -> list[str]:
        return [name for name in self.alive if name not in self._paused]

    def status(self, name: str) -> dict[str, Any]:
        before = os.environ.get("XDG_RUNTIME_DIR")
        os.environ["XDG_RUNTIME_DIR"] = self.environ["XDG_RUNTIME_DIR"]
        try:
            path = exkiq.rendezvous.socket_path(self.name, name)
        finally:
            del os.environ["XDG_RUNTIME_DIR"]
            if before is not None:
                os.environ["XDG_RUNTIME_DIR"] = before
        with Client(f"exkiq+unix://{path}") as client:
            found: dict[str, Any] = client.request("status", timeout=1.0)
        return found

    def leader_now(self) -> str | None:
        """Who leads by the highest term that anybody knows; None when nobody does."""
        best: tuple[int, str | None] = (-1, None)
        for name in self.awake:
            try:
                cluster = self.status(name)["cluster"]
            except (ExkiqError, TimeoutError):
                continue
            if cluster["leader"] is not None:
                best = max(best, (cluster["term"], cluster["leader"]))
        return best[1]

    @property
    def url(self) -> str:
        return "exkiq://" + ",".join(f"127.0.0.1:{port}" for port in self.ports.values())

    # ---- pauses ------------------------------------------------------------------------------

    def pause(self, name: str) -> None:
        self._paused.add(name)
        self.processes[name].send_signal(signal.SIGSTOP)

    def cont(self, name: str) -> None:
        if name in self._paused:
            self._paused.discard(name)
            self.processes[name].send_signal(signal.SIGCONT)

    def children(self, name: str) -> list[int]:
        """The processes in which a node runs jobs."""
        listed = subprocess.run(
            ["/bin/ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        )
        rows = [line.split() for line in listed.stdout.splitlines()]
        return [int(pid) for pid, parent in rows if int(parent) == self.processes[name].pid]

    # ---- clocks ------------------------------------------------------------------------------

    def _clock_path(self, name: str) -> Path:
        return self.folder / f"clock-{name}"

    def _make_clock(self, name: str) -> mmap.mmap:
        self._clock_path(name).write_bytes(bytes(8))
        with self._clock_path(name).open("r+b") as file:
            return mmap.mmap(file.fileno(), 8)

    def set_clock(self, name: str, ms: int) -> None:
        """The wall clock of a node is wrong by this much from now on."""
        self._clocks[name][:8] = struct.pack("<q", ms)

    # ---- a disk that can be filled -----------------------------------------------------------

    def _mount_small_disk(self) -> str | None:
        """The last node's data lies on a disk of its own, where this user may mount one."""
        if not sys.platform.startswith("linux") or os.geteuid() != 0:
            return None
        name = self.names[-1]
        (self.folder / name).mkdir(mode=0o700)
        command = ["/bin/mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=700", "exkiq-faults"]
        mounted = subprocess.run([*command, str(self.folder / name)], capture_output=True)
        return name if mounted.returncode == 0 else None

    @property
    def ballast(self) -> Path:
        return self.folder / str(self.small_disk) / "ballast"

    def fill_disk(self) -> None:
        """Not one page is left."""
        with self.ballast.open("wb", buffering=0) as file:
            for size in (1_048_576, 4_096):
                try:
                    while file.write(bytes(size)):
                        pass
                except OSError:
                    continue

    def free_disk(self) -> None:
        if self.small_disk is not None:
            self.ballast.unlink(missing_ok=True)

    # ---- the end -----------------------------------------------------------------------------

    def heal(self) -> None:
        """Nothing is wrong any more, and every node runs."""
        self.network.heal()
        self.free_disk()
        for name in self.names:
            self.set_clock(name, 0)
            self.cont(name)
        self.note_stopped()
        for name in self.names:
            if name not in self.alive:
                self.start(name)

    def stop(self) -> None:
        for name in list(self._paused):
            self.cont(name)
        super().stop()
        self.network.close()

    def unmount(self) -> None:
        if self.small_disk is not None:
            command = ["/bin/umount", str(self.folder / self.small_disk)]
            subprocess.run(command, check=False)


def _tracebacks(text: str) -> list[str]:
    parts = text.split("Traceback (most recent call last)")[1:]
    return ["Traceback" + part[:1_500] for part in parts]
