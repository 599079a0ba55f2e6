"""The APP that the children of these tests run."""

# ruff: noqa: ASYNC110, ASYNC240 - files are how these jobs and their tests meet

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exkiq.failure_modes import ExponentialRetry
from exkiq.pool.context import current_job
from tests.pool.pool_loader import TestTask

QUEUES = ("default", "emails")


def noop() -> None:
    return None


async def anoop() -> None:
    return None


def echo(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


async def aecho(*args: Any, **kwargs: Any) -> Any:
    await asyncio.sleep(0)
    return [list(args), kwargs]


def hold(path: str, gate: str) -> str:
    """Says that it runs by making `path`, and ends when `gate` is there."""
    Path(path).touch()
    while not Path(gate).exists():
        time.sleep(0.002)
    return "held"


async def ahold(path: str, gate: str) -> str:
    Path(path).touch()
    try:
        while not Path(gate).exists():
            await asyncio.sleep(0.002)
    except asyncio.CancelledError:
        Path(path + ".cancelled").touch()
        raise
    return "held"


async def astubborn(path: str) -> None:
    """Does not let itself be cancelled."""
    Path(path).touch()
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


def save_and_hold(path: str, gate: str, value: Any) -> None:
    job = current_job()
    assert job is not None
    job.save_checkpoint(value)
    hold(path, gate)


async def asave_and_hold(path: str, gate: str, value: Any) -> None:
    job = current_job()
    assert job is not None
    job.save_checkpoint(value)
    await ahold(path, gate)


def about_me() -> list[Any]:
    job = current_job()
    assert job is not None
    return [
        job.id,
        job.attempt,
        job.fence,
        job.queue,
        job.enqueued_at,
        job.checkpoint,
        job.is_stopping,
    ]


async def aabout_me() -> list[Any]:
    return about_me()


def pid_and_hold(path: str, gate: str) -> None:
    Path(path).write_text(str(os.getpid()))
    hold(path, gate)


async def afinish_when_cancelled(path: str) -> str:
    Path(path).touch()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(0)
    return "finished"


async def aforever() -> None:
    await asyncio.sleep(60)


def until_stopping(path: str) -> str:
    job = current_job()
    assert job is not None
    Path(path).touch()
    while not job.is_stopping:
        time.sleep(0.002)
    return "saw it"


def fail(text: str = "broken") -> None:
    raise ValueError(text)


async def afail(text: str = "broken") -> None:
    raise ValueError(text)


def leave(code: int = 3) -> None:
    sys.exit(code)


async def aleave(code: int = 3) -> None:
    sys.exit(code)


def interrupt() -> None:
    raise KeyboardInterrupt


async def ainterrupt() -> None:
    raise KeyboardInterrupt


async def cancel_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


def stop_iteration() -> None:
    raise StopIteration(7)


class Nasty(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def nasty() -> None:
    raise Nasty


def surrogate() -> None:
    raise ValueError("\ud800 is no text")


def deep(depth: int = 400) -> None:
    if depth == 0:
        raise ValueError("the bottom")
    deep(depth - 1)


def die(code: int) -> None:
    os._exit(code)


def kill_itself(name: str) -> None:
    os.kill(os.getpid(), signal.Signals[name])
    time.sleep(60)


def signals_are_held() -> bool:
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    return os.getsid(0) == os.getpid()


def inheritable() -> list[int]:
    """The descriptors that a program started here would have."""
    return [fd for fd in range(3, 64) if is_open(fd) and os.get_inheritable(fd)]


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def large(size: int) -> bytes:
    return bytes(size)


def not_encodable() -> Any:
    return object()


def block(path: str) -> None:
    Path(path).touch()
    threading.Event().wait(60)


async def block_loop(path: str) -> None:
    Path(path).touch()
    time.sleep(60)  # noqa: ASYNC251 - that is the point


def pid() -> int:
    return os.getpid()


class Counting:
    made = 0

    def __init__(self) -> None:
        Counting.made += 1
        self.number = Counting.made
        self.jobs = 0


def count(instance: Counting, is_broken: bool = False) -> list[int]:
    if is_broken:
        raise ValueError("broken")
    instance.jobs += 1
    return [instance.number, instance.jobs]


async def acount(instance: Counting, is_broken: bool = False) -> list[int]:
    return count(instance, is_broken)


def broken_make() -> Any:
    raise ConnectionError("no server")


def raising_decide(attempt: int, retries: int, error: BaseException) -> Any:
    raise TypeError("bad backoff")


def rubbish_decide(attempt: int, retries: int, error: BaseException) -> Any:
    return ["explode"]


def own_decide(attempt: int, retries: int, error: BaseException) -> Any:
    job = current_job()
    assert job is not None
    mode = ExponentialRetry(9, base=3, jitter=0)
    if type(error).__name__ == "JobTimeout":
        return ["move", "timeouts"]
    return mode.decide(job, error, attempt, 0.0)


NOTED: list[Any] = []


def before(instance: Any, job: Any) -> None:
    NOTED.append(["before", job.id])


async def abefore(instance: Any, job: Any) -> None:
    await asyncio.sleep(0)
    NOTED.append(["before", job.id])


def after(instance: Any, job: Any, ended: Any) -> None:
    NOTED.append([ended.state, ended.value, type(ended.error).__name__])


async def aafter(instance: Any, job: Any, ended: Any) -> None:
    await asyncio.sleep(0)
    after(instance, job, ended)


def noted() -> list[Any]:
    seen = list(NOTED)
    NOTED.clear()
    return seen


FUNCTIONS: list[Callable[..., Any]] = [
    noop, echo, hold, save_and_hold, about_me, until_stopping, fail, leave, interrupt,
    stop_iteration, nasty, surrogate, deep, die, kill_itself, signals_are_held, inheritable, large,
    not_encodable, block, pid, pid_and_hold, noted,
]  # fmt: skip
COROUTINES: list[Callable[..., Any]] = [
    anoop, aecho, ahold, astubborn, asave_and_hold, aabout_me, afail, aleave, ainterrupt,
    cancel_itself, block_loop, afinish_when_cancelled, aforever,
]  # fmt: skip

TASKS = [
    *(TestTask(function.__name__, function) for function in FUNCTIONS),
    *(TestTask(function.__name__, function, is_async=True) for function in COROUTINES),
    TestTask("count", count, make=Counting),
    TestTask("acount", acount, is_async=True, make=Counting),
    TestTask("broken_make", echo, make=broken_make),
    TestTask("raising_decide", fail, decide_it=raising_decide),
    TestTask("rubbish_decide", fail, decide_it=rubbish_decide),
    TestTask("own_decide", fail, decide_it=own_decide),
    TestTask("own_block", block, decide_it=own_decide),
    TestTask("aown_hold", ahold, is_async=True, decide_it=own_decide),
    TestTask("hooked", echo, before=before, after=after),
    TestTask("hooked_async_hooks", echo, before=abefore, after=aafter),
    TestTask("ahooked", aecho, is_async=True, before=abefore, after=aafter),
    TestTask("hooked_fail", fail, before=before, after=after),
    TestTask("before_raises", echo, before=lambda instance, job: fail("before broke")),
    TestTask("after_raises", echo, after=lambda instance, job, ended: fail("after broke")),
]
