"""Jobs of local queues that run until they are let go."""

from __future__ import annotations

import threading
from typing import Any

from exkiq import Job, Local, task


class Gate:
    """Whether a job runs, and whether it may end."""

    def __init__(self) -> None:
        self.is_running = threading.Event()
        self.is_open = threading.Event()

    @staticmethod
    def on(queue: Local) -> tuple[Gate, Any]:
        gate = Gate()

        @task(queue=queue)
        def wait() -> str:
            gate.is_running.set()
            gate.is_open.wait(20)
            return "let go"

        return gate, wait


def held_job(queue: Local) -> tuple[Gate, Job]:
    """A job of that queue that runs by now."""
    gate, wait = Gate.on(queue)
    job = wait.perform_async()
    assert gate.is_running.wait(5)
    return gate, job
