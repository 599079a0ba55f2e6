"""Workers for the tests with real processes."""

import os
import time
from pathlib import Path

from exkiq import Worker, current_job


def note(*words: object) -> None:
    """One line to the ledger of this run, whole or not at all."""
    line = " ".join(map(str, words)) + "\n"
    descriptor = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def ledger() -> list[list[str]]:
    path = Path(os.environ["LEDGER"])
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


class Note(Worker, queue="notes"):
    def perform(self, number: int, seconds: float = 0.0) -> int:
        note("start", number, time.time())
        time.sleep(seconds)
        note("end", number, time.time())
        return number


class AsyncNote(Worker, queue="notes"):
    async def perform(self, number: int) -> int:
        note("start", number, time.time())
        return number * 2


class Failing(Worker, queue="notes", retries=2, backoff=0.1):
    def perform(self, number: int) -> None:
        job = current_job()
        note("start", number, job.attempt if job else 0)
        raise ValueError(f"no {number}")


class Dying(Worker, queue="notes", retries=1, backoff=0.1):
    def perform(self, number: int) -> None:
        note("start", number, os.getpid())
        os._exit(9)
