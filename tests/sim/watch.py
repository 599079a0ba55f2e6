"""The checks from outside: every applied entry of every node, every leader, every commit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from exkiq.errors import ExkiqError
from exkiq.machine import Applied
from tests.sim.disk import Disk
from tests.sim.model import Model
from tests.sim.node import SimNode
from tests.sim.pool import Run
from tests.sim.violation import Violation


@dataclass(frozen=True)
class Fact:
    """What one index of the log holds, and the state after it."""

    term: int
    body: bytes
    state_hash: str


class Watch:
    """Compares the nodes with each other, with their disks and with the model."""

    def __init__(self, disks: dict[str, Disk], now: Callable[[], float]) -> None:
        self.model = Model()
        self.log = {1: Fact(0, b"", "")}  # each node begins with this entry by itself
        self.last = 1  # the highest index applied anywhere
        self.leaders: dict[int, tuple[str, int]] = {}
        self.runs: list[Run] = []
        self.stopped: list[tuple[SimNode, BaseException]] = []
        self.trace = hashlib.blake2b(digest_size=16)
        self.leadings = 0
        self._disks, self._now = disks, now
        self._commits: dict[tuple[str, int], tuple[int, int]] = {}
        self._lost: dict[str, set[int]] = {}

    def note(self, *facts: object) -> None:
        """A line of the trace."""
        self.trace.update(repr((round(self._now(), 6), *facts)).encode())

    # ---- what a node applies -----------------------------------------------------------------

    def applied(self, node: SimNode, applied: Applied) -> None:
        machine, journal = node.replica.machine, node.replica.journal
        index = machine.index
        body, at, term = journal[index - journal.first_index]
        if at != index:
            raise Violation("H12 gap", f"{node.name} applied {index}, its log has {at} there")
        fact = Fact(term, body, machine.state_hash)
        known = self.log.get(index)
        self._grows(node, index)
        if known is None:
            self._first(node, index, fact, applied)
        elif (known.term, known.body) != (term, body):
            raise Violation(
                "H12 log", f"{node.name} applied another entry {index}: {term}, not {known.term}"
            )
        elif known.state_hash != fact.state_hash:
            raise Violation("H12 state", f"{node.name} after entry {index}")
        self.note(node.name, node.host.life, index, fact.state_hash)

    def _first(self, node: SimNode, index: int, fact: Fact, applied: Applied) -> None:
        if index != self.last + 1:
            raise Violation("H12 gap", f"{node.name} applied {index} after {self.last}")
        at = node.host.local
        holders = [d.name for d in self._disks.values() if d.holds(index, fact.term, at)]
        if len(holders) <= len(self._disks) // 2:
            raise Violation(
                "P1 majority", f"{node.name} applied entry {index}, durable on {holders} only"
            )
        self.log[index], self.last = fact, index
        self.model.apply(index, fact.body, applied)
        self._conserved(node)

    def _conserved(self, node: SimNode) -> None:
        counts, expected = node.replica.machine.counts(), self.model.counts()
        counts["waiting"] = counts["queued"] + counts["scheduled"] + counts["retry"]
        for name, number in expected.items():
            if counts[name] != number:
                raise Violation("H11", f"entry {self.last}: {counts[name]} {name}, not {number}")

    def _grows(self, node: SimNode, index: int) -> None:
        key, commit = (node.name, node.host.life), node.replica.commit_index
        before = self._commits.get(key, (0, 0))
        if commit < before[0] or index <= before[1]:
            raise Violation("H12 commit", f"{key} went from {before} to {(commit, index)}")
        self._commits[key] = commit, index

    def installed(self, node: SimNode) -> None:
        machine = node.replica.machine
        known = self.log.get(machine.index)
        if known is None:
            raise Violation("H12 gap", f"{node.name} installs {machine.index}, never applied")
        if known.state_hash != machine.state_hash:
            raise Violation("H12 state", f"{node.name} installs another state at {machine.index}")
        self.note(node.name, "installed", machine.index)

    # ---- leaders -----------------------------------------------------------------------------

    def leadership(self, node: SimNode) -> None:
        replica = node.replica
        self.note(node.name, "follows", replica.leader, replica.term)
        if replica.leader != node.name:
            return
        who = self.leaders.setdefault(replica.term, (node.name, node.host.life))
        if who != (node.name, node.host.life):
            raise Violation("H12 leaders", f"{who} and {node.name} lead in {replica.term}")
        self.leadings += 1
        self._complete(node, replica.term)

    def _complete(self, node: SimNode, term: int) -> None:
        """A leader has every entry that an earlier term committed."""
        journal, index = node.replica.journal, self.last
        while index and self.log[index].term >= term:
            index -= 1
        is_kept = index >= journal.first_index
        if is_kept and index and journal.term_at(index) != self.log[index].term:
            raise Violation("H1 leader", f"{node.name} leads {term} without entry {index}")

    def failed(self, node: SimNode, error: BaseException) -> None:
        self.note(node.name, "stops", type(error).__name__)
        self.stopped.append((node, error))

    # ---- disks -------------------------------------------------------------------------------

    def synced(self, disk: Disk) -> None:
        """A commit of a journal: nothing that is committed may go from where it was."""
        last, missing = self.last, self._lost.setdefault(disk.name, set())
        index = min(last, disk.entries[-1][1]) if disk.entries else 0
        held = disk.held_upto
        if held > index and last > index:
            gone = min(held, last)
            if gone not in missing:
                missing.add(gone)
                raise Violation("S3 vouched", f"{disk.name} dropped committed entry {gone}")
        disk.held_upto = self._matching(disk, held)

    def _matching(self, disk: Disk, held: int) -> int:
        """The highest index up to which the disk has what is committed."""
        index = held
        while index < self.last and disk.term_at(index + 1) in (0, self.log[index + 1].term):
            index += 1
        return index

    # ---- the end -----------------------------------------------------------------------------

    def check_ledger(self) -> int:
        """H6: each run stands under a claim; gives how many pairs of runs overlapped."""
        by_job: dict[str, list[Run]] = {}
        for run in self.runs:
            claim = self.model.claims.get((run.id, run.fence))
            if claim is None or claim[0] != run.node:
                raise Violation("H6", f"{run} under {claim}")
            by_job.setdefault(run.id, []).append(run)
        return sum(_overlaps(runs) for runs in by_job.values())


def _overlaps(runs: list[Run]) -> int:
    count = 0
    for position, one in enumerate(runs):
        for other in runs[position + 1 :]:
            if one.fence == other.fence:
                raise Violation("H6", f"{one.id} ran twice under one fence {one.fence}")
            if other.started < (one.ended if one.ended is not None else one.started):
                count += 1
    return count


def check_surely_not_done(model: Model, pids: Iterable[tuple[bytes, ExkiqError]]) -> None:
    """H2: what was surely not done left no trace."""
    for pid, error in pids:
        if pid in model.pids:
            raise Violation("H2", f"{pid.hex()} was {error!r}, and is entry {model.pids[pid]}")
