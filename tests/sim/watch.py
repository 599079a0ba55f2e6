"""The checks from outside: every applied entry of every node, every leader, every commit."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from exkiq.errors import ExkiqError
from exkiq.machine import Applied, Machine
from exkiq.queues.views import queues_map
from tests.sim.board import LATER, PARKED, RUNNING
from tests.sim.disk import Disk
from tests.sim.model import Model
from tests.sim.node import SimNode
from tests.sim.pool import Run
from tests.sim.violation import Violation

COMPARED_EVERY = 50  # entries
SKEW_MS = 50  # between the clock of the leader and that of the node that runs a job


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
        self.has_steps = False  # a wall clock was set: no two of them can be compared
        self._disks, self._now = disks, now
        self._commits: dict[tuple[str, int], tuple[int, int]] = {}
        self._told: list[tuple[bytes, list[str], object]] = []
        self._lost: dict[str, set[int]] = {}

    def note(self, *facts: object) -> None:
        """A line of the trace."""
        self.trace.update(repr((round(self._now(), 6), *facts)).encode())

    # ---- what a node applies -----------------------------------------------------------------

    def applied(self, node: SimNode, applied: Applied | None) -> None:
        """An entry, and what the product did; None for a change of members."""
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

    def _first(self, node: SimNode, index: int, fact: Fact, applied: Applied | None) -> None:
        if index != self.last + 1:
            raise Violation("H12 gap", f"{node.name} applied {index} after {self.last}")
        self._is_durable(node, index, fact.term)
        self.log[index], self.last = fact, index
        self.model.apply(index, fact.term, fact.body, applied)
        self.conserved(node)
        if index % COMPARED_EVERY == 0:
            self.compare(node)

    def _is_durable(self, node: SimNode, index: int, term: int) -> None:
        """On the disks of a majority, before or after the change of voters that is under way."""
        disks, at = self._disks, node.host.local
        holders = {name for name in disks if disks[name].holds(index, term, at)}
        newest, committed = set(node.replica.voters), self.model.voters
        for voters in (newest, committed):
            if 2 * len(voters & holders) > len(voters):
                return
        text = f"{node.name} applied entry {index}, durable on {sorted(holders)} of"
        raise Violation("P1 majority", f"{text} {sorted(newest)}, {sorted(committed)}")

    def conserved(self, node: SimNode) -> None:
        """H11: no job is counted twice or not at all."""
        counts, expected = node.replica.machine.counts(), self.model.counts()
        counts["waiting"] = counts["queued"] + counts["scheduled"] + counts["retry"]
        for name, number in expected.items():
            if counts[name] != number:
                raise Violation("H11", f"entry {self.last}: {counts[name]} {name}, not {number}")

    def compare(self, node: SimNode) -> None:
        """H4, H5, H9: every job of a node that applied all stands where the model has it."""
        machine, model = node.replica.machine, self.model
        running = {r.id: r.fence for s in machine.sessions.values() for r in s.running.values()}
        self._same(node, "running", running, {i: j.fence for i, j in model.places[RUNNING].items()})
        later = sorted(i for queue in machine.queues.values() for i in queue.later)
        self._same(node, "later", later, sorted(model.places[LATER]))
        parked = sorted(i for lane in machine.parked.values() for i in lane)
        self._same(node, "parked", parked, sorted(model.places[PARKED]))
        self._same(node, "failed", list(machine.failed), list(model.places["failed"]))
        lanes = {(q.name, p): list(q.lanes[p]) for q in machine.queues.values() for p in q.lanes}
        for lane in {*lanes, *model.lanes}:
            self._same(node, str(lane), lanes.get(lane, []), model.in_order(lane))
        carts = {name: (cart.state, cart.steps) for name, cart in model.carts.items()}
        self._same(node, "session jobs", _carts(machine), carts)
        self._same(node, "queues", _shown(machine), _expected(model, machine.queues))
        members = {n: (m.address, m.incarnation, m.role) for n, m in machine.members.items()}
        self._same(node, "members", members, model.members)

    def _same(self, node: SimNode, what: str, here: object, there: object) -> None:
        if here != there:
            raise Violation("H11 place", f"{node.name} at {self.last}, {what}: {here} not {there}")

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
        key = (node.name, node.host.life)
        self._commits[key] = self._commits.get(key, (0, 0))[0], machine.index
        self.note(node.name, "installed", machine.index)

    # ---- what clients are told ---------------------------------------------------------------

    def told(self, pid: bytes, ids: list[str], answer: object) -> None:
        """A node says that this was done."""
        self.note("acknowledged", pid)
        self._told.append((pid, ids, answer))

    def check_told(self) -> None:
        """H1, H3: what was acknowledged is in the log, with that answer."""
        told, self._told = self._told, []
        for pid, ids, answer in told:
            lost = [job_id for job_id in ids if job_id not in self.model.jobs]
            if lost or pid not in self.model.answers:
                raise Violation("H1", f"{pid!r} was acknowledged, {lost or pid!r} is nowhere")
            if answer not in self.model.answers[pid]:
                there = self.model.answers[pid]
                raise Violation("H3", f"{pid!r} was answered {answer!r}, the log has {there!r}")

    # ---- leaders -----------------------------------------------------------------------------

    def leadership(self, node: SimNode) -> None:
        replica, key = node.replica, (node.name, node.host.life)
        if replica.machine.index > max(1, self._commits.get(key, (0, 0))[1]):
            self.applied(node, None)
        self.note(node.name, "follows", replica.leader, replica.term)
        if replica.leader != node.name:
            return
        self.leadings += 1
        self._leads(node)
        self._complete(node, replica.term)

    def check_leaders(self, nodes: Iterable[SimNode]) -> None:
        """Also those who have not said it yet."""
        for node in nodes:
            if node.replica.leader == node.name:
                self._leads(node)

    def _leads(self, node: SimNode) -> None:
        """H12: one leader a term, and one life of it."""
        term, me = node.replica.term, (node.name, node.host.life)
        who = self.leaders.setdefault(term, me)
        if who != me:
            raise Violation("H12 leaders", f"{who} and {node.name} lead in {term}")

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
        """H6, H8: each run stands under a claim; gives how many pairs of runs overlapped."""
        by_job: dict[str, list[Run]] = {}
        for run in self.runs:
            claim = self.model.claims.get((run.id, run.fence))
            if claim is None or claim[0] != run.node:
                raise Violation("H6", f"{run} under {claim}")
            early_ms = self.model.due.get((run.id, run.fence), 0) - run.started_ms
            if early_ms > SKEW_MS and not self.has_steps:
                raise Violation("H8", f"{run} {early_ms} ms too early")
            by_job.setdefault(run.id, []).append(run)
        return sum(_overlaps(runs) for runs in by_job.values())


def _carts(machine: Machine) -> dict[str, tuple[bytes | None, list[str]]]:
    """The state of each session job and its steps, in order."""
    found = {}
    for name, job in machine.session_jobs.items():
        turns = [job.step, *job.mailbox]
        found[name] = job.state, [turn.step_id for turn in turns if turn is not None]
    return found


def _shown(machine: Machine) -> dict[str, list[object]]:
    """What people are shown of the queues: waiting, running, failed, paused."""
    found: dict[str, list[object]] = {}
    for name, shown in queues_map(machine, machine.now_ms).items():
        assert isinstance(name, str)
        assert isinstance(shown, dict)
        waiting = sum(int(str(shown[state])) for state in ("queued", "scheduled", "retry"))
        found[name] = [waiting, shown["running"], shown["failed"], shown["paused"]]
    return found


def _expected(model: Model, names: Iterable[str]) -> dict[str, list[object]]:
    jobs = [job for lane in model.lanes.values() for job in lane.values()]
    jobs += [*model.places[LATER].values(), *model.places[PARKED].values()]
    waiting = Counter(job.queue for job in jobs)
    running = Counter(job.queue for job in model.places[RUNNING].values())
    failed = Counter(job.queue for job in model.places["failed"].values())
    return {n: [waiting[n], running[n], failed[n], model.paused[n]] for n in names}


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
