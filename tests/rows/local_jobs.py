"""Tasks for local queues, and the program that is killed."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import exkiq
from exkiq import Local, Worker

HELD_SECONDS_MAX = 30.0


@exkiq.task
def held(gate: str) -> str:
    """Runs until the gate is open."""
    Path(gate + ".running").touch()
    end = time.monotonic() + HELD_SECONDS_MAX
    while not Path(gate).exists() and time.monotonic() < end:
        time.sleep(0.005)
    return gate


@exkiq.task
def double(number: int) -> int:
    return 2 * number


class Note(Worker, queue=Local("notes")):
    """Writes down which of its jobs ran."""

    def init(self) -> list[object]:
        return []

    def perform(self, number: int) -> list[object]:
        self.state.append(number)
        return list(self.state)


def main(file: str, gate: str) -> None:
    queue = Local("kept", durable=file, concurrency=1)
    held.set(queue=queue, id="held").perform_async(gate)
    exkiq.queue(queue)  # it is known by now
    double.set(queue=queue, id="later").perform_in(4, milliseconds=1)
    double.set(queue=queue, id="done").perform_async(21)
    while not Path(gate + ".running").exists():
        time.sleep(0.005)
    sys.stdout.write("running\n")
    sys.stdout.flush()
    time.sleep(HELD_SECONDS_MAX)


class OnNode(Worker, queue=Local("desk")):
    """Every node that loads this module has a queue `desk` of its own."""

    def perform(self, number: int) -> list[object]:
        return [number, self.job.queue, os.getpid()]


class OnlyOnSecond(Worker, queue=Local("own", node="n2")):
    def perform(self) -> str:
        return "own"
