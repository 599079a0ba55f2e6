"""The three nodes of the demo: processes that this one starts, watches and kills."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

NAMES = ("n1", "n2", "n3")
HERE = Path(__file__).resolve().parent


class Nodes:
    """Starts `exkiq start workers` three times; they find each other by mDNS on loopback."""

    def __init__(self, folder: Path, cluster: str, smtp: str) -> None:
        self.folder = folder
        self._cluster = cluster
        self._smtp = smtp
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        for name in NAMES:
            self.running[name] = self._start(name)

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                # `exkiq start`, but ended by the kernel should the demo itself be killed
                [sys.executable, "-m", "exkiq.cli.attended", *self.arguments(name)],
                cwd=HERE,
                env={
                    **{key: text for key, text in os.environ.items() if key[:6] != "EXKIQ_"},
                    "EXKIQ_NAME": name,
                    "DEMO_SMTP": self._smtp,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def arguments(self, name: str) -> list[str]:
        """What comes after `exkiq` on the command line; the name is in EXKIQ_NAME."""
        return [
            *("start", "workers", "--cluster", self._cluster, "--bootstrap-expect", "3"),
            *("--data-dir", str(self.folder / name), "--processes", "1", "--concurrency", "4"),
        ]

    def kill(self, name: str) -> None:
        """SIGKILL: no goodbye, no hand-over."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def ended(self) -> str | None:
        """What became of a node that ended by itself, None while all live."""
        for name, process in self.running.items():
            if process.poll() is not None:
                lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
                return "\n".join([f"{name} ended with code {process.returncode}:", *lines[-15:]])
        return None

    def stop(self) -> None:
        """The first SIGTERM lets jobs finish, the second does not wait."""
        for seconds in (1, 10):
            for process in self.running.values():
                process.terminate()
            for process in self.running.values():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(seconds)
        for process in self.running.values():
            process.kill()
            process.wait()
        self.running.clear()
