"""Children that die, and nodes that do."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from exkiq.pool import crew
from tests.pool.harness import ROOT, job, started, until


def test_a_job_that_kills_its_child_fails_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """A poisonous job would run for ever, or fail without saying why, or wear the pool out."""
    deaths = [("die", 7), ("kill_itself", "SIGKILL"), ("kill_itself", "SIGSEGV")]

    async def main() -> None:
        async with started() as (pool, box):
            for task, argument in deaths:
                name = str(argument)
                pool.run([job(name, task, argument, attempt=2)])
                await box.until_ended(name)
                await box.until(lambda: pool.free == 4)

                _, _, decision, (kind, message, _), _ = box.failed[name]
                assert decision[0] == "retry"
                assert 3000 <= decision[1] <= 3300, "the second failure of the default rule"
                assert kind == "ChildDied"
                assert f"exit code {name}" in message or f"killed by {name}" in message
            pool.run([job("good", "echo")])
            await box.until_ended("good")

            assert "good" in box.values

    asyncio.run(main())
    records = [r for r in caplog.records if hasattr(r, "exkiq_job")]
    assert [r.exkiq_job for r in records] == [str(argument) for _, argument in deaths]
    assert all("ChildDied" in r.exkiq_crash_reason for r in records)  # type: ignore[attr-defined]


def test_several_jobs_of_a_dead_child_are_lost_and_then_run_alone(tmp_path: Path) -> None:
    """An innocent job would be failed; or the culprit would take others along again."""

    async def main() -> None:
        async with started(processes=2, concurrency=2) as (pool, box):
            gate = str(tmp_path / "gate")
            # To each child two: one has the culprit in it.
            pool.run([job(n, "hold", str(tmp_path / n), gate) for n in ("a", "b", "c")])
            await until(lambda: all((tmp_path / n).exists() for n in "abc"))
            pool.run([job("bad", "die", 1)])
            await box.until_ended("bad")
            assert len(box.lost) == 2
            assert "bad" in box.lost
            other = next(name for name in box.lost if name != "bad")
            assert box.failed == {}

            # They come again. One child becomes theirs, one of them at a time.
            await box.until(lambda: pool.free == 2)
            (tmp_path / other).unlink()
            again = [job("bad", "die", 1, lost=1), job(other, "hold", str(tmp_path / other), gate)]
            box.ends.clear()
            pool.run(again)
            assert pool.free == 0, "the empty child is theirs, the other one is full"
            await box.until_ended("bad")
            assert box.failed["bad"][3][0] == "ChildDied"
            await until((tmp_path / other).exists)
            (tmp_path / "gate").touch()
            await box.until_ended("a", "b", "c")
            await box.until(lambda: pool.free == 4)

            assert len(box.lost) == 2
            assert {"a", "b", "c"} == set(box.values)

    asyncio.run(main())


def test_what_a_job_started_dies_with_its_child(tmp_path: Path) -> None:
    """A program of a dead job would go on beside the job's next run; and since it may hold the
    line open, the death would not be noticed."""
    (tmp_path / "forking_app.py").write_text(
        textwrap.dedent("""
        import os, time
        from pathlib import Path
        from tests.pool.pool_loader import TestTask
        def fork_and_die(path):
            if os.fork() == 0:
                Path(path).write_text(str(os.getpid()))
                time.sleep(60)
                os._exit(0)
            while not Path(path).exists() or not Path(path).read_text():
                time.sleep(0.002)
            os._exit(9)
        QUEUES = ["default"]
        TASKS = [TestTask("fork_and_die", fork_and_die)]
        """)
    )

    async def main() -> None:
        path = tmp_path / "pid"
        app = {"app": ("forking_app",), "sys_path": [str(tmp_path), ROOT]}
        async with started(**app) as (pool, box):
            pool.run([job("a", "fork_and_die", str(path))])
            await box.until_ended("a")

            assert "exit code 9" in box.failed["a"][3][1]
            await until(lambda: not is_alive(int(path.read_text())))

    asyncio.run(main())


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_a_child_that_dies_without_work_comes_back_later_and_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A child that cannot live would be started thousands of times; one that was killed by
    its job would be missed for longer and longer."""
    slept: list[float] = []
    sleep = asyncio.sleep

    async def short_sleep(delay: float) -> None:
        slept.append(delay)
        await sleep(0)

    monkeypatch.setattr(crew, "BACK_OFF_SECONDS", (0.0, 77.0, 88.0))
    monkeypatch.setattr(asyncio, "sleep", short_sleep)

    async def main() -> None:
        async with started(processes=1) as (pool, box):
            for _ in range(2):
                os.kill(pool._crew.children[0].pid, signal.SIGKILL)
                await box.until(lambda: pool.free == 0)
                await box.until(lambda: pool.free == 4)
            pool.run([job("a", "die", 1)])
            await box.until_ended("a")
            await box.until(lambda: pool.free == 4)

    asyncio.run(main())
    assert slept == [77.0, 88.0, 0.0]
    assert caplog.text.count("died (killed by SIGKILL) with 0 jobs") == 2


def test_the_waits_between_fruitless_starts_grow_to_a_limit() -> None:
    """The machine would be busy with nothing but starts."""
    waits = [crew.back_off(n) for n in range(20)]

    assert waits[0] == 0
    assert waits == sorted(waits)
    assert waits[-1] == max(crew.BACK_OFF_SECONDS)


def test_a_child_that_speaks_nonsense_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """User code that writes to the wrong descriptor would take the node along."""
    (tmp_path / "babbling_app.py").write_text(
        textwrap.dedent("""
        import os, stat, time
        from tests.pool.pool_loader import TestTask
        def babble(text):
            for fd in range(3, 30):
                try:
                    if stat.S_ISSOCK(os.fstat(fd).st_mode):
                        os.write(fd, text)
                except OSError:
                    pass
            time.sleep(60)
        QUEUES = ["default"]
        TASKS = [TestTask("babble", babble), TestTask("fine", lambda: 1)]
        """)
    )
    # A frame that is too long; an unknown word; a word without its rest.
    nonsense = [b"\xff\xff\xff\xff", b"\0\0\0\2\x91\x63", b"\0\0\0\2\x91\x04"]

    async def main() -> None:
        app = {"app": ("babbling_app",), "sys_path": [str(tmp_path), ROOT]}
        async with started(concurrency=1, **app) as (pool, box):
            for i, text in enumerate(nonsense):
                pool.run([job(f"j{i}", "babble", text)])
                await box.until_ended(f"j{i}")
                await box.until(lambda: pool.free == 1)
            pool.run([job("fine", "fine")])
            await box.until_ended("fine")

            assert {row[3][0] for row in box.failed.values()} == {"ChildDied"}
            assert len(box.failed) == len(nonsense)

    asyncio.run(main())
    assert caplog.text.count("does not speak our language") == len(nonsense)


@pytest.mark.parametrize("task", ["ahold", "block_loop"])
def test_children_end_when_their_node_is_killed(task: str, tmp_path: Path) -> None:
    """Jobs of a dead node would run on beside their second run elsewhere."""
    if task == "block_loop" and sys.platform != "linux":
        pytest.skip("needs PR_SET_PDEATHSIG")
    arguments = [str(tmp_path / "a"), "never"][: 2 if task == "ahold" else 1]
    program = f"""
import asyncio
from tests.pool.harness import make_pool, job
async def main():
    pool = make_pool(lambda report: None)
    await pool.start()
    pool.run([job("a", {task!r}, *{arguments!r})])
    print(pool._crew.children[0].pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    node = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert node.stdout is not None
        child = int(node.stdout.readline())
        asyncio.run(until((tmp_path / "a").exists))
        assert is_alive(child)
    finally:
        node.kill()
        node.communicate()
    asyncio.run(until(lambda: not is_alive(child)))
