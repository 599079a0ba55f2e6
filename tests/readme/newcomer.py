"""Someone with an empty home folder who does what the README says, block after block."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.readme.blocks import Block

BIN = Path(sys.executable).parent
READY_SECONDS_MAX = 30


class Newcomer:
    """Follows blocks in `folder`, which is home and working folder; `stop` ends the node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.node: subprocess.Popen[bytes] | None = None
        self.environ = {
            "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "LANG": "C.UTF-8",
            "EXKIQ_NAME": "n1",
            # other runs on this machine announce a cluster of this name as well
            "EXKIQ_MDNS": "false",
        }

    def follow(self, block: Block) -> None:
        getattr(self, f"do_{block.way}")(block)

    def do_file(self, block: Block) -> None:
        file = self.folder / block.argument
        file.parent.mkdir(exist_ok=True)
        file.write_text(block.text)
        if "__main__" in block.text:
            assert self._python(str(file)) == block.expected, f"line {block.line}"

    def do_start(self, block: Block) -> None:
        (command,) = block.commands
        with (self.folder / "node.log").open("wb") as log:
            self.node = subprocess.Popen(
                command.split(),
                cwd=self.folder,
                env=self.environ,
                executable=BIN / "exkiq",
                stdout=log,
                stderr=log,
            )
        self._await(lambda: self._run("exkiq status").returncode == 0)

    def do_python(self, block: Block) -> None:
        printed = self._python("-W", "error", "-c", block.text)
        assert printed == block.expected, f"line {block.line}"
        # the next block may look at what became of the jobs of this one
        self._await(self._is_idle)

    def do_pytest(self, block: Block) -> None:
        """Where no node can be reached: there is none that it could need."""
        (self.folder / block.argument).write_text(block.text)
        ran = self._run(f"EXKIQ_CLUSTER=none python -W error -m pytest -q {block.argument}")
        assert ran.returncode == 0, f"line {block.line}: {ran.stdout}"

    def do_shell(self, block: Block) -> None:
        ran = self._run(f"set -eu\n{block.text}")
        assert (ran.returncode, ran.stderr) == (0, ""), f"line {block.line}: {ran.stderr}"

    def do_environment(self, block: Block) -> None:
        check = "python -c 'from exkiq import Client; print(Client())'"
        ran = self._run(f"set -eu\n{block.text}\n{check}")
        assert "192.168.1.11:7411" in ran.stdout, f"line {block.line}: {ran.stderr}"

    def do_stopped(self, block: Block) -> None:
        assert self.stop() == 0, (self.folder / "node.log").read_text()
        self.do_shell(block)

    def stop(self) -> int | None:
        """SIGTERM, as a person or a service manager stops it; the exit code."""
        if self.node is None:
            return None
        node, self.node = self.node, None
        node.send_signal(signal.SIGTERM)
        try:
            return node.wait(20)
        except subprocess.TimeoutExpired:
            node.kill()
            return node.wait()

    def _run(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/bash", "-c", script],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _python(self, *arguments: str) -> list[str]:
        ran = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**self.environ, "PYTHONPATH": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
        return ran.stdout.splitlines()

    def _is_idle(self) -> bool:
        queues = json.loads(self._run("exkiq queues --json").stdout)
        served = [queues[name] for name in ("default", "emails") if name in queues]
        return not any(queue["queued"] or queue["running"] for queue in served)

    def _await(self, is_so: object) -> None:
        end = time.monotonic() + READY_SECONDS_MAX
        while not is_so():  # type: ignore[operator]
            log = (self.folder / "node.log").read_text()
            assert self.node is not None
            assert self.node.poll() is None, f"the node ended:\n{log}"
            assert time.monotonic() < end, f"not so after {READY_SECONDS_MAX} s:\n{log}"
            time.sleep(0.1)
