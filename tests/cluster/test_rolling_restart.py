"""A release: every node is stopped and started again while work goes on."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from pathlib import Path

from tests.cluster.harness import Cluster, cluster, until
from tests.cluster.jobs import AsyncNote, ledger

EVERY_SECONDS = 0.05


class Enqueuer(threading.Thread):
    """Twenty jobs a second, each due at its time whatever became of the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.is_over = threading.Event()
        self.waits: list[float] = []
        self.jobs: list[str] = []

    def run(self) -> None:
        due = time.monotonic()
        while not self.is_over.wait(max(0.0, due - time.monotonic())):
            self.jobs.append(AsyncNote.perform_async(len(self.jobs)).id)
            self.waits.append(time.monotonic() - due)
            due += EVERY_SECONDS


def is_whole(c: Cluster) -> bool:
    """Every node sees all three alive, and knows who leads."""
    found = [c.status(name)["cluster"] for name in c.names]
    states = [member["state"] for each in found for member in each["members"]]
    return states == ["alive"] * 9 and all(each["leader"] for each in found)


def test_a_rolling_restart_under_load_costs_no_enqueue_and_starts_no_job_twice(
    tmp_path: Path,
) -> None:
    """A deploy would be an outage, or mails would go out twice."""
    with cluster(tmp_path) as c:
        client = c.client()
        enqueuer = Enqueuer()
        enqueuer.start()
        for name in c.names:
            c.kill(name, how=signal.SIGTERM)
            c.start(name)
            until(lambda: is_whole(c), what=f"{name} is back")
        enqueuer.is_over.set()
        enqueuer.join(10)
        assert not enqueuer.is_alive()
        until(lambda: client.stats()["succeeded"] == len(enqueuer.jobs), what="all jobs")
        assert [c.processes[name].returncode for name in c.names] == [None] * 3
    starts = Counter(row[1] for row in ledger() if row[0] == "start")
    assert len(enqueuer.jobs) >= 3 / EVERY_SECONDS / 2
    assert starts == {str(number): 1 for number in range(len(enqueuer.jobs))}
    assert max(enqueuer.waits) < 2.0
