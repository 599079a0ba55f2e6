"""Rows about local queues and the life of their process: files, kills, forks, its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exkiq import Local, task
from exkiq.errors import (
    ConfigError,
    SerializationError,
)
from exkiq.local.registry import registry
from tests.cluster.harness import until
from tests.rows import local_jobs
from tests.rows.local_jobs import double, held

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _no_queue_is_left() -> Iterator[None]:
    yield
    registry.forget()


# ---- HD-T3: durable ----------------------------------------------------------------------------


@pytest.fixture
def killed(tmp_path: Path) -> tuple[Path, Path]:
    """The file and the gate of a program that was killed while a job ran."""
    file, gate = tmp_path / "kept.db", tmp_path / "gate"
    program = f"from tests.rows.local_jobs import main; main({str(file)!r}, {str(gate)!r})"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        with pytest.raises(ConfigError, match=r"kept\.db is in use by another process"):
            Local("kept", durable=file, concurrency=1).start()
        process.send_signal(signal.SIGKILL)
    return file, gate


def test_HD_T3_after_kill_9_the_jobs_are_there_and_what_ran_runs_again(
    killed: tuple[Path, Path],
) -> None:
    """A crash would lose what was acknowledged."""
    file, gate = killed
    gate.touch()
    queue = Local("kept", durable=file, concurrency=1).start()
    job = queue.job("held")
    assert job.result() == str(gate)
    assert [job.status().attempt, job.status().lost] == [1, 1]
    assert [queue.job("done").result(), queue.job("later").result()] == [42, 8]
    registry.close()
    assert Local("kept").job("done").result() == 42


def test_HD_T3_what_a_restart_cannot_find_is_refused(tmp_path: Path) -> None:
    """A job would be kept that nothing can ever run."""
    queue = Local("strict", durable=tmp_path / "strict.db")
    with pytest.raises(SerializationError, match=r"lambda.*strict\.db"):
        task(queue=queue)(lambda: 1).perform_async()
    assert double.set(queue=queue).call(2) == 4


def test_HD_T3_a_drain_hands_back_what_does_not_end(tmp_path: Path) -> None:
    """The end of a program would lose the job that runs, or count it as failed."""
    queue = Local("drained", durable=tmp_path / "q.db")
    gate = tmp_path / "gate"
    job = held.set(queue=queue, id="held").perform_async(str(gate))
    until(Path(f"{gate}.running").exists, 5.0)
    registry.close(0.0)
    gate.touch()
    again = queue.start().job(job.id)
    assert again.result() == str(gate)
    assert [again.status().attempt, again.status().lost] == [1, 0]


# ---- the process -------------------------------------------------------------------------------


def in_child(work: Callable[[], Any]) -> Any:
    """What `work` gives in a child made by fork."""
    here, there = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = work()
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(there, json.dumps(answer).encode())
        os._exit(0)
    os.close(there)
    with os.fdopen(here) as pipe:
        answer = json.loads(pipe.read())
    os.waitpid(pid, 0)
    return answer


def test_HG_03_a_child_after_a_fork_has_queues_of_its_own(tmp_path: Path) -> None:
    """A forked server would wait for threads that are not there."""
    queue = Local("forked")
    durable = Local("forked-file", durable=tmp_path / "q.db")
    job = double.set(queue=queue).perform_async(1)
    assert [job.result(), double.set(queue=durable).call(2)] == [2, 4]
    assert in_child(lambda: double.set(queue=queue).call(5)) == 10
    assert "NotRunning" in in_child(lambda: job.result(timeout=1))
    assert "in use by another process" in in_child(lambda: double.set(queue=durable).call(1))
    assert [double.set(queue=queue).call(3), double.set(queue=durable).call(4)] == [6, 8]


def test_HG_03_at_exit_running_jobs_end_and_the_rest_is_named() -> None:
    """A script would end in the middle of a job, or lose others without a word."""
    script = """
import threading, time, exkiq
from exkiq import Local
gate = threading.Event()
@exkiq.task(queue=Local("q", concurrency=1))
def slow(n):
    gate.set(); time.sleep(0.2); print("ended", n, flush=True)
for n in range(3):
    slow.perform_async(n)
gate.wait(5)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=20
    )
    assert ended.stdout == "ended 0\n"
    assert "2 jobs" in ended.stderr
    assert ended.returncode == 0


def test_HD_T3_the_end_of_a_forked_child_leaves_the_file_alone(tmp_path: Path) -> None:
    """A worker of a prefork server that ends would take along what its parent writes later."""
    script = f"""
import os
from exkiq import Local
from tests.rows.local_jobs import double
handle = double.set(queue=Local("q", durable={str(tmp_path / "q.db")!r}))
handle.call(1)
if os.fork() == 0:
    raise SystemExit
os.wait()
handle.set(id="later").call(2)
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=20, check=False)
    queue = Local("q", durable=tmp_path / "q.db").start()
    assert queue.job("later").result() == 4


assert local_jobs  # imported by its name after a restart
