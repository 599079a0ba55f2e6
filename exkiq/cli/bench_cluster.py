"""The cluster that `exkiq bench` starts for itself, and leaves nothing of."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from exkiq.cli import bench_jobs
from exkiq.clock import Clock
from exkiq.errors import NoNodeError, OutcomeUnknown, Unavailable

READY_SECONDS_MAX = 30.0  # founding takes two or three; a loaded machine several times that
STOP_SECONDS = (1.0, 10.0)  # after the first signal, which drains, and the second, which does not
LOOK_AGAIN_SECONDS = 0.05


class BenchCluster:
    """Starts nodes as processes of their own on loopback; stops and removes them on exit.

    `folder` is where their data is kept meanwhile: what is measured is that disk.
    """

    def __init__(
        self,
        nodes: int,
        *,
        processes: int,
        concurrency: int,
        is_memory: bool,
        folder: Path | None,
        clock: Clock,
    ) -> None:
        self._names = [f"bench-{number}" for number in range(1, nodes + 1)]
        self._ports = _free_ports(nodes)
        self._limits = ["--processes", str(processes), "--concurrency", str(concurrency)]
        self._is_memory = is_memory
        self._clock = clock
        self.folder = Path(tempfile.mkdtemp(prefix="exkiq-bench-", dir=folder))
        self._sockets = Path(tempfile.mkdtemp(prefix="exkiq-"))  # apart: their paths must be short
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """Where a client finds the nodes."""
        return "exkiq://" + ",".join(f"127.0.0.1:{port}" for port in self._ports)

    def __enter__(self) -> Self:
        try:
            for name, port in zip(self._names, self._ports, strict=True):
                self._running[name] = self._start(name, port)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self, name: str, port: int) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "exkiq.cli.attended", *self._arguments(name, port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environ(),
            )

    def _environ(self) -> dict[str, str]:
        ours = {key: text for key, text in os.environ.items() if not key.startswith("EXKIQ_")}
        return {**ours, "XDG_RUNTIME_DIR": str(self._sockets)}

    def _arguments(self, name: str, port: int) -> list[str]:
        others = [f"--peer=127.0.0.1:{other}" for other in self._ports if other != port]
        data = ["--memory"] if self._is_memory else ["--data-dir", str(self.folder / name)]
        return [
            "start",
            bench_jobs.__name__,
            *("--name", name, "--cluster", self.folder.name),
            *("--bind", f"127.0.0.1:{port}"),
            *("--no-mdns", "--bootstrap-expect", str(len(self._ports))),
            *("--queues", bench_jobs.QUEUE, "--log-level", "WARNING"),
            *others,
            *data,
            *self._limits,
        ]

    def await_ready(self, client: Any) -> dict[str, Any]:
        """The status once every node is a living member and one leads.

        Errors: NoNodeError with the last line a node wrote, when one ended or time ran out.
        """
        deadline = self._clock.monotonic() + READY_SECONDS_MAX
        while self._clock.monotonic() < deadline:
            self._check_alive()
            status = _status(client)
            if status is not None and self._is_whole(status):
                return status
            time.sleep(LOOK_AGAIN_SECONDS)
        raise NoNodeError(f"the nodes were not ready within {READY_SECONDS_MAX:g} s")

    def _is_whole(self, status: dict[str, Any]) -> bool:
        alive = [each for each in status["cluster"]["members"] if each["state"] == "alive"]
        return status["cluster"]["leader"] is not None and len(alive) == len(self._names)

    def _check_alive(self) -> None:
        for name, process in self._running.items():
            if process.poll() is not None:
                lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
                last = lines[-1] if lines else "it wrote nothing"
                raise NoNodeError(f"{name} ended with code {process.returncode}: {last}")

    def stop(self) -> None:
        """End the nodes and remove their data. May be called twice."""
        for seconds in STOP_SECONDS:
            for process in self._running.values():
                process.terminate()
            for process in self._running.values():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(seconds)
        for process in self._running.values():
            process.kill()
            process.wait()
        self._running.clear()
        for folder in (self.folder, self._sockets):
            shutil.rmtree(folder, ignore_errors=True)


def _status(client: Any) -> dict[str, Any] | None:
    try:
        answer: dict[str, Any] = client.request("status", timeout=1.0)
    except (Unavailable, OutcomeUnknown, TimeoutError):  # not up yet
        return None
    return answer


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; all are held until the last is known."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
