"""Row HL-19: jobs that fail in every way leave the node, its queues and its memory as they were."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import exkiq
from exkiq import errors
from tests.cluster.harness import Cluster, cluster, until
from tests.rows.kept_jobs import Good, bad_jobs

COUNT = int(os.environ.get("EXKIQ_TEST_CHAOS", "200"))
"""1,000 is the row's number; the tests do with fewer deaths, each of which costs a process."""

HEAVY = COUNT // 5 if COUNT >= 1_000 else 3
WARM_UP = 200 if COUNT >= 1_000 else COUNT // 2
SECONDS_MAX = COUNT / 2
GROWTH_MAX = 0.1


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One process of `exkiq start` on disk."""
    folder = tmp_path_factory.mktemp("chaos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEDGER", str(folder / "ledger"))
        with cluster(folder, 1, "--concurrency", "4", app="tests.rows.kept_jobs") as made:
            yield made


def resident_kib(pid: int) -> int:
    """Memory of one process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def fail(count: int, heavy: int) -> None:
    """Have so many jobs fail, and wait until the last one has ended."""
    before = exkiq.stats(consistent=True)
    for worker, kind in bad_jobs(count, heavy):
        worker.perform_async(kind)

    def ended() -> int:
        stats = exkiq.stats()
        return sum(stats[state] - before[state] for state in ("failed", "succeeded"))

    until(lambda: ended() == count, SECONDS_MAX, f"the end of {count} jobs")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
@pytest.mark.timeout(SECONDS_MAX * 2 + 60)
def test_HL_19_failing_jobs_of_every_kind_leave_the_node_as_it_was(node: Cluster) -> None:
    process, client = node.processes["n1"], node.client()
    share = WARM_UP / COUNT
    fail(WARM_UP, round(HEAVY * share))
    warm = resident_kib(process.pid)
    fail(COUNT - WARM_UP, HEAVY - round(HEAVY * share))
    assert Good.call(timeout=20) == process.pid  # the process of the beginning, and it takes jobs
    assert process.poll() is None
    end = resident_kib(process.pid)
    print(
        f"{COUNT} failing jobs, {HEAVY} of them the death of their process: {warm} KiB resident"
        f" after {WARM_UP}, {end} KiB at the end ({(end - warm) / warm:+.1%})"
    )
    assert end <= warm * (1 + GROWTH_MAX)
    queue = client.queue("chaos").stats()
    assert (queue.queued, queue.running, queue.retry, queue.scheduled) == (0, 0, 0, 0)
    kinds = {status.error.type for status in exkiq.failed.jobs(limit=COUNT) if status.error}
    assert kinds >= {"ValueError", "SystemExit", "KeyboardInterrupt", "CancelledError", "TypeError"}
    assert "JobTimeout" in kinds
    text = (node.folder / "n1.log").read_text()
    assert "ended this node's session" not in text
    assert "cannot go on" not in text
    with pytest.raises(errors.JobFailed):
        exkiq.job(exkiq.failed.jobs(limit=1)[0].id).result()
