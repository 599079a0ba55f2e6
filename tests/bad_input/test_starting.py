"""Mistakes of someone who starts a node: a line that names the thing and the way out, exit 2."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import exkiq
from exkiq.cli import main
from exkiq.errors import ConfigError, DataError, OutcomeUnknown, Unavailable
from tests.cluster.harness import ROOT, cluster, name_of_cluster
from tests.cluster.jobs import Note

APPS = {
    "fine": "from exkiq import Worker\nclass W(Worker):\n    def perform(self): pass\n",
    "slow": "import time\nprint('loading', flush=True)\ntime.sleep(60)\n",
    "broken": "def (:\n",
    "raising": "raise ValueError('no database')\n",
    "leaving": "raise SystemExit(3)\n",
    "dying": "import os\nos._exit(7)\n",
    "empty": "x = 1\n",
}


def start(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`exkiq start` that is expected to end by itself."""
    command = [sys.executable, "-m", "exkiq", "start", *arguments]
    path = os.pathsep.join([str(ROOT), str(folder)])
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder), "HOME": str(folder)}
        | {"PYTHONPATH": path, "EXKIQ_PROCESSES": "1", **environ},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def told(ended: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """The line for the user; nothing else is on the screen, least of all a traceback."""
    assert ended.returncode == code, ended.stderr
    return the_line(ended.stdout + ended.stderr)


def the_line(text: str) -> str:
    assert "Traceback" not in text, text
    lines = [line for line in text.splitlines() if line.startswith("exkiq: ")]
    assert len(lines) == 1, text
    return lines[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in APPS.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("module", "named"),
    [
        ("missing", "no such module"),
        ("broken", "SyntaxError"),
        ("raising", "no database"),
        ("leaving", "SystemExit"),
        ("dying", "exit code 7"),
        ("empty", "no worker"),
        ("fine.py", "module"),
        ("../fine", "module"),
    ],
)
def test_a_module_that_cannot_be_used(folder: Path, module: str, named: str) -> None:
    line = told(start(folder, module))
    assert module in line
    assert named in line


@pytest.mark.parametrize(
    ("module", "said", "number"),
    [("slow", "loading", signal.SIGINT), ("fine", "is ready", signal.SIGTERM)],
    ids=["APP loads", "others are waited for"],
)
def test_a_start_that_is_broken_off(
    folder: Path, module: str, said: str, number: signal.Signals
) -> None:
    """While APP loads, and while others are waited for: it ends at once, its children too."""
    command = [sys.executable, "-m", "exkiq", "start", module, "--bootstrap-expect", "3"]
    with subprocess.Popen(
        [*command, "--no-mdns", "--memory", "--processes", "1"],
        cwd=folder,
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        text = ""
        assert process.stdout is not None
        while said not in text:
            line = process.stdout.readline()
            assert line, text
            text += line
        began = time.monotonic()
        process.send_signal(number)
        text += process.communicate(timeout=15)[0]  # ends when the children let go of it too
    assert process.returncode == 0, text
    assert "Traceback" not in text
    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("concurrency = ", "not TOML"),
        ("concurency = 3", "concurency"),
        ("concurrency = 'x'", "concurrency"),
        ("[web]\nport = 1", "web"),
        ("\x00", "file.toml"),
        ("name = '\N{SNOWMAN}'", "name"),
    ],
    ids=["cut", "misspelt", "type", "table", "zero", "name"],
)
def test_a_settings_file_that_is_wrong(
    tmp_path: Path, text: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file.toml"
    file.write_text(text)
    assert main(["start", "fine", "--config", str(file)]) == 2
    line = the_line(capsys.readouterr().err)
    assert named in line
    assert "file.toml" in line


def test_a_settings_file_that_is_no_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file.toml"
    file.write_bytes(b"\xff\xfe\x00")
    for path in (file, tmp_path, tmp_path / "nowhere"):
        assert main(["start", "fine", "--config", str(path)]) == 2
        assert str(path) in the_line(capsys.readouterr().err)


def node(**settings: Any) -> exkiq.Node:
    """A node of this process; a fault of the ground it stands on is told as by `exkiq start`."""
    return exkiq.Node(**{"concurrency": 0, "mdns": False, "memory": True} | settings)


def test_a_port_that_is_taken(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        assert place in told(start(folder, "fine", "--bind", place))


def test_an_address_of_another_machine() -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1:7411"):
        node(bind="192.0.2.1:7411", insecure=True).start()


def test_a_data_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(ConfigError, match=str(place)):
            node(data_dir=place, memory=False).start()


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a node that ran a job and was stopped."""
    folder = tmp_path_factory.mktemp("used")
    with cluster(folder, 1) as c:
        c.client()
        assert Note.perform_async(1).result(timeout=10) == 1
        c.kill("n1", how=15)
    return folder / "n1"


def test_a_data_folder_of_another_node(used: Path) -> None:
    its_name = name_of_cluster(used.parent)
    for name, cluster_name in (("n2", its_name), ("n1", "default")):
        with pytest.raises(ConfigError, match=f"belongs to node 'n1' of cluster '{its_name}'"):
            node(data_dir=used, memory=False, name=name, cluster=cluster_name).start()


def damages() -> Iterator[tuple[str, str]]:
    yield from (("journal", "noise"), ("journal", "cut"), ("journal", "middle"))
    yield from (("snapshot", "noise"), ("snapshot", "empty"))
    yield from (("journal-mark", "cut"), ("founding.msgpack", "noise"))


@pytest.mark.parametrize(("part", "how"), list(damages()))
def test_a_damaged_data_folder(
    tmp_path: Path, used: Path, part: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the check nor a start may take it for sound, nor repair it by forgetting jobs."""
    data = tmp_path / "data"
    shutil.copytree(used, data)
    path = data / part
    size = path.stat().st_size if path.exists() else 0
    spoilt = {
        "noise": os.urandom(max(size, 100)),
        "empty": b"",
        "cut": path.read_bytes()[: size // 2] if size else b"",
        "middle": b"",
    }[how]
    if how == "middle":
        content = bytearray(path.read_bytes())
        content[100:size] = os.urandom(size - 100)
        spoilt = bytes(content)
    path.write_bytes(spoilt)
    with pytest.raises(DataError, match=str(path)):
        node(data_dir=data, memory=False, name="n1", cluster=name_of_cluster(used.parent)).start()
    assert main(["check", "--data-dir", str(data)]) == 1
    assert str(path) in the_line(capsys.readouterr().err)
    assert path.read_bytes() == spoilt


def test_a_founding_that_is_gone(
    tmp_path: Path, used: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The node would found a second cluster of its name, and take jobs there."""
    data = tmp_path / "data"
    shutil.copytree(used, data)
    (data / "founding.msgpack").unlink()
    with pytest.raises(DataError, match=f"the journal in {data} is of cluster"):
        node(data_dir=data, memory=False, name="n1", cluster=name_of_cluster(used.parent)).start()
    assert main(["check", "--data-dir", str(data)]) == 1
    assert str(data) in the_line(capsys.readouterr().err)
    assert not (data / "founding.msgpack").exists()


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)],  # noqa: S607
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)  # noqa: S607


def test_a_full_disk(tmp_path: Path, tiny: Path) -> None:
    """The node stops with a line; what was acknowledged is there when there is room again."""
    with cluster(tmp_path, 1, "--data-dir", str(tiny / "n1")) as c:
        c.client().enqueue_timeout = 1.0
        later = Note.set(queue="later")
        jobs = later.perform_bulk([(number,) for number in range(3)])
        (tiny / "ballast").write_bytes(bytes(tiny_rest(tiny)))
        with pytest.raises((Unavailable, OutcomeUnknown)):
            later.perform_bulk([(number, "x" * 100_000) for number in range(50)])
        assert c.processes["n1"].wait(15) == 1
        assert "Traceback" not in c.logs()
        assert "disk is full" in c.logs()
        (tiny / "ballast").unlink()
        c.start()
        c.wait_ready()
        c.client()
        assert [job.status().state for job in jobs] == ["queued"] * 3
        assert Note.perform_async(1).result(timeout=10) == 1


def tiny_rest(place: Path) -> int:
    found = os.statvfs(place)
    return max(0, found.f_bavail * found.f_frsize - 300_000)
