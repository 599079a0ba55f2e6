"""The machine, its twin and a second replica, side by side under the same log.

Each step draws what it does from `pick(n)`, a number below n, so that the same steps serve
a random walk and a search that shrinks what it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from exkiq.machine import (
    Capture,
    Machine,
    Record,
    Refused,
    Spec,
    check_invariants,
    commands,
    encode_snapshot,
)
from exkiq.machine.tally import WINDOW_MS, WINDOWS_MAX, Tally
from tests.machine.twin import Job, Twin

Pick = Callable[[int], int]

QUEUES = ("a", "b")
NODES = ("n1", "n2", "n3")
DELAYS_MS = (0, 0, 0, 1, 999, 60_000)
STEPS_MS = (1, 500, 1_000, 5_000, 61_000, 600_000, -5_000)
DECISIONS = (
    *(["retry", delay] for delay in (0, 5, 5_000, 90_000)),
    *([word] for word in ("failed", "failed", "failed", "abandon", "requeue")),
    *(["move", queue] for queue in ("a", "b", "running")),
)
PEOPLE = (
    *("cancel", "retry", "delete", "resume", "retry", "resume", "retry", "pause", "clear"),
    *("cancel", "move", "move"),
)
TASKS = ("app:T", "app:T", "app:U")
RUNS_MS = (0, 1, 15, 16, 400, 90_000)
NAMES_OF_TOTALS = {
    "enqueued": "enqueued_total",
    "lost": "lost_total",
    "stale": "stale_completions",
    "dropped": "failed_dropped",
    "retried": "retried_total",
}


class World:
    """Operations go to all; `same` compares them."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.other = Machine()
        self.twin = Twin()
        self.now_ms = 1_000_000
        self.ids: list[str] = []
        self.pending: list[tuple[bytes, Callable[[], object]]] = []
        self.held = 0
        self.captured: list[tuple[Capture, bytes]] = []
        self._pids = 0

    # Entries

    def say(self, verb: str, args: tuple[object, ...], *twin_args: object, **options: object):
        """Say one operation: as bytes to the machines, as values to the twin."""
        self._pids += 1
        op = getattr(commands, verb)(self._pids.to_bytes(12, "big"), *args, **options)
        self.pending.append((op, partial(getattr(self.twin, verb), *(twin_args or args))))
        if len(self.pending) > self.held:
            self.flush()

    def flush(self) -> None:
        """Apply what was said as one entry, and compare the answers and the states."""
        if not self.pending:
            return
        body = commands.encode_entry(self.now_ms, 1, [op for op, _ in self.pending])
        index = self.machine.index + 1
        applied = self.machine.apply(index, body)
        self.other.apply(index, body)
        self.twin.start_entry(self.now_ms)
        expected = [act() for _, act in self.pending]
        self.twin.end_entry()
        self.pending, self.held = [], 0
        answers = [a.kind if isinstance(a, Refused) else a for _, a in applied.results]
        pairs = zip(expected, answers, strict=True)
        assert all(e is None or e == a for e, a in pairs), (expected, answers)
        assert self.twin.ended == [(record.id, record.state) for record in applied.ended]
        self.same()

    def same(self) -> None:
        """Everything that can be seen is equal in all of them."""
        machine, twin = self.machine, self.twin
        assert check_invariants(machine) == []
        assert encode_snapshot(machine.capture()) == encode_snapshot(self.other.capture())
        assert {job.id: of_twin(job) for job in twin.jobs.values()} == {
            record.id: of_machine(record) for record in machine.jobs.values()
        }
        parked = {task: ids for task, ids in twin.parked.items() if ids}
        for each in (machine, self.other):
            assert parked == {task: list(lane) for task, lane in each.parked.items()}
        assert {i for i, job in twin.jobs.items() if job.is_stopping} == {
            job_id for session in machine.sessions.values() for job_id in session.stopping
        }
        self.same_statistics()
        for queue in QUEUES:
            assert twin.waiting(queue) == [record.id for record in machine.waiting(queue)]
            assert len(twin.waiting(queue)) == machine.waiting_count(queue)
        assert twin.failed == list(machine.failed)
        assert twin.succeeded == [record.id for record in machine.succeeded]
        assert twin.cancelled == [record.id for record in machine.cancelled]
        assert twin.graves == {i: s.ended_ms for i, s in machine.tombstones.stones.items()}
        assert twin.next_due() == machine.due.next_ms()
        counts = machine.counts()
        names = {name: NAMES_OF_TOTALS.get(name, name) for name in twin.counts()}
        assert twin.counts() == {name: counts[names[name]] for name in names}

    def same_statistics(self) -> None:
        """Every time that was counted is where it belongs."""
        for name, queue in self.machine.queues.items():
            for tally, times in (
                (queue.waited, self.twin.waits.get(name, [])),
                (queue.ran, self.twin.runs.get(name, [])),
            ):
                expected = Tally()
                for ms in times:
                    expected.observe([ms])
                assert tally.take().row() == expected.take().row()
            ends = [ms // WINDOW_MS for ms in self.twin.ends.get(name, [])]
            kept = {number: ends.count(number) for number in ends[-1:]}
            kept |= {n: ends.count(n) for n in ends if n > ends[-1] - WINDOWS_MAX}
            assert queue.ended_recently.windows == kept

    def close(self) -> None:
        """Look at the captures that were taken on the way."""
        self.flush()
        for capture, data in self.captured:
            assert data == encode_snapshot(capture), "a capture has changed"

    # Steps

    def start(self) -> None:
        for node in NODES[:2]:
            self.say("session_begin", (node, "r0", "x:1"))

    def intake(self, pick: Pick) -> None:
        """New jobs, and sometimes an id that was used before."""
        ids = [f"j{len(self.ids) + n}" for n in range(1 + pick(3))]
        ids += self._some(pick, self.ids, pick(2))
        self.ids += [job_id for job_id in ids if job_id not in self.ids]
        ttl_ms, is_unique = (600_000, 1_500, 0)[pick(3)], pick(8) == 7
        spec = Spec(TASKS[pick(3)], QUEUES[pick(2)], pick(3) // 2, 5, ttl_ms, pick(2), 0)
        delay_ms = DELAYS_MS[pick(len(DELAYS_MS))]
        options = {"delay_ms": delay_ms, "is_unique": is_unique}
        payloads = [b"x"] * len(ids)
        self.say("enqueue", (spec, ids, payloads), ids, spec, delay_ms, is_unique, **options)

    def hand_out(self, pick: Pick) -> None:
        """Mostly what waits, sometimes anything, sometimes for a session that is over."""
        alive = sorted(self.twin.sessions) or NODES
        node = alive[pick(len(alive))] if pick(8) else NODES[pick(3)]
        session = self.twin.sessions.get(node, (1, ""))[0] + (pick(16) == 15)
        ids = self.twin.waiting(QUEUES[pick(2)])[: 1 + pick(5)]
        if pick(8) == 7:
            ids = self._some(pick, self.ids, 4)
        self.say("claim", ([(node, session, ids)],), node, session, ids)

    def report(self, pick: Pick) -> None:
        """Running jobs of one session end, fail, or come back; some reports are stale."""
        running = [job for job in self.twin.jobs.values() if job.state == "running"]
        jobs = self._some(pick, running, 1 + pick(3))
        if not jobs:
            return
        jobs = [job for job in jobs if job.session == jobs[0].session]
        session, is_stale = jobs[0].session + (pick(16) == 15), pick(16) == 15
        ids, fences = [job.id for job in jobs], [job.fence - is_stale for job in jobs]
        verb = pick(4)
        if verb == 0:
            values = [b"v"] * len(ids) if pick(2) else None
            run_ms = [RUNS_MS[pick(len(RUNS_MS))] for _ in ids]
            args = (session, ids, fences, values, run_ms)
            self.say("complete", args, session, ids, fences, values is not None, run_ms)
        elif verb == 1:
            is_lost = bool(pick(2))
            args = (session, ids, fences)
            self.say("hand_back", args, *args, is_lost, is_lost=is_lost)
        else:
            decision = DECISIONS[pick(len(DECISIONS))]
            run_ms = RUNS_MS[pick(len(RUNS_MS))]
            failure = [ids[0], fences[0], decision, ["ValueError", "no", "line 1"], run_ms]
            self.say("fail", (session, [failure]), session, ids[0], fences[0], decision, run_ms)

    def tick(self, pick: Pick) -> None:
        """The clock moves, seldom back, and the timekeeper says so."""
        self.flush()
        self.now_ms += STEPS_MS[pick(len(STEPS_MS))]
        self.say("due", ())

    def lives(self, pick: Pick) -> None:
        """Nodes start, start again, and end."""
        node = NODES[pick(3)]
        if pick(2):
            self.say("session_begin", (node, f"r{pick(2)}", "x:1"))
        else:
            session = self.twin.sessions.get(node, (3, ""))[0] + (pick(8) == 7)
            is_orderly = bool(pick(2))
            self.say(
                "session_over", (node, session), node, session, is_orderly, is_orderly=is_orderly
            )

    def people(self, pick: Pick) -> None:
        """Cancel, move, retry, delete; seldom pause and clear."""
        verb = PEOPLE[pick(len(PEOPLE))]
        if verb == "cancel":
            for job_id in self._some(pick, self.ids, 1):
                running = bool(pick(2))
                self.say("cancel", (job_id,), job_id, running, running=running)
        elif verb == "move":
            for job_id in self._some(pick, self.ids, 1):
                self.say("move", (job_id, QUEUES[pick(2)]))
        elif verb in ("retry", "delete"):
            ids = self._some(pick, self.ids, 3) if pick(2) else None
            self.say(verb, (ids, QUEUES[pick(2)] if pick(2) else None))
        else:
            self.say(verb, (QUEUES[pick(2)],))

    def aside(self, pick: Pick) -> None:
        """Jobs of a task are put aside, or come back; some of them wait no more."""
        task = TASKS[1 + pick(2)]
        if pick(2):
            ids = [i for queue in QUEUES for i in self.twin.waiting(queue)]
            self.say("park", (task, self._some(pick, ids, 5) + self._some(pick, self.ids, 1)))
        else:
            self.say("unpark", (task, pick(4)))

    def hold(self, pick: Pick) -> None:
        """The next operations share an entry."""
        self.held = 1 + pick(3)

    def replicas(self, pick: Pick) -> None:
        """The other replica loads a snapshot, or a capture is taken and looked at later."""
        self.flush()
        if pick(2):
            self.other = Machine.restore(encode_snapshot(self.other.capture()))
        elif len(self.captured) < 3:
            capture = self.machine.capture()
            self.captured.append((capture, encode_snapshot(capture)))

    def _some(self, pick: Pick, values: Iterable[object], count: int) -> list:
        """Up to `count` different ones of these, in any order."""
        values = list(values)
        chosen = [values[pick(len(values))] for _ in range(count)] if values else []
        return [value for n, value in enumerate(chosen) if value not in chosen[:n]]


def of_twin(job: Job) -> tuple[object, ...]:
    """What the twin knows of a job, and the machine too."""
    facts = (job.state, job.queue, job.run_at, job.failures, job.lost, job.fence, job.node)
    return (*facts, job.session)


def of_machine(record: Record) -> tuple[object, ...]:
    """The same of a record."""
    facts = (record.state.value, record.spec.queue, record.run_at_ms, record.failures)
    return (*facts, record.lost, record.fence, record.node, record.session)
