"""The reference model: what the committed log means, written apart from the product.

It is fed every entry once, in order, with what the product says it did, and raises a
`Violation` where the two differ or a promise is broken.
"""

from __future__ import annotations

from typing import Any

import msgpack

from exkiq.machine import Applied
from exkiq.machine.outcomes import Refused
from tests.sim.board import ENDED, LATER, PARKED, RUNNING, WAITING, Job
from tests.sim.carts import REFUSED, Carts

LEADERS_OWN = (2, 6, 8, 21, 22)
REMEMBERED = (9, 10, 11, 12, 13, 14, 20)
NO_EFFECT = (0, False, "not_found", "in_progress", "started")
UNSTARTED = (LATER, WAITING, PARKED)
COUNTED = {"abandoned": "failed"}  # how the product counts an end


class Model(Carts):
    def __init__(self) -> None:
        super().__init__()
        self.term = self.last_session = 0
        self.sessions: dict[str, tuple[int, str]] = {}
        self.members: dict[str, tuple[str, str, str]] = {}  # address, incarnation, role
        self.known: dict[bytes, Any] = {}
        self.effects: dict[bytes, int] = {}  # pid -> index where it changed something
        self.pids: dict[bytes, int] = {}  # pid -> first index
        self.answers: dict[bytes, list[Any]] = {}  # to each pid, in the log's order
        self.claims: dict[tuple[str, int], tuple[str, int]] = {}  # (id, fence) -> node, session
        self.due: dict[tuple[str, int], int] = {}  # when it might start, by id and fence
        self._answer: Any = None
        self._claimed: list[tuple[str, str]] = []
        self._told: dict[str, list[str]] = {}  # in this entry: what is news -> ids

    def apply(self, index: int, term: int, body: bytes, applied: Applied | None) -> None:
        """One entry; `applied` is what the product did, None for a change of members."""
        self.index, self._ended, self._claimed = index, {}, []
        self._told = {"moved": [], "stopping": []}
        if term < self.term:
            self._broken("H14", f"term {term} after {self.term}")
        self.term = term
        if body[:1] == b"\x02":
            self._member(*msgpack.unpackb(body[1:]))
        if body[:1] != b"\x00" or applied is None:
            return
        _, now, said, *ops = msgpack.unpackb(body[1:])
        self.now = max(self.now, now)
        if len(ops) != len(applied.results):
            self._broken("H3", f"{len(ops)} operations, {len(applied.results)} results")
        for op, (pid, answer) in zip(ops, applied.results, strict=True):
            items = msgpack.unpackb(op)
            self.pids.setdefault(pid, index)
            self.answers.setdefault(pid, []).append(answer)
            self._answer = answer
            expected = self._expected(items, is_stale=said < term)
            is_refused = isinstance(answer, Refused)
            if (expected is REFUSED) != is_refused or not (is_refused or answer == expected):
                self._broken("H3", f"{items[:3]} answered {answer!r}, should be {expected!r}")
        self._compare(applied)
        self._close()

    def _compare(self, applied: Applied) -> None:
        ended = sorted(record.id for record in applied.ended)
        if ended != sorted(self._ended):
            self._broken("H4", f"ended {ended}, should be {sorted(self._ended)}")
        for news, ids in self._told.items():
            found = [record.id for record in getattr(applied, news)]
            if found != ids:
                self._broken("H4", f"{news} {found}, should be {ids}")
        claimed = [(c.node, record.id) for c in applied.claimed for record in c.records]
        if claimed != self._claimed:
            self._broken("H5", f"claimed {claimed}, should be {self._claimed}")
        for claim in applied.claimed:
            if claim.fence != self.index:
                self._broken("H5", f"fence {claim.fence}")

    def _close(self) -> None:
        if self._ended:
            rows: dict[str, list[str]] = {"succeeded": [], "failed": [], "cancelled": []}
            for job_id, how in self._ended.items():
                rows[COUNTED.get(how, how)].append(job_id)
            self.shelf.close(self.now, rows)

    def _expected(self, items: list[Any], *, is_stale: bool) -> Any:
        code, pid, *rest = items
        if is_stale and code in LEADERS_OWN:
            return REFUSED
        is_once = code in REMEMBERED or (code == 1 and rest[-1] == 1)
        if is_once and pid in self.known:
            if self._answer != self.known[pid]:
                self._broken("H2 twice", f"operation {code} of pid {pid.hex()} is done again")
            return self.known[pid]
        self.pid = pid
        answer = getattr(self, f"_op_{code}")(*rest)
        if is_once and answer is not REFUSED:
            self.known[pid] = answer
        has_effect = answer not in NO_EFFECT and answer is not REFUSED
        if code == 1 and has_effect:
            has_effect = answer[0] > 0
        if has_effect and (code == 1 or code in REMEMBERED):
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
        _: list[bytes],
        delay: int,
        at: int,
        flags: int,
    ) -> Any:
        task, queue, priority, retries, _ttl, max_lost, *_ = spec
        if flags & 1 and any(self._is_taken(i) for i in ids):
            return REFUSED
        if not self.steps.keys().isdisjoint(ids):
            return REFUSED
        run_at, taken = at or self.now + delay, []
        for position, job_id in enumerate(ids):
            if self._is_taken(job_id):
                taken.append(position)
                continue
            self.number += 1
            job = Job(job_id, queue, priority, retries, max_lost, run_at, self.number)
            job.index, job.task = self.index, task
            self.jobs[job_id] = job
            self._put(job, WAITING if run_at <= self.now else LATER)
        self.paused.setdefault(queue, False)
        return [len(ids) - len(taken), taken]

    def _op_2(self, grants: list[list[Any]]) -> int:
        started: list[Job] = []
        for node, session, ids in grants:
            if self.sessions.get(node, (0, ""))[0] != session:
                continue
            for job_id in ids:
                job = self.jobs.get(job_id)
                if job is not None and self._may_start(job):
                    started.append(job)
                    self._start(job, node, session)
        self._check_order(started)
        for job in started:
            job.is_fresh = False
        return len(started)

    def _may_start(self, job: Job) -> bool:
        return job.state == WAITING and not self.paused[job.queue] and job.fence != self.index

    def _start(self, job: Job, node: str, session: int) -> None:
        if job.run_at > self.now:
            self._broken("H8", f"{job.id} starts {job.run_at - self.now} ms too early")
        if job.fences and self.index <= job.fences[-1]:
            self._broken("H5", f"fence {self.index} of {job.id} after {job.fences[-1]}")
        self._take(job)
        self._put(job, RUNNING)
        job.fence, job.session = self.index, session
        job.fences.append(self.index)
        job.runs += 1
        allowed = 1 + job.retries + job.losses + job.handed_back
        if job.runs > allowed:
            self._broken("H7", f"run {job.runs} of {job.id}, {allowed} allowed")
        self.claims[(job.id, self.index)] = node, session
        self.due[(job.id, self.index)] = job.run_at
        self._claimed.append((node, job.id))

    def _running(self, session: int, job_id: str, fence: int) -> Job | None:
        job = self.jobs.get(job_id)
        if job is None or (job.state, job.session, job.fence) != (RUNNING, session, fence):
            return None
        return job

    def _all_running(self, session: int, ids: list[str], fences: list[int]) -> list[Job]:
        found = [self._running(session, i, f) for i, f in zip(ids, fences, strict=True)]
        return list(dict.fromkeys(job for job in found if job is not None))

    def _op_3(
        self, session: int, ids: list[str], fences: list[int], values: list[Any] | None, *_: Any
    ) -> int:
        jobs = self._all_running(session, ids, fences)
        for job in jobs:
            self._end(job, "succeeded")
        given = dict(zip(ids, values or [None] * len(ids), strict=True))
        for job in jobs:
            if job.id in self.steps:
                self._succeeded(job.id, given[job.id])
        return len(jobs)

    def _op_4(self, session: int, failures: list[list[Any]]) -> int:
        count = 0
        for job_id, fence, decision, *_ in failures:
            job = self._running(session, job_id, fence)
            if job is not None:
                count += 1
                job.failures += 1
                if job.is_stopping:
                    self._end(job, "cancelled")
                    continue
                getattr(self, f"_fail_{decision[0]}")(job, *decision[1:])
        return count

    def _fail_retry(self, job: Job, delay: int) -> None:
        self._again(job, self.now + delay)

    def _fail_requeue(self, job: Job) -> None:
        self._again(job, self.now)

    def _fail_move(self, job: Job, queue: str) -> None:
        if queue == job.queue:
            self._end(job, "failed")
            return
        self._take(job)
        self._change_queue(job, queue)
        self._fresh_budget(job)
        self._again(job, self.now, is_taken=True)

    def _change_queue(self, job: Job, queue: str) -> None:
        job.queue = queue
        self.paused.setdefault(queue, False)
        self._told["moved"].append(job.id)

    def _fail_failed(self, job: Job) -> None:
        self._end(job, "failed")

    def _fail_abandon(self, job: Job) -> None:
        self._end(job, "abandoned")

    def _op_5(self, session: int, ids: list[str], fences: list[int], _: Any, is_lost: bool) -> int:
        jobs = self._all_running(session, ids, fences)
        self._give_back(jobs, is_lost=is_lost)
        return len(jobs)

    def _op_6(self) -> int:
        due = [job for job in self.places[LATER].values() if job.run_at <= self.now]
        for job in sorted(due, key=lambda job: (job.run_at, job.number)):
            self._take(job)
            self._to_tail(job)
        return len(due) + self.shelf.expire(self.now)

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

    def _op_9(self, job_id: str, running: bool) -> str:
        job = self.jobs.get(job_id)
        if job is not None and job.state in UNSTARTED:
            self._end(job, "cancelled")
            return "ok"
        if job is None or job.state != RUNNING:
            return "not_found"
        if running:
            job.is_stopping = True
            self._told["stopping"].append(job_id)
        return "stopping" if running else "in_progress"

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
        jobs = self._failed(ids, queue)
        for job in jobs:
            self._take(job)
            self.shelf.take(job.id)
            self._ended.pop(job.id, None)  # within one entry: it has not ended
            self._fresh_budget(job)
            job.end = ""
            self._again(job, self.now, is_taken=True)
        return len(jobs)

    def _op_13(self, ids: list[str] | None, queue: str | None) -> int:
        jobs = self._failed(ids, queue)
        for job in jobs:
            self._take(job)
            self.shelf.take(job.id)
            job.end = "deleted"
        return len(jobs)

    def _failed(self, ids: list[str] | None, queue: str | None) -> list[Job]:
        failed = self.places["failed"]
        wanted = list(failed) if ids is None else [i for i in dict.fromkeys(ids) if i in failed]
        return [failed[i] for i in wanted if queue in (None, failed[i].queue)]

    def _op_14(self, queue: str) -> int:
        before = self.totals["cancelled"]
        for job in self.unstarted(queue):
            self._end(job, "cancelled")
        return self.totals["cancelled"] - before

    def _op_16(self, queues: list[str]) -> int:
        new = [queue for queue in queues if queue not in self.paused]
        self.paused.update(dict.fromkeys(new, False))
        return len(new)

    def _op_17(self, session: int, job_id: str, fence: int, _: bytes) -> bool:
        is_running = self._running(session, job_id, fence) is not None
        return is_running and job_id not in self.steps

    def _op_18(self, cluster: str, members: list[list[str]]) -> bool:
        is_first = b"founded" not in self.known
        self.known[b"founded"] = True
        if is_first:
            for name, address, incarnation in members:
                self.members.setdefault(name, (address, incarnation, "voter"))
        return is_first

    def _op_19(self, node: str, address: str) -> Any:
        if node not in self.members:
            return REFUSED
        former, incarnation, role = self.members[node]
        self.members[node] = address, incarnation, role
        return former != address

    def _op_20(self, job_id: str, queue: str) -> Any:
        job = self.jobs.get(job_id)
        if job is None or (job.state == ENDED and job_id not in self.shelf.kept):
            return "not_found"
        if job.state not in UNSTARTED:
            return "started"
        if job.queue == queue:
            return REFUSED
        state = job.state
        self._take(job)
        self._change_queue(job, queue)
        self.number += 1
        job.number = self.number
        self._put(job, LATER if state == LATER else WAITING)
        return "ok"

    def _op_21(self, task: str, ids: list[str]) -> int:
        jobs = [self.jobs[i] for i in dict.fromkeys(ids) if i in self.jobs]
        jobs = [job for job in jobs if job.state == WAITING and job.task == task]
        for job in jobs:
            self._take(job)
            self._put(job, PARKED)
        return len(jobs)

    def _op_22(self, task: str, limit: int) -> int:
        jobs = [job for job in self.places[PARKED].values() if job.task == task]
        jobs = sorted(jobs, key=lambda job: job.number)[:limit]
        for job in jobs:
            self._take(job)
            self._put(job, WAITING)
        return len(jobs)

    def _member(self, verb: str, name: str, address: str, incarnation: str) -> None:
        if verb in ("remove", "dismiss"):
            self.members.pop(name, None)
            return
        role = "non-voter" if verb in ("admit", "demote") else "voter"
        if verb in ("promote", "demote"):
            address, incarnation, former = self.members[name]
            if former == role:
                self._broken("H12 members", f"{verb} of {name}, which is one already")
        self.members[name] = address, incarnation, role

    @property
    def voters(self) -> set[str]:
        """As of what is committed."""
        return {name for name, member in self.members.items() if member[2] == "voter"}

    def _end_session(self, node: str, *, is_lost: bool) -> int:
        session, _ = self.sessions.pop(node)
        jobs = [job for job in self.places[RUNNING].values() if job.session == session]
        self._give_back(jobs, is_lost=is_lost)
        return len(jobs)
