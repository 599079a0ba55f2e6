"""The reference model: what the committed log means, written apart from the product.

It is fed every entry once, in order, with what the product says it did, and raises a
`Violation` where the two differ or a promise is broken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgpack

from exkiq.machine import Applied
from exkiq.machine.outcomes import Refused
from tests.sim.violation import Violation

LATER, WAITING, RUNNING, ENDED = "later", "waiting", "running", "ended"
STALE = "stale_term"
LEADERS_OWN = (2, 6, 8)
REMEMBERED = (9, 10, 11, 12, 13, 14)
REFUSED = object()


@dataclass(eq=False)
class Job:
    id: str
    queue: str
    priority: int
    retries: int
    max_lost: int
    run_at: int
    number: int
    state: str = LATER
    end: str = ""
    is_fresh: bool = True
    failures: int = 0
    lost: int = 0
    fence: int = 0
    session: int = 0
    runs: int = 0
    losses: int = 0  # redeliveries after lost nodes and children, over its whole life
    handed_back: int = 0
    revived: int = 0
    fences: list[int] = field(default_factory=list)
    index: int = 0


class Model:
    def __init__(self) -> None:
        self.index = self.term = self.now = self.number = self.last_session = 0
        self.jobs: dict[str, Job] = {}
        self.sessions: dict[str, tuple[int, str]] = {}
        self.fresh: dict[tuple[str, int], dict[str, Job]] = {}  # never claimed, in order
        self.paused: dict[str, bool] = {}
        self.known: dict[bytes, Any] = {}
        self.effects: dict[bytes, int] = {}  # pid -> index where it changed something
        self.pids: dict[bytes, int] = {}  # pid -> first index
        self.claims: dict[tuple[str, int], tuple[str, int]] = {}  # (id, fence) -> node, session
        self._answer: Any = None
        self._ended: list[str] = []
        self._claimed: list[tuple[str, str]] = []

    def apply(self, index: int, body: bytes, applied: Applied) -> None:
        self.index, self._ended, self._claimed = index, [], []
        if body[:1] != b"\x00":
            return
        _, now, term, *ops = msgpack.unpackb(body[1:])
        self.now, self.term = max(self.now, now), max(self.term, term)
        if len(ops) != len(applied.results):
            self._broken("H3", f"{len(ops)} operations, {len(applied.results)} results")
        for op, (pid, answer) in zip(ops, applied.results, strict=True):
            items = msgpack.unpackb(op)
            self.pids.setdefault(pid, index)
            self._answer = answer
            expected = self._expected(items, is_stale=term < self.term)
            is_refused = isinstance(answer, Refused)
            if (expected is REFUSED) != is_refused or not (is_refused or answer == expected):
                self._broken("H3", f"{items[:3]} answered {answer!r}, should be {expected!r}")
        self._compare(applied)

    def _compare(self, applied: Applied) -> None:
        ended = sorted(record.id for record in applied.ended)
        # retried within the entry it has not ended, and ended again after that it is told once
        expected = sorted({i for i in self._ended if self.jobs[i].state == ENDED})
        if ended != expected:
            self._broken("H4", f"ended {ended}, should be {expected}")
        claimed = [(c.node, record.id) for c in applied.claimed for record in c.records]
        if claimed != self._claimed:
            self._broken("H5", f"claimed {claimed}, should be {self._claimed}")
        for claim in applied.claimed:
            if claim.fence != self.index:
                self._broken("H5", f"fence {claim.fence}")

    def _broken(self, kind: str, text: str) -> None:
        raise Violation(kind, f"entry {self.index}: {text}")

    def _expected(self, items: list[Any], *, is_stale: bool) -> Any:
        code, pid, *rest = items
        if is_stale and code in LEADERS_OWN:
            return REFUSED
        is_once = code in REMEMBERED or (code == 1 and rest[-1] == 1)
        if is_once and pid in self.known:
            if self._answer != self.known[pid]:
                self._broken("H2 twice", f"operation {code} of pid {pid.hex()} is done again")
            return self.known[pid]
        verb = getattr(self, f"_op_{code}")
        answer = verb(*rest)
        if is_once and answer is not REFUSED:
            self.known[pid] = answer
        has_effect = answer not in (0, False, "not_found", "in_progress") and answer is not REFUSED
        if code == 1 and has_effect:
            has_effect = answer[0] > 0
        if has_effect and code in (1, 9, 10, 11, 12, 13, 14):
            if pid in self.effects:
                where = self.effects[pid]
                self._broken(
                    "H2 twice", f"operation {code} of pid {pid.hex()} had its effect at {where}"
                )
            self.effects[pid] = self.index
        return answer

    # ---- operations --------------------------------------------------------------------------

    def _op_1(
        self,
        spec: list[Any],
        ids: list[str],
        payloads: list[bytes],
        delay: int,
        at: int,
        flags: int,
    ) -> Any:
        _, queue, priority, retries, _, max_lost, _ = spec
        taken = [position for position, i in enumerate(ids) if i in self.jobs]
        if flags & 1 and taken:
            return REFUSED
        run_at = at or self.now + delay
        for job_id in ids:
            if job_id in self.jobs:
                continue
            self.number += 1
            job = Job(job_id, queue, priority, retries, max_lost, run_at, self.number)
            job.index = self.index
            self.jobs[job_id] = job
            if run_at <= self.now:
                self._to_lane(job)
        self.paused.setdefault(queue, False)
        return [len(ids) - len(taken), taken]

    def _op_2(self, grants: list[list[Any]]) -> int:
        count = 0
        firsts: dict[tuple[str, int], set[str]] = {}
        for node, session, ids in grants:
            if self.sessions.get(node, (0, ""))[0] != session:
                continue
            for job_id in ids:
                job = self.jobs.get(job_id)
                if job is not None and self._may_start(job):
                    self._start(job, node, session, firsts)
                    count += 1
        for lane, started in firsts.items():
            left = self.fresh[lane]
            due = {*left, *started}
            first = sorted(due, key=lambda i: self.jobs[i].number)[: len(started)]
            if set(first) != started:
                self._broken("H9", f"claims in {lane}: {sorted(started)} before {sorted(first)}")
        return count

    def _may_start(self, job: Job) -> bool:
        return job.state == WAITING and not self.paused[job.queue] and job.fence != self.index

    def _start(
        self, job: Job, node: str, session: int, firsts: dict[tuple[str, int], set[str]]
    ) -> None:
        if job.run_at > self.now:
            self._broken("H8", f"{job.id} starts {job.run_at - self.now} ms too early")
        if job.fences and self.index <= job.fences[-1]:
            self._broken("H5", f"fence {self.index} of {job.id} after {job.fences[-1]}")
        if job.is_fresh:
            lane = (job.queue, job.priority)
            del self.fresh[lane][job.id]
            firsts.setdefault(lane, set()).add(job.id)
            job.is_fresh = False
        job.state, job.fence, job.session = RUNNING, self.index, session
        job.fences.append(self.index)
        job.runs += 1
        allowed = (1 + job.revived) * (1 + job.retries) + job.losses + job.handed_back
        if job.runs > allowed:
            self._broken("H7", f"run {job.runs} of {job.id}, {allowed} allowed")
        self.claims[(job.id, self.index)] = node, session
        self._claimed.append((node, job.id))

    def _running(self, session: int, job_id: str, fence: int) -> Job | None:
        job = self.jobs.get(job_id)
        if job is None or (job.state, job.session, job.fence) != (RUNNING, session, fence):
            return None
        return job

    def _op_3(self, session: int, ids: list[str], fences: list[int], *_: Any) -> int:
        found = [self._running(session, i, f) for i, f in zip(ids, fences, strict=True)]
        jobs = [job for job in found if job is not None]
        for job in jobs:
            self._end(job, "succeeded")
        return len(jobs)

    def _op_4(self, session: int, failures: list[list[Any]]) -> int:
        count = 0
        for job_id, fence, decision, *_ in failures:
            job = self._running(session, job_id, fence)
            if job is None:
                continue
            count += 1
            job.failures += 1
            if decision[0] != "retry":
                self._end(job, "failed")
                continue
            self.number += 1
            job.number, job.run_at, job.state = self.number, self.now + decision[1], LATER
            if decision[1] == 0:
                job.state = WAITING
        return count

    def _op_5(self, session: int, ids: list[str], fences: list[int], _: Any, is_lost: bool) -> int:
        found = [self._running(session, i, f) for i, f in zip(ids, fences, strict=True)]
        jobs = [job for job in found if job is not None]
        for job in jobs:
            self._give_back(job, is_lost)
        return len(jobs)

    def _op_6(self) -> Any:
        due = [job for job in self.jobs.values() if job.state == LATER and job.run_at <= self.now]
        for job in sorted(due, key=lambda job: (job.run_at, job.number)):
            self.number += 1
            job.number = self.number
            if job.is_fresh:
                self._to_lane(job)
            job.state = WAITING
        return self._answer  # what expires is not modelled

    def _op_7(self, node: str, run_id: str, _: str) -> int:
        former = self.sessions.get(node)
        if former is not None and former[1] == run_id:
            return former[0]
        if former is not None:
            self._end_session(node, is_lost=True)
        self.last_session = max(self.index, self.last_session + 1)
        self.sessions[node] = self.last_session, run_id
        return self.last_session

    def _op_8(self, node: str, session: int, is_orderly: bool) -> int:
        if self.sessions.get(node, (0, ""))[0] != session:
            return 0
        return self._end_session(node, is_lost=not is_orderly)

    def _op_9(self, job_id: str) -> str:
        job = self.jobs.get(job_id)
        if job is not None and job.state in (LATER, WAITING):
            self._end(job, "cancelled")
            return "ok"
        return "in_progress" if job is not None and job.state == RUNNING else "not_found"

    def _op_10(self, queue: str) -> bool:
        has_changed = not self.paused.get(queue, False)
        self.paused[queue] = True
        return has_changed

    def _op_11(self, queue: str) -> bool:
        has_changed = self.paused.get(queue, False)
        if queue in self.paused:
            self.paused[queue] = False
        return has_changed

    def _op_12(self, ids: list[str] | None, queue: str | None) -> int:
        jobs = [job for job in self.jobs.values() if job.end == "failed"]
        if ids is not None:
            jobs = [job for job in jobs if job.id in ids]
        jobs = [job for job in jobs if queue in (None, job.queue)]
        for job in jobs:
            self.number += 1
            job.failures = job.lost = 0
            job.revived += 1
            job.number, job.run_at, job.end, job.state = self.number, self.now, "", WAITING
        return len(jobs)

    def _op_14(self, queue: str) -> int:
        jobs = [j for j in self.jobs.values() if j.queue == queue and j.state in (LATER, WAITING)]
        for job in jobs:
            self._end(job, "cancelled")
        return len(jobs)

    def _op_16(self, queues: list[str]) -> int:
        new = [queue for queue in queues if queue not in self.paused]
        self.paused.update(dict.fromkeys(new, False))
        return len(new)

    def _op_17(self, session: int, job_id: str, fence: int, _: bytes) -> bool:
        return self._running(session, job_id, fence) is not None

    def _op_18(self, cluster: str, _: Any) -> bool:
        return self._first("founded")

    # ---- steps -------------------------------------------------------------------------------

    def _first(self, fact: str) -> bool:
        is_first = fact.encode() not in self.known
        self.known[fact.encode()] = True
        return is_first

    def _to_lane(self, job: Job) -> None:
        job.state = WAITING
        self.fresh.setdefault((job.queue, job.priority), {})[job.id] = job

    def _end(self, job: Job, how: str) -> None:
        if job.state == ENDED:
            self._broken("H4", f"{job.id} ends again: {job.end}, {how}")
        self.fresh.get((job.queue, job.priority), {}).pop(job.id, None)
        job.state, job.end = ENDED, how
        self._ended.append(job.id)

    def _end_session(self, node: str, *, is_lost: bool) -> int:
        session, _ = self.sessions.pop(node)
        jobs = [j for j in self.jobs.values() if j.state == RUNNING and j.session == session]
        for job in jobs:
            self._give_back(job, is_lost)
        return len(jobs)

    def _give_back(self, job: Job, is_lost: bool) -> None:
        job.state = WAITING
        if not is_lost:
            job.handed_back += 1
            return
        job.lost += 1
        job.losses += 1
        if job.lost > job.max_lost:
            job.state = RUNNING
            self._end(job, "failed")

    def counts(self) -> dict[str, int]:
        """As `Machine.counts`, where the two can be compared."""
        found = dict.fromkeys(("waiting", "running", "succeeded", "failed", "cancelled"), 0)
        for job in self.jobs.values():
            found["waiting" if job.state in (LATER, WAITING) else job.end or job.state] += 1
        return found
