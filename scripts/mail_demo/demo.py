"""The demo's story: start, send, kill the leader half-way, count what arrived.

Exit code 0 only when every mail arrived and everything else went as told.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from nodes import NAMES, Nodes
from postbox import REFUSED, Postbox
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from workers import EmailWorker

import exkiq
from exkiq import AttemptError
from exkiq.errors import ExkiqError, JobFailed

START_SECONDS_MAX = 60
MAIL_SECONDS_MAX = 120
DELAY_SECONDS = 3
SECONDS_BETWEEN_MAILS = 0.015

console = Console(highlight=False)


class Story:
    """Runs the demo against three nodes and keeps what the final table shows."""

    def __init__(self, nodes: Nodes, postbox: Postbox, client: Any, mails: int) -> None:
        self.nodes, self.postbox, self.client, self.mails = nodes, postbox, client, mails
        self.sent: list[str] = []  # ids of the jobs that were acknowledged
        self.troubles: list[str] = []
        self.killed = ""
        self.next_leader = ""
        self.leaderless_seconds = 0.0
        self.late_seconds = -1.0
        self.failure: AttemptError | None = None

    def status(self) -> dict[str, Any] | None:
        """What a node says about the cluster; None while none answers."""
        trouble = self.nodes.ended()
        if trouble is not None:
            raise SystemExit(trouble)
        try:
            answer: dict[str, Any] = self.client.request("status", timeout=1.0)
        except (ExkiqError, TimeoutError):
            return None
        return answer

    def leader(self) -> str | None:
        """The living node that leads."""
        status = self.status()
        leader = status and status["cluster"]["leader"]
        return leader if leader in self.nodes.running else None

    def await_cluster(self) -> None:
        """Three living members and a leader."""
        end = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < end:
            status = self.status()
            members = status["cluster"]["members"] if status else []
            if sum(each["state"] == "alive" for each in members) == len(NAMES) and self.leader():
                return
            time.sleep(0.1)
        raise SystemExit(f"the nodes did not find each other within {START_SECONDS_MAX} s")

    def send(self) -> None:
        """Enqueue one mail after the other, through the death of the leader."""
        for number in range(1, self.mails + 1):
            to = f"reader-{number}@exkiq.example"
            try:
                self.sent.append(EmailWorker.perform_async(to, f"Letter {number}").id)
            except ExkiqError as error:
                self.troubles.append(f"mail {number} was not accepted: {error}")
            time.sleep(SECONDS_BETWEEN_MAILS)

    def deliver(self, progress: Progress) -> None:
        """Send from a thread of its own, and kill the leader when half has arrived."""
        enqueued = progress.add_task("enqueued", total=self.mails)
        delivered = progress.add_task("delivered", total=self.mails)
        sender = threading.Thread(target=self.send, daemon=True)
        sender.start()
        end = time.monotonic() + MAIL_SECONDS_MAX
        while time.monotonic() < end:
            arrived = len(self.postbox.delivered)
            progress.update(enqueued, completed=len(self.sent))
            progress.update(delivered, completed=arrived)
            if not self.killed and arrived >= self.mails // 2:
                self.kill_leader(progress)
            if arrived >= self.mails and not sender.is_alive():
                return
            time.sleep(0.02)

    def kill_leader(self, progress: Progress) -> None:
        """SIGKILL, and the time until another one leads."""
        self.killed = self.leader() or ""
        if not self.killed:
            return
        begun = time.monotonic()
        self.nodes.kill(self.killed)
        progress.console.print(f"  [bold red]{self.killed}[/] leads: killed with SIGKILL")
        while (leader := self.leader()) is None and time.monotonic() < begun + 30:
            time.sleep(0.01)
        self.leaderless_seconds = time.monotonic() - begun
        self.next_leader = leader or ""
        seconds = f"{self.leaderless_seconds:.2f}"
        progress.console.print(f"  [bold green]{leader or 'nobody'}[/] leads {seconds} s later")

    def delay(self) -> None:
        """One mail for later: how late does it start?"""
        due_ms = int(time.time() * 1000) + DELAY_SECONDS * 1000
        job = EmailWorker.perform_in("later@exkiq.example", "Later", seconds=DELAY_SECONDS)
        job.result(timeout=DELAY_SECONDS + 10)
        started_at = job.status().started_at
        if started_at is not None:
            self.late_seconds = started_at.timestamp() - due_ms / 1000

    def refuse(self) -> None:
        """One mail that the server refuses, with no retries: it ends in the failed set."""
        job = EmailWorker.set(retries=0).perform_async(REFUSED, "Refused")
        with contextlib.suppress(JobFailed):
            job.result(timeout=10)
        failed = exkiq.queue("emails").jobs(state="failed")
        self.failure = next((each.error for each in failed if each.id == job.id), None)

    def judge(self) -> bool:
        """Whether all went as it should; what did not is in `troubles`."""
        missing = set(self.sent) - set(self.postbox.delivered)
        checks = {
            f"{len(missing)} mails did not arrive": not missing,
            "no leader was killed": bool(self.killed),
            "nobody led after that": bool(self.next_leader),
            "the refused mail is not in the failed set": self.failure is not None,
            "the delayed mail did not start in its time": 0 <= self.late_seconds < 1,
        }
        self.troubles += [trouble for trouble, is_well in checks.items() if not is_well]
        return not self.troubles


def show(story: Story) -> None:
    """The final table, and the error of the mail that was refused."""
    counts = story.postbox.delivered
    ours = [counts[job] for job in story.sent]
    table = Table(box=box.ROUNDED, show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right", style="bold")
    for what, value in (
        ("mails enqueued", len(story.sent)),
        ("delivered", sum(count > 0 for count in ours)),
        ("delivered twice", sum(count > 1 for count in ours)),
        ("leader killed", story.killed),
        ("next leader", story.next_leader),
        ("seconds without a leader", f"{story.leaderless_seconds:.2f}"),
        *((f"mails sent by {name}", story.postbox.by_node[name]) for name in NAMES),
        (f"perform_in(seconds={DELAY_SECONDS}) late by", f"{story.late_seconds:.3f} s"),
    ):
        table.add_row(what, str(value))
    console.print(table)
    if story.failure is not None:
        console.print("in the failed set:", f"[bold]{story.failure.type}[/]", end=" ")
        console.print(story.failure.message, markup=False)


def play(folder: Path, mails: int) -> int:
    """Run the whole story in `folder`; returns the exit code."""
    cluster = folder.name
    # where `perform_async` looks for a node, and the nodes put their sockets
    os.environ |= {"EXKIQ_CLUSTER": cluster, "XDG_RUNTIME_DIR": str(folder)}
    postbox = Postbox()
    nodes = Nodes(folder, cluster, postbox.start())
    try:
        nodes.start()
        console.print("three nodes start and look for each other by mDNS on loopback ...")
        story = Story(nodes, postbox, exkiq.connect(), mails)
        story.await_cluster()
        console.print(f"  they are one cluster, [bold green]{story.leader()}[/] leads")
        columns = (
            TextColumn("  {task.description:>9}"),
            BarColumn(40),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console) as progress:
            story.deliver(progress)
        console.print("one mail for later, and one that the mail server refuses ...")
        story.delay()
        story.refuse()
        is_well = story.judge()
        show(story)
    finally:
        nodes.stop()
        postbox.stop()
    for trouble in story.troubles:
        console.print(f"[bold red]{trouble}[/]")
    if is_well:
        console.print("[bold green]every mail arrived[/]")
    return 0 if is_well else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--mails", type=int, default=300, help="mails to send (default: 300)")
    mails = parser.parse_args().mails
    with tempfile.TemporaryDirectory(prefix="exkiq-demo-") as folder:
        try:
            return play(Path(folder), mails)
        except (ExkiqError, TimeoutError) as error:
            console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
            return 1


if __name__ == "__main__":
    sys.exit(main())
