"""Rows about what local queues survive: user code of all kinds, a full disk, kill -9 under load."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import exkiq
from exkiq import Local, task
from exkiq.errors import JobFailed, NotRunning, OutcomeUnknown
from exkiq.local.registry import registry
from exkiq.success_modes import Success, SuccessMode
from tests.cluster.harness import until
from tests.rows.local_jobs import double
from tests.rows.test_local_slots import Crashing

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _no_queue_is_left() -> Iterator[None]:
    yield
    registry.forget()


# ---- HG-03: user code of every kind ------------------------------------------------------------


async def leaves_in_a_task() -> str:
    async def leave() -> None:
        raise SystemExit(3)

    task = asyncio.create_task(leave())
    await asyncio.wait([task])
    assert isinstance(task.exception(), SystemExit)
    return "alive"


async def is_interrupted() -> str:
    def interrupt() -> None:
        raise KeyboardInterrupt

    asyncio.get_running_loop().call_soon(interrupt)
    await asyncio.sleep(0)
    return "alive"


async def stops_the_loop() -> str:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.001)
    return "alive"


@pytest.mark.parametrize("work", [leaves_in_a_task, is_interrupted, stops_the_loop])
def test_HG_03_what_ends_a_loop_does_not_end_that_of_the_jobs(work: Any) -> None:
    """One job would take the loop away from all others, and every queue would stand still."""
    assert task(queue=Local("loop"))(work).call() == "alive"
    assert double.set(queue=Local("loop")).call(2) == 4


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_HG_03_what_ends_a_process_fails_the_job(error: BaseException) -> None:
    """A job would end the program that enqueued it, or be lost."""

    def plain() -> None:
        raise error

    async def on_loop() -> None:
        raise error

    for each in (plain, on_loop):
        with pytest.raises(JobFailed, match=type(error).__name__):
            task(queue=Local("ends"), retries=0)(each).call()


class Leaving(Crashing):
    def check_out(self, job: Any) -> str | None:
        raise SystemExit


def test_HG_03_a_dispatcher_that_leaves_does_not_stop_the_queue() -> None:
    """The thread of the queue would be gone."""
    queue = Local("leaving", dispatcher="tests.rows.test_local_life:Leaving")
    assert double.set(queue=queue).call(1) == 2


def test_HG_03_nothing_is_left_when_the_queues_end() -> None:
    """A program that uses queues now and then would gather threads, and files that are open."""
    registry.forget()
    threads, files = threading.active_count(), open_files()
    queue = Local("left", concurrency=3)
    gate = threading.Event()
    hangs = task(queue=queue, timeout=0.01, retries=0)(lambda: gate.wait(20))
    waits = task(queue=queue)(_for_ever)
    for _ in range(2):
        for job in [hangs.perform_async(), *double.set(queue=queue).perform_bulk([(1,)] * 6)]:
            until(partial(outcome_of, job), 5.0)
        waits.perform_async()
        registry.close(0.0)
        gate.set()
    until(lambda: threading.active_count() <= threads, 5.0, "threads")
    until(lambda: open_files() <= files, 5.0, "files")


async def _for_ever() -> None:
    await asyncio.sleep(60)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def outcome_of(job: exkiq.Job) -> str | None:
    state = job.status().state
    return state if state in ("succeeded", "failed") else None


# ---- HG-03: the end of the process -------------------------------------------------------------


class Telling(SuccessMode):
    """Takes longer than the process has left."""

    def __init__(self) -> None:
        self.told: list[Success] = []

    def succeeded(self, success: Success) -> None:
        time.sleep(0.05)
        self.told.append(success)


def test_HG_03_success_modes_are_asked_before_the_end() -> None:
    """The last jobs of a script would succeed, and nobody be told."""
    mode = Telling()
    gate, started = threading.Event(), threading.Event()

    def last() -> int:
        started.set()
        gate.wait(20)
        return 7

    task(queue=Local("last"), success_mode=mode)(last).perform_async()
    assert started.wait(5)
    gate.set()
    registry.close()
    assert [success.value for success in mode.told] == [7]


def test_HD_T3_a_job_may_enqueue_while_the_process_ends(tmp_path: Path) -> None:
    """The next link of a chain would be refused, since its file is in use, and the job fail."""
    queue = Local("chain", durable=tmp_path / "chain.db", concurrency=1)
    gate, running = tmp_path / "gate", tmp_path / "running"
    first = chained.set(queue=queue).perform_async(str(gate), str(running))
    until(running.exists, 5.0)
    ending = threading.Thread(target=registry.close)
    ending.start()
    household = registry._households[tmp_path / "chain.db"]
    until(lambda: not household._runners["chain"]._is_taking, 5.0, "it drains")
    gate.touch()
    ending.join()
    queue.start()
    assert queue.job("second").result() == 4
    assert queue.job(first.id).status().attempt == 1


@task
def chained(gate: str, running: str) -> None:
    Path(running).touch()
    until(Path(gate).exists, 20.0)
    double.set(queue=Local("chain"), id="second").perform_async(2)


# ---- HD-T3: the disk ---------------------------------------------------------------------------


def test_HD_T3_a_full_disk_is_told_to_all_who_wait(tmp_path: Path) -> None:
    """Who waits for a result would wait for ever, and each enqueue take half a minute to fail."""
    program = f"""
import resource, signal, threading
from exkiq import Local, errors
from tests.rows.local_jobs import double
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
handle = double.set(queue=Local("q", durable={str(tmp_path / "q.db")!r}))
late = handle.perform_in(1, hours=1)
seen, waited = [], []
def wait():
    try:
        late.result(timeout=None)
    except errors.ExkiqError as error:
        waited.append(error)
waiting = threading.Thread(target=wait)
waiting.start()
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
for number in range(10):
    try:
        handle.perform_in([0] * 50_000, hours=1)
    except errors.ExkiqError as error:
        seen.append(error)
waiting.join()
told = [*waited, *seen]
print(*(type(error).__name__ for error in told[:3]), len(set(map(str, told))), told[-1])
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=20
    )
    first, second, third, count, *text = ended.stdout.split(" ", 4)
    assert {first, second} == {OutcomeUnknown.__name__}
    assert (third, count) == (NotRunning.__name__, "1")
    assert "q.db" in text[0]
    assert "free the disk" in text[0]


# ---- HD-T3: kill -9 under load -----------------------------------------------------------------

LOAD = """
import sys, threading
from exkiq import Local
from tests.rows.local_jobs import double
handle = double.set(queue=Local("load", durable=sys.argv[1], concurrency=4), result_ttl=3600)
def put(thread):
    for number in range(100_000):
        sys.stdout.write(handle.perform_async(number).id + f" {2 * number}\\n")
        sys.stdout.flush()
for thread in range(3):
    threading.Thread(target=put, args=(thread,)).start()
"""


def test_HD_T3_kill_9_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Who was told that a job is kept would never see it run."""
    acknowledged: dict[str, int] = {}
    for _ in range(2):  # the second one goes on where the first was killed
        command = [sys.executable, "-c", LOAD, str(tmp_path / "load.db")]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if not line.endswith("\n"):
                    break  # half a line: cut off
                job_id, value = line.split()
                acknowledged[job_id] = int(value)
                if len(acknowledged) % 150 == 0:
                    process.send_signal(signal.SIGKILL)
    assert len(acknowledged) >= 300
    queue = Local("load", durable=tmp_path / "load.db", concurrency=4).start()
    values = exkiq.result_many([queue.job(job_id) for job_id in acknowledged], timeout=15)
    assert [each.value for each in values] == list(acknowledged.values())


def test_HD_T3_a_file_is_of_the_release_that_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a release added would be refused in local queues, where nobody else has to know it."""
    double.set(queue=Local("q", durable=tmp_path / "q.db")).call(1)
    registry.close()
    monkeypatch.setattr("exkiq.machine.schema.SCHEMA", 2)
    double.set(queue=Local("q")).call(1)
    assert registry._households[tmp_path / "q.db"]._rooms.machine.schema == 2
    registry.close()
