"""Directed schedules about sessions, claims and time."""

from __future__ import annotations

from typing import Any

from exkiq.machine import State, commands
from exkiq.machine.commands import encode_entry
from exkiq.wire.messages import Kind
from tests.sim.stage import (
    FILLER,
    append,
    begin,
    cut_off,
    elect,
    end,
    enqueue,
    hand,
    leader,
    lose,
    new_jobs,
    operation_id,
    others,
    promise,
    stage,
    wait,
)
from tests.sim.world import Outcome, World

HOUR_MS = 3_600_000
OVER = (State.SUCCEEDED, State.FAILED, State.CANCELLED)


def late_reports(made: World) -> Outcome:
    """Nodes are declared over while their jobs run on, and report them in a later session."""
    begin(made, 1.0)
    for _ in range(3):
        mend = cut_off(made, made.chance.choice(others(made, leader(made).name)))
        wait(made, 3.2)
        mend()
        wait(made, 2.5)
    return end(made)


def claim_for_a_former_session(made: World) -> Outcome:
    """A claim for the session before the last reaches the leader."""
    begin(made, asks=False)
    first = leader(made).name
    name = made.chance.choice(others(made, first))
    session = _session(made, name)
    made.kill(name)
    wait(made, 0.3)
    made.start(name)
    stage(made, lambda: _session(made, name) not in (0, session), "a new session")
    for number in range(20):
        job = f"odd-{number}"
        claim = commands.claim(operation_id(job + " claim"), [(name, session, [job])])
        ops = [new_jobs(job), claim]
        hand(made, name, leader(made).name, [int(Kind.PROPOSE), ops])
        wait(made, 0.05)
    return end(made)


def orders_of_a_former_leader(made: World) -> Outcome:
    """What a former leader ordered in its term comes into the log in a later one."""
    begin(made, asks=False)
    former = leader(made)
    term = former.replica.term
    name = made.chance.choice(others(made, former.name))
    elect(made, name)
    enqueue(made, name, "even-1")
    wait(made, 0.5)
    session = _session(made, former.name)
    for number in range(5):
        job = f"odd-{number}"
        claim = commands.claim(operation_id(job + " claim"), [(former.name, session, [job])])
        entry = encode_entry(made.nodes[name].host.now_ms(), term, [new_jobs(job), claim])
        append(made, name, entry)
        wait(made, 0.1)
    return end(made)


def claims_in_a_snapshot(made: World) -> Outcome:
    """A follower learns of what was claimed for it from a snapshot."""
    begin(made)
    made.clients.stop()
    stage(made, lambda: _running(made) == 0, "all is done", seconds=30.0)
    node = leader(made)
    name = made.chance.choice(others(made, node.name))
    lose(made, lambda _, to, m: to == name and ("serialized" in m or bool(m.get("entries"))))
    for number in range(12):
        enqueue(made, node.name, f"odd-{number}")
    stage(made, lambda: _has_claims(made, name), "claims of a node that hears little")
    upto = node.replica.journal.last_index
    append(made, node.name, *[FILLER] * 130)
    stage(made, lambda: node.replica.journal.first_index > upto, "a trimmed log", seconds=1.5)
    made.network.filter = None
    promise(made, lambda: _running(made) == 0, "H13 claims", f"what {name} was given is done")
    return end(made)


def due_in_an_election(made: World) -> Outcome:
    """Jobs become due while there is no leader."""
    begin(made, asks=False)
    former = leader(made).name
    ids = [f"odd-{number}" for number in range(5)]
    enqueue(made, former, *ids, delay_ms=150)
    wait(made, 0.05)
    made.kill(former)
    wait(made, 0.05)
    promise(made, lambda: _are_over(made, ids), "H13 due", "jobs that were due have run")
    return end(made)


def clock_set_right(made: World) -> Outcome:
    """The leader's wall clock was an hour ahead for a while."""
    begin(made, asks=False)
    node = leader(made)
    made.step(node.name, HOUR_MS)
    enqueue(made, node.name, "odd-1")
    wait(made, 0.5)
    made.step(node.name, -HOUR_MS)
    enqueue(made, node.name, "odd-2", delay_ms=300)
    promise(made, lambda: _are_over(made, ["odd-2"]), "H13 due", "a job that was due has run")
    return end(made)


def deaf_leader(made: World) -> Outcome:
    """What a follower passes on to the leader gets lost, and everybody else is well."""
    begin(made, asks=False)
    node = leader(made)
    name = made.chance.choice(others(made, node.name))

    def lost(sender: str, to: str, message: list[Any]) -> float | None:
        return None if message[0] == Kind.PROPOSE and sender == name else 0.0

    made.network.filter = lost
    op = new_jobs("odd-1")
    follower = made.nodes[name]
    made.scheduler.at(
        made.scheduler.now, follower.host, follower.replica.propose, op, None, lambda _: None
    )
    wait(made, 0.3)
    made.network.filter = None
    promise(made, lambda: _are_over(made, ["odd-1"]), "H13 outbox", "what got lost is done")
    return end(made)


def node_that_stays_away(made: World) -> Outcome:
    """A node dies with jobs and does not come back."""
    begin(made)
    name = made.chance.choice(others(made, leader(made).name))
    stage(made, lambda: _has_claims(made, name), "it has jobs")
    made.kill(name, is_told=made.chance.random() < 0.5)
    promise(
        made, lambda: _session(made, name) == 0, "H13 lost node", "its jobs are given to others"
    )
    return end(made)


def orderly_stop(made: World) -> Outcome:
    """A node takes no more, says goodbye and goes, with claims for it still under way."""
    begin(made)
    name = made.chance.choice(others(made, leader(made).name))
    session = made.nodes[name].rooms.session
    session.stop_taking()
    wait(made, 0.3)
    session.end()
    wait(made, 0.1)
    made.kill(name)
    promise(made, lambda: _session(made, name) == 0, "H13 goodbye", f"{name} is over", seconds=1.0)
    return end(made)


def claims_of_a_stopping_node(made: World) -> Outcome:
    """The leader has not heard yet that a node takes no more, and claims jobs for it."""
    begin(made)
    node = leader(made)
    name = made.chance.choice(others(made, node.name))
    stopping = made.nodes[name]
    made.network.cut(name, node.name)
    stopping.rooms.session.stop_taking()
    for number in range(20):
        enqueue(made, node.name, f"odd-{number}")
    made.network.mend(name, node.name)
    wait(made, 0.3)

    def is_kept() -> bool:
        session = leader(made).replica.machine.sessions.get(name)
        given = set() if session is None else set(session.running)
        return given <= {job for job, _ in stopping.pool.runs}

    promise(made, is_kept, "H13 goodbye", f"what {name} does not run is given back", seconds=1.0)
    made.kill(name)
    return end(made)


# ---- what the leader's state says ------------------------------------------------------------


def _session(made: World, name: str) -> int:
    session = leader(made).replica.machine.sessions.get(name)
    return 0 if session is None else int(session.id)


def _has_claims(made: World, name: str) -> bool:
    session = leader(made).replica.machine.sessions.get(name)
    return session is not None and bool(session.running)


def _running(made: World) -> int:
    return int(leader(made).replica.machine.counts()["running"])


def _are_over(made: World, ids: list[str]) -> bool:
    jobs = leader(made).replica.machine.jobs
    return all(job in jobs and jobs[job].state in OVER for job in ids)
