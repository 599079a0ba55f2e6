"""What many waiting jobs cost: a real cluster of three on disk, filled, restarted and joined.

Snapshots come by themselves, of the log that the measured load makes; a node writes one while
there is a `snapshot.next` in its folder.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exkiq
from exkiq.cli import bench_jobs
from exkiq.cli.bench_cluster import BenchCluster
from exkiq.clock import SystemClock

QUEUE = "standing"  # no node runs it
BULK_JOBS = 1_000
LARGE = "x" * 30_000  # of such jobs two thousand make the log long enough for a snapshot
WAIT_SECONDS_MAX = 180.0
LOOK_AGAIN_SECONDS = 0.02


class SizeCluster(BenchCluster):
    """A cluster of which one node at a time can be killed, started and added."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__(
            4, processes=1, concurrency=1, is_memory=False, folder=folder, clock=SystemClock()
        )
        self._extra = self._names.pop(), self._ports.pop()

    def _arguments(self, name: str, port: int) -> list[str]:
        given = super()._arguments(name, port)
        return ["INFO" if each == "WARNING" else each for each in given]

    def kill(self, name: str) -> None:
        """As a power loss of one machine."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def start(self, name: str) -> float:
        """Start a node that was killed; the seconds until it is ready."""
        return self._until_ready(name, self._ports[self._names.index(name)])

    def join(self) -> tuple[str, float]:
        """Start an empty node; its name and the seconds until it is ready."""
        name, port = self._extra
        return name, self._until_ready(name, port)

    def _until_ready(self, name: str, port: int) -> float:
        began = time.monotonic()
        self._running[name] = self._start(name, port)
        log = self.folder / f"{name}.log"
        _wait(lambda: "ready: " in log.read_text(errors="replace"), f"{name} to be ready")
        return time.monotonic() - began

    @property
    def is_writing(self) -> bool:
        """Whether some node writes a snapshot just now."""
        return any((self.folder / name / "snapshot.next").exists() for name in self._running)

    def memory_mib(self) -> dict[str, float]:
        """Resident memory of each node without its children, at most so far."""
        return {name: _peak_mib(each.pid) for name, each in self._running.items()}

    def disk_mib(self, pattern: str) -> dict[str, float]:
        """What the files of this pattern take in the folder of each node."""
        return {
            name: round(sum(map(_size, (self.folder / name).glob(pattern))) / 2**20, 1)
            for name in self._running
        }


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it was renamed in between
        return 0


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return round(int(found.group(1)) / 1024, 1) if found else 0.0


def _wait(is_true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WAIT_SECONDS_MAX
    while not is_true():
        if time.monotonic() > end:
            raise SystemExit(f"waited {WAIT_SECONDS_MAX:g} s for {what}")
        time.sleep(LOOK_AGAIN_SECONDS)


class Load:
    """Enqueues one by one on a thread, and keeps how long each took and what went on then."""

    def __init__(self, cluster: SizeCluster) -> None:
        self._cluster = cluster
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on)
        self.calm: list[float] = []
        self.during: list[float] = []

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _go_on(self) -> None:
        large = bench_jobs.Noop.set(queue=QUEUE)
        while not self._stop.is_set():
            was_writing = self._cluster.is_writing
            began = time.perf_counter()
            large.perform_async(LARGE)
            took_ms = (time.perf_counter() - began) * 1000
            is_writing = was_writing or self._cluster.is_writing
            (self.during if is_writing else self.calm).append(took_ms)


def _latencies(label: str, taken: list[float]) -> dict[str, float | int]:
    taken = sorted(taken)
    if not taken:
        return {f"{label}: enqueues": 0}
    return {
        f"{label}: enqueues": len(taken),
        f"{label}: p50 ms": round(taken[len(taken) // 2], 1),
        f"{label}: p99 ms": round(taken[len(taken) * 99 // 100], 1),
        f"{label}: longest ms": round(taken[-1], 1),
    }


def _fill(jobs: int) -> dict[str, float]:
    bulk = bench_jobs.Noop.set(queue=QUEUE)
    began, longest = time.monotonic(), 0.0
    for start in range(0, jobs, BULK_JOBS):
        asked = time.monotonic()
        bulk.perform_bulk([(number, "payload") for number in range(start, start + BULK_JOBS)])
        longest = max(longest, time.monotonic() - asked)
    seconds = time.monotonic() - began
    return {
        "fill: jobs a second": round(jobs / seconds),
        "fill: longest call of 1,000 ms": round(longest * 1000, 1),
    }


def _during_snapshots(cluster: SizeCluster) -> dict[str, Any]:
    """Until each node has written one snapshot while the load was on."""
    before = {path: path.stat().st_mtime_ns for path in cluster.folder.glob("*/snapshot")}

    def are_new() -> bool:
        now = {path: path.stat().st_mtime_ns for path in cluster.folder.glob("*/snapshot")}
        return len(now) == 3 and all(before.get(path) != at for path, at in now.items())

    with Load(cluster) as load:
        _wait(are_new, "a snapshot of each node")
        time.sleep(1.0)
    return {
        **_latencies("no snapshot", load.calm),
        **_latencies("while a snapshot is written", load.during),
    }


def _restarted(cluster: SizeCluster, client: Any) -> dict[str, Any]:
    status = client.request("status", timeout=10.0)
    name = next(each["name"] for each in status["cluster"]["members"] if each["role"] != "leader")
    cluster.kill(name)
    return {"restart after kill -9: ready after s": round(cluster.start(name), 2)}


def _joined(cluster: SizeCluster, client: Any) -> dict[str, Any]:
    began = time.monotonic()
    with Load(cluster) as load:
        name, ready = cluster.join()

        def has_caught_up() -> bool:
            status = client.request("status", timeout=10.0)
            members = {each["name"]: each for each in status["cluster"]["members"]}
            applied = members.get(name, {}).get("applied") or 0
            return applied >= status["raft"]["commit_index"] - 50  # it is told four times a second

        _wait(has_caught_up, "the new node to catch up")
        caught_up = time.monotonic() - began
    return {
        "empty node under load: ready after s": round(ready, 2),
        "empty node under load: has all after s": round(caught_up, 2),
        **_latencies("while it catches up", [*load.calm, *load.during]),
    }


def measure(jobs: int, folder: Path | None) -> dict[str, Any]:
    with SizeCluster(folder) as cluster:
        client = exkiq.connect(cluster.url)
        cluster.await_ready(client)
        figures: dict[str, Any] = {"jobs": jobs, "cores": os.cpu_count()}
        for text, step in (
            ("fill", lambda: _fill(jobs)),
            ("snapshots under load", lambda: _during_snapshots(cluster)),
            ("restart", lambda: _restarted(cluster, client)),
            ("empty node", lambda: _joined(cluster, client)),
        ):
            print(f"{text} ...", file=sys.stderr, flush=True)
            found = step()
            print(f"    {found}", file=sys.stderr, flush=True)
            figures |= found
            figures[f"{text}: journal on disk MiB"] = cluster.disk_mib("journal*")
            figures[f"{text}: memory at most MiB"] = cluster.memory_mib()
        figures["snapshot on disk MiB"] = cluster.disk_mib("snapshot")
        figures["log lines"] = _warnings(cluster.folder)
    return figures


def _warnings(folder: Path) -> list[str]:
    lines = [line for log in sorted(folder.glob("*.log")) for line in log.read_text().splitlines()]
    return [line for line in lines if re.search(r" (WARNING|ERROR|CRITICAL) ", line)][:40]


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/size", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000, help="jobs that wait")
    parser.add_argument("--folder", type=Path, help="where the nodes keep their data meanwhile")
    parser.add_argument("--json", action="store_true", help="print a map for machines")
    given = parser.parse_args()
    figures = measure(given.jobs, given.folder)
    if given.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:<50} {value}")


if __name__ == "__main__":
    main()
