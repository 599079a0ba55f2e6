"""A node for the command line to talk to: answers from a table, and notes what it was asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack

from exkiq.wire.codec import encode_call

ERROR = ["ValueError", "not a safe address", "Traceback ...\nValueError: not a safe address"]


def job_map(**changes: Any) -> dict[str, Any]:
    """A failed job, as a node tells of it."""
    job = {
        "id": "job-1",
        "state": "failed",
        "task": "myapp.workers:Import.perform",
        "queue": "default",
        "args": encode_call(("http://example.org",), {"depth": 2}),
        "attempt": 3,
        "retries": 2,
        "retries_left": 0,
        "lost": 0,
        "fence": 17,
        "enqueued_at": 1_700_000_000_000,
        "run_at": None,
        "started_at": 1_700_000_001_000,
        "completed_at": 1_700_000_002_000,
        "by": "n2",
        "error": ERROR,
        "errors": [ERROR, ERROR],
    }
    return {**job, **changes}


QUEUE = {
    "queued": 1,
    "running": 2,
    "scheduled": 3,
    "retry": 4,
    "failed": 5,
    "paused": True,
    "latency_ms": 1234,
    "enqueued_total": 61,
    "succeeded_total": 62,
    "failed_total": 63,
    "retried_total": 64,
    "cancelled_total": 65,
    "lost_total": 66,
    "waited": {"count": 71, "mean_ms": 72, "p50_ms": 73, "p95_ms": 74, "max_ms": 75},
    "ran": {"count": 81, "mean_ms": 82, "p50_ms": 83, "p95_ms": 84, "max_ms": 85},
    "per_second_1m": 1.25,
    "per_second_5m": 0.5,
}
MEMBERS = [
    {"name": "n1", "address": "127.0.0.1:1", "role": "leader", "state": "alive", "applied": 9},
    {"name": "n2", "address": "127.0.0.1:2", "role": "follower", "state": "lost", "applied": None},
]
STATUS = {
    "node": "n1",
    "cluster": {"id": "c0ffee", "name": "default", "leader": "n1", "term": 3, "members": MEMBERS},
    "raft": {
        "commit_index": 9,
        "applied_index": 9,
        "age_ms": 4200,
        "log_length": 4,
        "state_hash": "abc123",
    },
    "queues": {"emails": QUEUE},
    "stats": {"queued": 1, "succeeded": 12345},
    "progress": {},
}


class PretendClient:
    """Stands for `exkiq.client.Client`; `answers` is by verb or operation code."""

    answers: dict[str | int, Any]
    asked: list[tuple[Any, ...]]

    def __init__(
        self,
        url: str | None,
        *,
        cluster: str | None,
        secret: bytes | None,
        tls: tuple[Path, Path, Path] | None,
    ) -> None:
        self.asked.append(("open", url, cluster, secret, tls))

    def __enter__(self) -> PretendClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.asked.append(("close",))

    def next_pid(self) -> bytes:
        return b"pid-pid-pid-"

    def request(self, verb: str, *arguments: Any, timeout: float) -> Any:
        self.asked.append((verb, *arguments))
        return self._answer(self.answers[verb])

    def propose(self, operation: bytes, about: str, timeout: float) -> Any:
        code, _, *rest = msgpack.unpackb(operation)
        self.asked.append((code, *rest))
        return self._answer(self.answers[code])

    def _answer(self, answer: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer.pop(0) if isinstance(answer, list) else answer
