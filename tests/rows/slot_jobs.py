"""Workers that show what a slot is. Files in SLOTS_FOLDER are how they and their tests meet."""

# ruff: noqa: ASYNC251 - see above; and some block on purpose

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import weakref
from pathlib import Path
from typing import Any, ClassVar

import exkiq
from exkiq import SuccessMode, Worker, task
from exkiq.pool import JobContext


def at(name: str) -> Path:
    return Path(os.environ["SLOTS_FOLDER"]) / name


def note(name: str, text: str) -> None:
    with at(name).open("a") as file:
        file.write(text + "\n")


COUNTING = threading.Lock()


def count_in(name: str) -> int:
    """How many came here, this one included; no two are the same."""
    with COUNTING:
        note(name, threading.current_thread().name)
        return len(at(name).read_text().splitlines())


def wait_for(name: str) -> None:
    while not at(name).exists():
        time.sleep(0.002)


class Kept(Worker, queue="default"):
    """Each instance has a number; a job may wait, and fail."""

    def init(self) -> int:
        return count_in("kept")

    def perform(self, gate: str = "", fails: bool = False) -> list[int]:
        if gate:
            note("waiting", gate)
            wait_for(gate)
        if fails:
            raise ValueError("broken")
        return [self.state, os.getpid(), threading.get_ident()]


class AsyncKept(Worker):
    async def init(self) -> int:
        return count_in("async kept")

    async def perform(self, fails: bool = False) -> list[int]:
        if fails:
            raise ValueError("broken")
        return [self.state, os.getpid(), threading.get_ident()]


class Database(Worker, init_retry_seconds=0.05):
    """Its init fails until there is a file."""

    def init(self) -> str:
        note("database", threading.current_thread().name)
        if not at("up").exists():
            raise SystemExit("no server")
        return "connected"

    def perform(self) -> str:
        return str(self.state)


class AsyncDatabase(Worker, init_retry_seconds=0.05):
    async def init(self) -> str:
        await asyncio.sleep(0)
        if not at("up").exists():
            raise KeyboardInterrupt
        return "connected"

    async def perform(self) -> str:
        return str(self.state)


class Few(Worker, init_retry_seconds=3600):
    """Two instances can be made, and no third."""

    def init(self) -> None:
        if count_in("few") > 2:
            raise ConnectionError("too many connections")

    def perform(self, gate: str = "") -> int:
        if gate:
            note("many", gate)
            wait_for(gate)
        return threading.get_ident()


class Healing(Worker, init_retry_seconds=3600):
    """Asks for another try itself, from a thread of its own."""

    tries = 0

    def init(self) -> int:
        self.tries += 1
        note("healing", str(time.monotonic()))
        if self.tries < 4:
            raise ConnectionError("not yet")
        return self.tries

    def failed_init(self, error: BaseException) -> None:
        note("failed_init", str(error))
        if at("heal").exists():
            self.reinitialize()
        else:
            threading.Thread(target=self.later, daemon=True).start()

    def later(self) -> None:
        wait_for("heal")
        self.reinitialize()

    def perform(self) -> int:
        return int(self.state)


class AsyncHealing(Worker, init_retry_seconds=3600):
    tries = 0

    async def init(self) -> int:
        self.tries += 1
        if self.tries < 3:
            raise ConnectionError("not yet")
        return self.tries

    async def failed_init(self, error: BaseException) -> None:
        await asyncio.sleep(0)
        threading.Thread(target=self.reinitialize, daemon=True).start()

    async def perform(self) -> int:
        return int(self.state)


class Clumsy(Worker, init_retry_seconds=0.05):
    """Its failed_init is broken too."""

    tries = 0

    def init(self) -> int:
        self.tries += 1
        if self.tries < 3:
            raise ConnectionError("not yet")
        return self.tries

    def failed_init(self, error: BaseException) -> None:
        raise ZeroDivisionError("clumsy")

    def perform(self) -> int:
        return int(self.state)


class Printer(Worker, queue="printers"):
    def init(self, host: str, port: int) -> list[Any]:
        return [host, port, threading.get_ident()]

    def perform(self) -> list[Any]:
        note("printing", "one")
        wait_for("print")
        return list(self.state)


exkiq.pool("printers", Printer, init_args=("laser", 9100), slots=3)


class Lonely(Worker, isolation="process"):
    def perform(self, name: str = "") -> int:
        if name:
            os.kill(os.getpid(), signal.Signals[name])
            time.sleep(60)
        return os.getpid()


class Deaf(Worker, isolation="process"):
    """Does not listen when it is stopped."""

    def perform(self) -> None:
        note("deaf", str(os.getpid()))
        time.sleep(60)


class Patient(Worker):
    """Ends once it is told to stop."""

    def perform(self) -> str:
        note("patient", self.job.id)
        while not self.is_stopping:
            time.sleep(0.002)
        raise InterruptedError("stopped in the middle")


class Sleeper(Worker):
    async def perform(self) -> None:
        note("sleeper", self.job.id)
        await asyncio.sleep(60)


class Keen(Worker):
    """Ends well although it was stopped."""

    async def perform(self) -> str:
        note("keen", self.job.id)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "done all the same"


class Saving(Worker):
    """Says how far it is when the node drains."""

    page = 0

    def perform(self) -> None:
        self.page = 7
        note("saving", self.job.id)
        time.sleep(60)

    def on_shutdown(self) -> dict[str, int]:
        return {"page": self.page}


class AsyncSaving(Worker):
    page = 0

    async def perform(self) -> None:
        self.page = 8
        note("saving", self.job.id)
        await asyncio.sleep(60)

    async def on_shutdown(self) -> dict[str, int]:
        await asyncio.sleep(0)
        return {"page": self.page}


class ClumsySaving(AsyncSaving):
    async def on_shutdown(self) -> dict[str, int]:
        raise ZeroDivisionError("no page")


class Quick(Saving):
    """Ends in the time of the drain, and is not asked."""

    def perform(self) -> None:
        note("saving", self.job.id)
        while not self.is_stopping:
            time.sleep(0.002)

    def on_shutdown(self) -> dict[str, int]:
        note("asked", "too much")
        return {}


class Record(SuccessMode):
    def succeeded(self, success: exkiq.success_modes.Success) -> None:
        if success.value == "raise":
            raise ZeroDivisionError("mode broke")
        words = [success.id, str(success.value), str(success.waited_ms), str(success.run_ms)]
        note("successes", " ".join(words))


class Recorded(Worker, success_mode=Record):
    def perform(self, value: str) -> str:
        time.sleep(0.02)
        return value


class Logged(Worker, success_mode=exkiq.success_modes.Log):
    async def perform(self, value: str) -> str:
        return value


@task
def count_to(number: int, gate: str) -> None:
    for i in range(number + 1):
        exkiq.progress({"done": i})
    wait_for(gate)


@task
def too_much() -> None:
    exkiq.progress("x" * 5000)


@task
async def block_loop(seconds: float) -> str:
    note("blocking", "now")
    time.sleep(seconds)
    return "blocked"


@task
async def quick() -> int:
    return os.getpid()


@task
def hold(name: str) -> str:
    note("held", name)
    wait_for(name)
    return name


class Failing(Worker):
    """Its instances are large, and counted while they live."""

    alive: ClassVar[weakref.WeakSet[Failing]] = weakref.WeakSet()

    def init(self) -> bytearray:
        gc.disable()
        Failing.alive.add(self)
        return bytearray(1_000_000)

    def perform(self, kind: str) -> None:
        try:
            {}["first"]
        except KeyError as error:
            if kind == "chain":
                raise ValueError("second") from error
        if kind == "exit":
            raise SystemExit(3)
        if kind == "interrupt":
            raise KeyboardInterrupt
        raise ValueError(kind)

    @task
    def count(self) -> int:
        return len(Failing.alive)


class AsyncFailing(Worker):
    alive: ClassVar[weakref.WeakSet[AsyncFailing]] = weakref.WeakSet()

    def init(self) -> None:
        gc.disable()
        AsyncFailing.alive.add(self)

    async def perform(self, kind: str) -> None:
        await asyncio.sleep(0)
        if kind == "cancel":
            raise asyncio.CancelledError
        raise ValueError(kind)

    @task
    async def count(self) -> int:
        return len(AsyncFailing.alive)


class Hooked(Worker):
    def before(self, job: JobContext) -> None:
        note("hooks", f"before {job.id}")
        if job.id == "refused":
            raise PermissionError("not today")

    async def after(self, job: JobContext, outcome: Any) -> None:
        note("hooks", f"after {job.id} {outcome.state} {type(outcome.error).__name__}")
        if job.id == "loud":
            raise ZeroDivisionError("after broke")

    def perform(self, kind: str) -> str:
        if kind == "fail":
            raise ValueError("broken")
        if kind == "die":
            os._exit(9)
        return kind
