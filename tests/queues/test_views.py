"""What people see of the machine: true, in order, and bounded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exkiq.clock import ManualClock
from exkiq.machine import Machine, Record, Spec, State, commands
from exkiq.machine.lanes import QueueState
from exkiq.queues import LocalHouse, views
from exkiq.queues.views import counts_map, job_map, jobs_map, queue_map, queues_map, stats_map
from exkiq.wire import encode_frame
from tests.aggregator.pretend import Pids

CLOCK = ManualClock()
PID = Pids()


def house_with_one_job_in_each_state() -> LocalHouse:
    house = LocalHouse(CLOCK)
    spec = Spec("app:work", "emails", priority=2, retries=1)
    house.propose_nowait(commands.session_begin(PID(), "n1", "run", "a:1"))
    names = ["running", "succeeded", "failed", "retry", "cancelled", "queued"]
    house.propose_nowait(commands.enqueue(PID(), spec, names, [b"args"] * 6))
    house.propose_nowait(commands.enqueue(PID(), spec, ["scheduled"], [b"args"], delay_ms=60_000))
    house.propose_nowait(commands.claim(PID(), [("n1", 1, names[:4])]))
    fence = house.machine.jobs["running"].fence
    error = ["ValueError", "no", "trace"]
    house.propose_nowait(commands.complete(PID(), 1, ["succeeded"], [fence], [b"value"], [7]))
    failures = [["failed", fence, ["failed"], error, 3], ["retry", fence, ["retry", 900], error, 3]]
    house.propose_nowait(commands.fail(PID(), 1, failures))
    house.propose_nowait(commands.cancel(PID(), "cancelled"))
    house.propose_nowait(commands.declare(PID(), ["default"]))
    return house


def ids(machine: Machine, queue: str | None = None, state: State | None = None) -> list[object]:
    page = jobs_map(machine, queue, state, limit=100, offset=0)
    return [job["id"] for job in page if isinstance(job, dict)]


def test_every_state_is_listed_under_its_name() -> None:
    """A job would be missing from the list of its state, or be in two."""
    machine = house_with_one_job_in_each_state().machine
    for state in State:
        assert ids(machine, None, state) == [state.value]
        assert ids(machine, "emails", state) == [state.value]
        assert ids(machine, "default", state) == []
    assert sorted(map(str, ids(machine))) == sorted(State)
    assert ids(machine, "nobody") == []


def test_a_job_that_was_stopped_shows_the_attempt_that_ran() -> None:
    """Someone would look for the second attempt of a job that had one."""
    house = LocalHouse(CLOCK)
    house.propose_nowait(commands.session_begin(PID(), "n1", "run", "a:1"))
    house.propose_nowait(commands.enqueue(PID(), Spec("app:work", "emails"), ["a"], [b"args"]))
    house.propose_nowait(commands.claim(PID(), [("n1", 1, ["a"])]))
    fence = house.machine.jobs["a"].fence
    house.propose_nowait(commands.cancel(PID(), "a", running=True))
    error = ["RuntimeError", "stopped", "trace"]
    house.propose_nowait(commands.fail(PID(), 1, [["a", fence, ["retry", 900], error, 3]]))
    told = job_map(house.machine.jobs["a"])
    assert (told["state"], told["attempt"]) == ("cancelled", 1)


def test_a_due_retry_is_still_listed_as_retry() -> None:
    """A retry that waits for a slot would vanish from its list."""
    house = house_with_one_job_in_each_state()
    clock_ms = CLOCK.now_ms() + 1_000
    body = commands.encode_entry(clock_ms, 1, [commands.due(PID())])
    house.machine.apply(house.machine.index + 1, body)
    assert ids(house.machine, None, State.RETRY) == ["retry"]
    assert ids(house.machine, None, State.QUEUED) == ["queued"]


def test_a_list_does_not_walk_the_jobs_of_another_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a million that wait, the node would stand still at each look at the few retries."""
    house = house_with_one_job_in_each_state()
    names = [f"more {number}" for number in range(10)]
    house.propose_nowait(commands.enqueue(PID(), Spec("app:work", "q"), names, [b""] * 10))
    walked: list[Record] = []
    waiting = QueueState.waiting

    def watched(queue: QueueState) -> Iterator[Record]:
        for record in waiting(queue):
            walked.append(record)
            yield record

    monkeypatch.setattr(QueueState, "waiting", watched)
    assert ids(house.machine, None, State.SCHEDULED) == ["scheduled"]
    assert ids(house.machine, "q", State.RETRY) == []
    assert walked == []


def test_lists_are_in_hand_out_order_and_paged() -> None:
    """Two pages would overlap, or the order differ from the one in which jobs start."""
    house = LocalHouse(CLOCK)
    for priority, letter in ((0, "b"), (5, "a")):
        spec = Spec("app:work", "q", priority)
        names = [f"{letter}{number}" for number in range(5)]
        house.propose_nowait(commands.enqueue(PID(), spec, names, [b""] * 5))
    everything = ids(house.machine)
    assert everything == ["a0", "a1", "a2", "a3", "a4", "b0", "b1", "b2", "b3", "b4"]
    pages = [jobs_map(house.machine, "q", None, limit=4, offset=at) for at in (0, 4, 8, 12)]
    assert [job["id"] for page in pages for job in page if isinstance(job, dict)] == everything
    assert [len(page) for page in pages] == [4, 4, 2, 0]


def test_a_page_fits_a_frame_whatever_its_jobs_hold() -> None:
    """A list of large jobs would be more than a link carries, and close it."""
    house = LocalHouse(CLOCK)
    spec = Spec("app:work", "q")
    for number in range(20):
        op = commands.enqueue(PID(), spec, [str(number)], [b"x" * 1024 * 1024])
        house.propose_nowait(op)
    page = jobs_map(house.machine, None, None, limit=1_000, offset=0)
    assert len(page) == 20
    assert len(encode_frame([1, 0, page])) < 5 * 1024 * 1024
    assert isinstance(page[0], dict)
    assert isinstance(page[-1], dict)
    assert page[0]["args"] is not None
    assert page[-1]["args"] is None
    assert len(jobs_map(house.machine, None, None, limit=5_000, offset=0)) <= views.LIST_JOBS_MAX


def test_a_job_says_what_happened_to_it() -> None:
    """People would see the wrong attempt, node, error or time."""
    machine = house_with_one_job_in_each_state().machine
    told = job_map(machine.jobs["retry"])
    assert encode_frame([1, 0, told])
    now_ms = CLOCK.now_ms()
    assert told == {
        "id": "retry",
        "state": "retry",
        "task": "app:work",
        "queue": "emails",
        "priority": 2,
        "args": b"args",
        "attempt": 2,
        "retries": 1,
        "retries_left": 0,
        "result_ttl_ms": 600_000,
        "timeout_ms": 0,
        "isolated": False,
        "max_lost": 3,
        "lost": 0,
        "fence": machine.jobs["retry"].fence,
        "enqueued_at": now_ms,
        "run_at": now_ms + 900,
        "started_at": None,
        "completed_at": None,
        "by": "n1",
        "error": ["ValueError", "no", "trace"],
        "errors": [["ValueError", "no", "trace", now_ms]],
    }
    assert job_map(machine.jobs["failed"])["attempt"] == 1
    assert job_map(machine.jobs["queued"])["by"] is None


def test_counts_by_queue_and_by_state() -> None:
    """Statistics would not add up, or a declared queue be missing."""
    house = house_with_one_job_in_each_state()
    machine = house.machine
    stats = stats_map(machine)
    assert stats == {"default": 0, "emails": 1, "unknown_task": 0} | dict.fromkeys(State, 1)
    assert counts_map(machine)["enqueued_total"] == 7
    queues = queues_map(machine, CLOCK.now_ms() + 500)
    assert list(queues) == ["default", "emails"]
    emails = queue_map(machine, "emails", CLOCK.now_ms() + 500)
    assert queues["emails"] == emails
    expected = {"queued": 1, "running": 1, "scheduled": 1, "retry": 1, "failed": 1}
    expected |= {"latency_ms": 500, "paused": False, "enqueued_total": 7, "succeeded_total": 1}
    expected |= {"failed_total": 1, "retried_total": 1, "cancelled_total": 1, "lost_total": 0}
    assert {key: emails[key] for key in expected} == expected


def test_times_and_rates_of_a_queue() -> None:
    """An operator would not see that jobs wait or run longer than they should."""
    house = house_with_one_job_in_each_state()
    emails = queue_map(house.machine, "emails", CLOCK.now_ms())
    assert encode_frame([1, 0, emails])
    assert emails["ran"] == {"count": 3, "mean_ms": 4, "p50_ms": 3, "p95_ms": 7, "max_ms": 7}
    assert emails["waited"] == {"count": 4, "mean_ms": 0, "p50_ms": 0, "p95_ms": 0, "max_ms": 0}
    # two ended for good, of the last minute and the five seconds it began with at most
    assert 2 / 65 - 0.001 < emails["per_second_1m"] <= 2 / 60 + 0.001
    assert 2 / 305 - 0.001 < emails["per_second_5m"] <= 2 / 300 + 0.001


def test_jobs_that_were_put_aside_are_listed() -> None:
    """What no node can run would be counted as waiting and be found in no list."""
    house = LocalHouse(CLOCK)
    house.propose_nowait(commands.enqueue(PID(), Spec("app:gone", "q"), ["1", "2"], [b"", b""]))
    body = commands.encode_entry(CLOCK.now_ms(), 1, [commands.park(PID(), "app:gone", ["1"])])
    house.machine.apply(house.machine.index + 1, body)
    assert stats_map(house.machine)["unknown_task"] == 1
    assert ids(house.machine, "q", State.QUEUED) == ["2", "1"]
    assert ids(house.machine, "other") == []
