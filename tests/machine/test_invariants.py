"""The checker must be able to fail."""

from __future__ import annotations

import pytest

from exkiq.machine import Machine, State, check_invariants
from exkiq.machine.lane import Lane
from tests.machine.test_total import lively


def to_the_end(lane: Lane) -> None:
    record = lane.first()
    lane.remove(record)
    lane.append(record)


DAMAGE = {
    "a job in no place": lambda m: m.queues["mail"].lanes[0].remove(m.jobs["b"]),
    "a job that is not in jobs": lambda m: m.jobs.remove(m.jobs["b"]),
    "a job in two places": lambda m: m.failed.update(b=m.jobs["b"]),
    "a job under another id": lambda m: m.jobs._shards[0].update(z=m.jobs["b"]),
    "another state": lambda m: setattr(m.jobs["b"], "state", State.RUNNING),
    "an end without a time": lambda m: setattr(m.jobs["done"], "completed_ms", 0),
    "a time without an end": lambda m: setattr(m.jobs["b"], "completed_ms", 5),
    "a lane out of order": lambda m: to_the_end(m.queues["mail"].lanes[0]),
    "later out of order": lambda m: to_the_end(m.queues["mail"].later),
    "a wrong count": lambda m: setattr(m.queues["mail"], "queued", 0),
    "a wrong count of failed": lambda m: setattr(m.queues["mail"], "failed", 0),
    "a wrong total": lambda m: setattr(m.totals, "enqueued_total", 1),
    "a wrong total of a queue": lambda m: setattr(m.queues["mail"], "lost_total", 1),
    "a timer that is not set": lambda m: m.due._heap.pop(),
    "a timer for another time": lambda m: setattr(m.jobs["later"], "run_at_ms", 5),
    "a result without a timer": lambda m: m.expiring.stop(m.jobs["kept"]),
    "wrong bytes of results": lambda m: setattr(m, "kept_bytes", 0),
    "wrong bytes of failed jobs": lambda m: setattr(m, "failed_bytes", 7),
    "a session by another number": lambda m: m.sessions_by_id.clear(),
    "a session by another name": lambda m: m.sessions.update(n9=m.sessions["n1"]),
    "a job of another session": lambda m: setattr(m.jobs["a"], "node", "n9"),
    "a session where nothing runs": lambda m: setattr(m.jobs["b"], "session", 1),
    "a fence of the future": lambda m: setattr(m.jobs["a"], "fence", 10**6),
    "a job to stop that does not run": lambda m: m.sessions["n1"].stopping.update(b=None),
    "a job put aside in a lane": lambda m: (
        m.unpark([m.jobs["p"]]) or m.jobs["p"].__setattr__("timer", -1)
    ),
    "parked out of order": lambda m: to_the_end(m.parked["app:Unknown"]),
    "nothing parked": lambda m: m.parked.update(x=Lane()),
    "a bug": lambda m: setattr(m.totals, "faults", 1),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_damage_is_named(damage):
    """A checker that says nothing proves nothing."""
    machine = lively().machine
    assert check_invariants(machine) == []
    DAMAGE[damage](machine)
    faults = check_invariants(machine)
    assert faults
    assert all(isinstance(fault, str) and fault for fault in faults)


def test_an_empty_machine_is_sound():
    """The first thing that `exkiq check` may see."""
    assert check_invariants(Machine()) == []
