"""The machine against its naive twin, a second replica, and a replica restored from snapshots."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from exkiq.machine import (
    Capture,
    Machine,
    Refused,
    Spec,
    check_invariants,
    commands,
    encode_snapshot,
    limits,
)
from tests.machine.twin import Job, Twin

IDS = st.sampled_from([f"j{n}" for n in range(10)])
SOME_IDS = st.lists(IDS, min_size=1, max_size=5)
QUEUES = st.sampled_from(["a", "b"])
NODES = st.sampled_from(["n1", "n2"])
DELAYS = st.sampled_from([0, 0, 1, 999, 60_000])
STEPS_MS = st.sampled_from([0, 1, 500, 1_000, 61_000, 600_000, -5_000])
DECISIONS = st.sampled_from(
    [
        *(["retry", delay] for delay in (0, 5, 90_000)),
        *([word] for word in ("failed", "abandon", "requeue")),
        *(["move", queue] for queue in ("b", "running")),
    ]
)
ERROR = ["ValueError", "no", "line 1"]
SMALL = {"SUCCEEDED_JOBS_MAX": 3, "CANCELLED_JOBS_MAX": 3, "FAILED_JOBS_MAX": 3}


class AgainstTwin(RuleBasedStateMachine):
    """Every rule says one operation to both, some operations share an entry."""

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        for name, bound in SMALL.items():
            self.patch.setattr(limits, name, bound)
        self.machine = Machine()
        self.other = Machine()
        self.twin = Twin()
        self.now_ms = 1_000_000
        self.pids = 0
        self.pending = []
        self.captured: list[tuple[Capture, bytes]] = []

    def teardown(self):
        try:
            self.flush()
            self.same()
            for capture, data in self.captured:
                assert data == encode_snapshot(capture), "a capture has changed"
        finally:
            self.patch.undo()

    # Operations

    @initialize()
    def nodes(self):
        self.say(
            commands.session_begin,
            ("n1", "r0", "n1:1"),
            lambda: self.twin.session_begin("n1", "r0"),
        )
        self.flush()

    def say(self, build, args, twin, **options):
        self.pids += 1
        pid = self.pids.to_bytes(12, "big")
        self.pending.append((build(pid, *args, **options), twin))

    def flush(self):
        if not self.pending:
            return
        body = commands.encode_entry(self.now_ms, 1, [op for op, _ in self.pending])
        index = self.machine.index + 1
        applied = self.machine.apply(index, body)
        self.other.apply(index, body)
        self.twin.start_entry(self.now_ms, 1)
        expected = [twin() for _, twin in self.pending]
        self.twin.end_entry()
        self.pending = []
        answers = [a.kind if isinstance(a, Refused) else a for _, a in applied.results]
        assert expected == [
            None if e is None else a for e, a in zip(expected, answers, strict=True)
        ]

    @rule(
        ids=SOME_IDS,
        queue=QUEUES,
        priority=st.sampled_from([0, 0, 1]),
        ttl_ms=st.sampled_from([0, 1_500, 600_000]),
        max_lost=st.sampled_from([0, 1]),
        delay=DELAYS,
        is_unique=st.booleans(),
    )
    def enqueue(self, ids, queue, priority, ttl_ms, max_lost, delay, is_unique):
        spec = Spec("app:T", queue, priority, 5, ttl_ms, max_lost, 0)
        self.say(
            commands.enqueue,
            (spec, ids, [b"x"] * len(ids)),
            lambda: self.twin.enqueue(ids, queue, priority, ttl_ms, max_lost, delay, is_unique),
            delay_ms=delay,
            is_unique=is_unique,
        )

    @rule(node=NODES, ids=SOME_IDS, queue=QUEUES, count=st.integers(0, 4), wrong=st.integers(0, 9))
    def claim(self, node, ids, queue, count, wrong):
        """Mostly what waits, sometimes anything, sometimes for a session that is over."""
        session = self.twin.sessions.get(node, (1, ""))[0] + (wrong == 1)
        ids = self.twin.waiting(queue)[:count] if wrong else ids
        grants = [(node, session, ids)]
        self.say(commands.claim, (grants,), lambda: self.twin.claim(node, session, ids))

    def running(self, position: int) -> list[Job]:
        """Some running jobs of one session; all of them from a position on."""
        jobs = [job for job in self.twin.jobs.values() if job.state == "running"]
        chosen = jobs[position % len(jobs) :] if jobs else []
        return [job for job in chosen if job.session == chosen[0].session]

    @rule(position=st.integers(0, 9), wrong=st.integers(0, 9), has_value=st.booleans())
    def complete(self, position, wrong, has_value):
        jobs = self.running(position)
        session = jobs[0].session if jobs else 1
        ids, fences = [job.id for job in jobs], [job.fence - (wrong == 1) for job in jobs]
        values = [b"v"] * len(ids) if has_value else None
        twin = self.twin
        self.say(
            commands.complete,
            (session, ids, fences, values, [1] * len(ids)),
            lambda: twin.complete(session, ids, fences, has_value),
        )

    @rule(position=st.integers(0, 9), wrong=st.integers(0, 9), decision=DECISIONS)
    def fail(self, position, wrong, decision):
        jobs = self.running(position)
        if jobs:
            session, fence = jobs[0].session + (wrong == 2), jobs[0].fence - (wrong == 1)
            job_id = jobs[0].id
            failure = [job_id, fence, decision, ERROR, 1]
            twin = self.twin
            self.say(
                commands.fail,
                (session, [failure]),
                lambda: twin.fail(session, job_id, fence, decision),
            )

    @rule(position=st.integers(0, 9), is_lost=st.booleans(), is_reversed=st.booleans())
    def hand_back(self, position, is_lost, is_reversed):
        jobs = self.running(position)
        jobs = jobs[::-1] if is_reversed else jobs
        session = jobs[0].session if jobs else 1
        ids, fences = [job.id for job in jobs], [job.fence for job in jobs]
        self.say(
            commands.hand_back,
            (session, ids, fences),
            lambda: self.twin.hand_back(session, ids, fences, is_lost),
            is_lost=is_lost,
        )

    @rule(ms=STEPS_MS)
    def tick(self, ms):
        self.flush()
        self.now_ms += ms
        self.say(commands.due, (), self.twin.due)

    @rule(node=NODES, run=st.sampled_from(["r0", "r1"]))
    def begin(self, node, run):
        args = (node, run, "x:1")
        self.say(commands.session_begin, args, lambda: self.twin.session_begin(node, run))

    @rule(node=NODES, is_orderly=st.booleans())
    def over(self, node, is_orderly):
        session = self.twin.sessions.get(node, (3, ""))[0]
        self.say(
            commands.session_over,
            (node, session),
            lambda: self.twin.session_over(node, session, is_orderly),
            is_orderly=is_orderly,
        )

    @rule(job_id=IDS)
    def cancel(self, job_id):
        self.say(commands.cancel, (job_id,), lambda: self.twin.cancel(job_id))

    @rule(queue=QUEUES, verb=st.sampled_from(["pause", "resume", "resume", "clear"]))
    def on_queue(self, queue, verb):
        self.say(getattr(commands, verb), (queue,), lambda: getattr(self.twin, verb)(queue))

    @rule(
        verb=st.sampled_from(["retry", "delete"]),
        ids=st.none() | SOME_IDS,
        queue=st.none() | QUEUES,
    )
    def on_failed(self, verb, ids, queue):
        self.say(
            getattr(commands, verb), (ids, queue), lambda: getattr(self.twin, verb)(ids, queue)
        )

    # Entries and replicas

    @rule()
    def apply(self):
        self.flush()

    @rule()
    def restart_other(self):
        self.flush()
        self.other = Machine.restore(encode_snapshot(self.other.capture()))

    @rule()
    def capture(self):
        self.flush()
        capture = self.machine.capture()
        self.captured.append((capture, encode_snapshot(capture)))

    @invariant()
    def agree(self):
        if len(self.pending) >= 3:
            self.flush()
        if not self.pending:
            self.same()

    def same(self):
        machine, twin = self.machine, self.twin
        assert check_invariants(machine) == []
        assert encode_snapshot(machine.capture()) == encode_snapshot(self.other.capture())
        assert {job_id: of_twin(job) for job_id, job in twin.jobs.items()} == {
            job_id: of_machine(record) for job_id, record in machine.jobs.items()
        }
        for queue in ("a", "b"):
            assert twin.waiting(queue) == [record.id for record in machine.waiting(queue)]
            assert len(twin.waiting(queue)) == machine.waiting_count(queue)
        assert twin.failed == list(machine.failed)
        assert twin.succeeded == [record.id for record in machine.succeeded]
        assert twin.cancelled == [record.id for record in machine.cancelled]
        assert twin.graves == {i: s.ended_ms for i, s in machine.tombstones.stones.items()}
        assert twin.counts() == {
            name: machine.counts()[NAMES.get(name, name)] for name in twin.counts()
        }


NAMES = {
    "enqueued": "enqueued_total",
    "lost": "lost_total",
    "stale": "stale_completions",
    "dropped": "failed_dropped",
    "retried": "retried_total",
}


def of_twin(job):
    return (
        job.state,
        job.queue,
        job.run_at,
        job.failures,
        job.lost,
        job.fence,
        job.node,
        job.session,
    )


def of_machine(record):
    return (
        *(record.state.value, record.spec.queue, record.run_at_ms, record.failures),
        *(record.lost, record.fence, record.node, record.session),
    )


TestAgainstTwin = AgainstTwin.TestCase
TestAgainstTwin.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
