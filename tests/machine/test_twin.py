"""The machine against its naive twin, a second replica, and a replica restored from snapshots."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

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
from tests.machine.twin import Twin

QUEUES = st.sampled_from(["a", "b"])
NODES = st.sampled_from(["n1", "n2"])
PICKS = st.integers(0, 50)
STEPS_MS = st.sampled_from([1, 500, 1_000, 61_000, 600_000, -5_000])
DECISIONS = st.sampled_from(
    [
        *(["retry", delay] for delay in (0, 5, 90_000)),
        *([word] for word in ("failed", "failed", "abandon", "requeue")),
        *(["move", queue] for queue in ("b", "running")),
    ]
)
SPECS = st.builds(
    Spec,
    task=st.just("app:T"),
    queue=QUEUES,
    priority=st.sampled_from([0, 0, 1]),
    result_ttl_ms=st.sampled_from([0, 1_500, 600_000]),
    retries=st.just(5),
    max_lost=st.sampled_from([0, 1]),
    timeout_ms=st.just(0),
)
RARELY = st.integers(0, 7).map(lambda n: n == 7)
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
        self.held = 0
        self.made = 0
        self.used: set[str] = set()
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

    def say(self, build, args, twin, **options):
        self.pids += 1
        pid = self.pids.to_bytes(12, "big")
        self.pending.append((build(pid, *args, **options), twin))
        if len(self.pending) > self.held:
            self.flush()
            self.held = 0

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

    @initialize(specs=st.lists(SPECS, min_size=2, max_size=4))
    def start(self, specs):
        for node in ("n1", "n2"):
            self.begin(node, "r0")
        for spec in specs:
            self.enqueue(3, spec, 0, is_unique=False, picks=[])

    def some(self, picks, ids):
        """Ids that were used before, by position."""
        known = sorted(ids)
        return [known[pick % len(known)] for pick in picks] if known else []

    @rule(
        count=st.integers(1, 3),
        spec=SPECS,
        delay=st.sampled_from([0, 0, 0, 1, 999, 60_000]),
        is_unique=RARELY,
        picks=st.lists(PICKS, max_size=1),
    )
    def enqueue(self, count, spec, delay, is_unique, picks):
        """New jobs, and sometimes an id that was used before."""
        self.made += count
        ids = [f"j{n}" for n in range(self.made - count, self.made)]
        ids += self.some(picks, self.used)
        self.used.update(ids)
        self.say(
            commands.enqueue,
            (spec, ids, [b"x"] * len(ids)),
            lambda: self.twin.enqueue(ids, spec, delay, is_unique),
            delay_ms=delay,
            is_unique=is_unique,
        )

    @rule(node=NODES, queue=QUEUES, count=st.integers(1, 5), is_wrong=RARELY, picks=st.lists(PICKS))
    def claim(self, node, queue, count, is_wrong, picks):
        """Mostly what waits, sometimes anything, for a session that may be over."""
        session = self.twin.sessions.get(node, (1, ""))[0]
        ids = self.some(picks, self.used) if is_wrong else self.twin.waiting(queue)[:count]
        grants = [(node, session, ids)]
        self.say(commands.claim, (grants,), lambda: self.twin.claim(node, session, ids))

    def running(self, picks):
        """Some running jobs of one session, in any order."""
        ids = [job.id for job in self.twin.jobs.values() if job.state == "running"]
        jobs = [self.twin.jobs[job_id] for job_id in dict.fromkeys(self.some(picks, ids))]
        return [job for job in jobs if job.session == jobs[0].session]

    def has_running(self):
        return any(job.state == "running" for job in self.twin.jobs.values())

    @precondition(has_running)
    @rule(picks=st.lists(PICKS, min_size=1, max_size=4), is_stale=RARELY, has_value=st.booleans())
    def complete(self, picks, is_stale, has_value):
        jobs = self.running(picks)
        session = jobs[0].session
        ids, fences = [job.id for job in jobs], [job.fence - is_stale for job in jobs]
        values = [b"v"] * len(ids) if has_value else None
        self.say(
            commands.complete,
            (session, ids, fences, values, [1] * len(ids)),
            lambda: self.twin.complete(session, ids, fences, has_value),
        )

    @precondition(has_running)
    @rule(pick=PICKS, is_stale=RARELY, is_over=RARELY, decision=DECISIONS)
    def fail(self, pick, is_stale, is_over, decision):
        (job,) = self.running([pick])
        job_id, session, fence = job.id, job.session + is_over, job.fence - is_stale
        failure = [job_id, fence, decision, ERROR, 1]
        self.say(
            commands.fail,
            (session, [failure]),
            lambda: self.twin.fail(session, job_id, fence, decision),
        )

    @precondition(has_running)
    @rule(picks=st.lists(PICKS, min_size=1, max_size=4), is_lost=st.booleans())
    def hand_back(self, picks, is_lost):
        jobs = self.running(picks)
        session = jobs[0].session
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

    @rule(node=NODES, is_orderly=st.booleans(), is_wrong=RARELY)
    def over(self, node, is_orderly, is_wrong):
        session = self.twin.sessions.get(node, (3, ""))[0] + is_wrong
        self.say(
            commands.session_over,
            (node, session),
            lambda: self.twin.session_over(node, session, is_orderly),
            is_orderly=is_orderly,
        )

    @rule(pick=PICKS)
    def cancel(self, pick):
        (job_id,) = self.some([pick], self.used)
        self.say(commands.cancel, (job_id,), lambda: self.twin.cancel(job_id))

    @rule(queue=QUEUES, verb=st.sampled_from(["pause", "resume", "resume", "clear"]))
    def on_queue(self, queue, verb):
        self.say(getattr(commands, verb), (queue,), lambda: getattr(self.twin, verb)(queue))

    def has_failed(self):
        return bool(self.twin.failed)

    @precondition(has_failed)
    @rule(
        verb=st.sampled_from(["retry", "delete"]),
        picks=st.none() | st.lists(PICKS, max_size=4),
        queue=st.none() | QUEUES,
    )
    def on_failed(self, verb, picks, queue):
        ids = None if picks is None else self.some(picks, self.twin.failed)
        say = getattr(self.twin, verb)
        self.say(getattr(commands, verb), (ids, queue), lambda: say(ids, queue))

    # Entries and replicas

    @rule(count=st.integers(1, 2))
    def hold(self, count):
        """The next operations share an entry."""
        self.held = count

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
