"""What takes a process of its own: forks, imports, interpreters that end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.api.fake_node import FakeCluster, FakeNode

ROOT = Path(__file__).resolve().parents[2]

FORKS = """
import os, sys, threading
import exkiq
from tests.api.api_app import Add

exkiq.connect(sys.argv[1])
job = Add.set(id="parent-1").perform_async(1)
hammering = threading.Event()
over = threading.Event()

def hammer():
    while not over.is_set():
        Add.perform_async(0)
        hammering.set()

threads = [threading.Thread(target=hammer) for _ in range(3)]
for thread in threads: thread.start()
hammering.wait()

children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        Add.set(id=f"child-{number}").perform_async(2)
        again = os.fork()
        if again == 0:
            Add.set(id=f"grandchild-{number}").perform_async(3)
            sys.exit(0 if job.status().state == "queued" else 5)
        _, status = os.waitpid(again, 0)
        Add.perform_bulk([(number,)] * 5)
        sys.exit(os.waitstatus_to_exitcode(status))
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
over.set()
for thread in threads: thread.join()
Add.set(id="parent-2").perform_async(4)
print(codes, job.status().state)
"""

IMPORTS = """
import sys, threading
import exkiq
from exkiq import Worker, task, Job, JobStatus, current_job, connect, queue, job, stats, errors
class Mine(Worker):
    def perform(self): ...
loaded = [name for name in sys.modules if name.split(".")[0] in (
    "pysyncobj", "zeroconf", "typer", "rich", "uvloop", "sqlite3")]
loaded += [name for name in ("exkiq.node", "exkiq.raft", "exkiq.aggregator", "exkiq.discovery")
    if name in sys.modules]
print(loaded, threading.active_count(), callable(exkiq.task), callable(exkiq.job))
import exkiq.task, exkiq.job
from exkiq.task import load_app
print(callable(exkiq.task), callable(exkiq.job), callable(load_app))
"""


def run(code: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_a_child_made_by_fork_has_links_of_its_own(cluster: FakeCluster, node: FakeNode) -> None:
    """A prefork server's workers write into each other's connection, or hang."""
    assert run(FORKS, node.url) == "[0, 0, 0] queued\n"
    named = {job_id for job_id in cluster.jobs if "-" in job_id}
    children = {f"{kind}-{number}" for kind in ("child", "grandchild") for number in range(3)}
    assert children | {"parent-1", "parent-2"} == named


def test_importing_opens_nothing_and_loads_no_node() -> None:
    """A web application that only enqueues pays for a whole node, or starts threads."""
    assert run(IMPORTS) == "[] 1 True True\nTrue True True\n"


def test_every_module_imports_alone() -> None:
    """A module works only because another one was imported before it."""
    names = "worker task job client inspect handle inline runnable options orders requests"
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)"
    modules = [f"exkiq.{name}" for name in f"{names} seeker connection bridge rendezvous".split()]
    assert run(code, *modules) == ""
