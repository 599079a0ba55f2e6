"""Jobs come in: ids, the unique flag, repeats, and every limit of an enqueue."""

from __future__ import annotations

import pytest

from exkiq.machine import Refused, Spec, commands, limits
from tests.machine.driver import MAIL, Driver


def test_an_id_that_is_taken_makes_no_second_job_even_with_other_arguments():
    """EX-21: enqueuing again is safe."""
    driver = Driver()
    assert driver.enqueue(MAIL, ["a", "b"], [b"1", b"2"]) == [2, []]
    assert driver.enqueue(MAIL, ["x", "b", "y"], [b"3", b"4", b"5"]) == [2, [1]]
    assert driver.job("b").payload == b"2"
    assert driver.enqueue(MAIL, ["z", "z"], [b"6", b"7"]) == [1, [1]]
    assert driver.job("z").payload == b"6"
    assert driver.count("enqueued_total", "queued") == [5, 5]


def test_an_id_stays_taken_for_a_minute_after_the_end(monkeypatch):
    """A repeat that arrives after the job has ended must not run it again."""
    monkeypatch.setattr(limits, "SUCCEEDED_JOBS_MAX", 0)
    driver = Driver()
    session = driver.begin()
    driver.add("a")
    driver.complete(session, ["a"], [driver.take(session, "a")])
    assert "a" not in driver.machine.jobs
    assert driver.machine.tombstone("a").state == "succeeded"
    driver.tick(59_999)
    assert driver.add("a") == [0, [0]]
    driver.tick(1)
    assert driver.machine.tombstone("a") is None
    assert driver.add("a") == [1, []]


def test_a_tombstone_is_dropped_with_others_of_its_second(monkeypatch):
    """One DUE a second is enough, whatever the load."""
    monkeypatch.setattr(limits, "SUCCEEDED_JOBS_MAX", 0)
    driver = Driver()
    session = driver.begin()
    driver.add("a")
    driver.complete(session, ["a"], [driver.take(session, "a")])
    assert driver.machine.next_deadline_ms() == driver.now_ms + 61_000


def test_the_number_of_tombstones_is_bounded(monkeypatch):
    """A flood of jobs must not fill the memory with their ids."""
    monkeypatch.setattr(limits, "TOMBSTONES_MAX", 2)
    driver = Driver()
    for job_id in ("a", "b", "c"):
        driver.add(job_id)
        driver.cancel(job_id)
    assert list(driver.machine.tombstones.stones) == ["b", "c"]


def test_unique_is_all_or_nothing():
    """HA-10: exactly one of two simultaneous callers wins, decided by the log."""
    driver = Driver()
    assert driver.add("a", is_unique=True) == [1, []]
    refused = driver.add("b", "a", is_unique=True)
    assert isinstance(refused, Refused)
    assert refused.kind == "JobAlreadyExists"
    assert "a" in refused.text
    assert "b" not in driver.machine.jobs
    assert driver.add("c", "c", is_unique=True).kind == "JobAlreadyExists"


def test_a_unique_enqueue_that_is_repeated_gets_its_first_answer():
    """The caller who won must not be told that the id is taken, by itself."""
    driver = Driver()
    op = commands.enqueue(driver.pid(), MAIL, ["a"], [b""], is_unique=True)
    assert driver.entry(op) == [[1, []]]
    assert driver.entry(op, op) == [[1, []], [1, []]]
    assert driver.count("enqueued_total") == [1]


def test_remembered_answers_are_bounded(monkeypatch):
    """The oldest is forgotten first."""
    monkeypatch.setattr(limits, "REMEMBERED_MAX", 2)
    driver = Driver()
    for job_id in ("a", "b", "c"):
        driver.cancel(job_id)
    assert len(driver.machine.remembered) == 2
    assert list(driver.machine.remembered) == [n.to_bytes(12, "big") for n in (2, 3)]


def test_jobs_of_one_kind_share_one_spec():
    """Memory: the names of a task and queue are stored once."""
    driver = Driver()
    driver.add("a")
    driver.add("b", spec=Spec(*MAIL))
    assert driver.job("a").spec is driver.job("b").spec


GOOD = [["app:T", "mail", 0, 5, 600_000, 3, 0], ["a"], [b"x"], 0, 0, 0]


def with_item(position, value, *, of_spec=False):
    items = [list(item) if isinstance(item, list) else item for item in GOOD]
    if of_spec:
        items[0][position] = value
    else:
        items[position] = value
    return items


BAD = [
    *[with_item(1, ids) for ids in ([], [""], ["i" * 129], [1], [b"a"], "a", None)],
    with_item(1, ["a", "b"]),
    with_item(1, [f"i{n}" for n in range(1_001)]),
    *[with_item(2, payloads) for payloads in ([], [b"x", b"y"], ["x"], [None], b"x")],
    with_item(2, [b"x" * (limits.ARGUMENTS_BYTES_MAX + 1)]),
    *[with_item(3, delay) for delay in (-1, True, 1.0, "1", None, 2**63)],
    *[with_item(4, run_at) for run_at in (-1, False, 1e3, limits.TIME_MS_MAX + 1)],
    *[with_item(5, flags) for flags in (-1, 2, True, None)],
    *[with_item(0, value, of_spec=True) for value in ("", "t" * 501, None, b"t")],
    *[with_item(1, name, of_spec=True) for name in ("", "q" * 256, "é" * 128, "a\nb", None)],
    *[with_item(1, name, of_spec=True) for name in sorted(limits.RESERVED_QUEUE_NAMES)],
    *[with_item(2, value, of_spec=True) for value in (1_001, -1_001, True, 0.0, [1], {"a": 1})],
    *[with_item(place, -1, of_spec=True) for place in (3, 4, 5, 6)],
    *[with_item(place, 2**62, of_spec=True) for place in (3, 4, 5, 6)],
    *[with_item(place, True, of_spec=True) for place in (3, 4, 5, 6)],
    with_item(0, GOOD[0][:6]),
    with_item(0, [*GOOD[0], 1]),
    with_item(0, None),
    GOOD[:5],
    [*GOOD, 0],
]


@pytest.mark.parametrize("items", BAD, ids=lambda items: repr(items)[:60])
def test_bad_enqueues_are_refused_and_store_nothing(items):
    """C-17: whatever comes, the state stays equal and usable."""
    driver = Driver()
    op = commands._pack(commands.Op.ENQUEUE, driver.pid(), *items)
    (refused,) = driver.entry(op)
    assert isinstance(refused, Refused)
    assert refused.text
    assert driver.machine.jobs == driver.machine.queues == {}
    assert driver.machine.sequence == 0


def test_true_is_not_one_even_after_one_was_seen():
    """In Python they are equal and hash alike; a replica restarted between them would differ."""
    driver = Driver()
    assert driver.add("a", spec=MAIL._replace(priority=1, retries=0)) == [1, []]
    for spec in (MAIL._replace(priority=True, retries=0), MAIL._replace(priority=1, retries=False)):
        assert isinstance(driver.add("b", spec=spec), Refused)


def test_the_largest_enqueue_is_taken():
    """Limits are inclusive."""
    driver = Driver()
    spec = Spec("t" * 500, "q" * 255, 1_000, 10_000, limits.RESULT_TTL_MS_MAX, 1_000, 1)
    ids = [f"{n:0128}" for n in range(1_000)]
    assert driver.enqueue(spec, ids, [b"x"] * 1_000, delay_ms=limits.DELAY_MS_MAX) == [1_000, []]
    assert driver.enqueue(MAIL, ["big"], [bytes(limits.ARGUMENTS_BYTES_MAX)]) == [1, []]
    assert driver.add("ünïcode", run_at_ms=limits.TIME_MS_MAX) == [1, []]


def test_arguments_over_the_limit_have_their_own_error():
    """The caller is told what to change."""
    driver = Driver()
    payload = bytes(limits.ARGUMENTS_BYTES_MAX + 1)
    assert driver.enqueue(MAIL, ["a"], [payload]).kind == "JobTooLarge"


def test_the_number_of_queues_is_bounded(monkeypatch):
    """A bug that makes a queue for each job must not fill the statistics."""
    monkeypatch.setattr(limits, "QUEUES_MAX", 2)
    driver = Driver()
    driver.declare(["a", "b"])
    assert isinstance(driver.add("j"), Refused)
    assert isinstance(driver.declare(["a", "c"]), Refused)
    assert isinstance(driver.pause("c"), Refused)
    assert list(driver.machine.queues) == ["a", "b"]


def test_the_number_of_jobs_is_bounded(monkeypatch):
    """A full cluster refuses, rather than dying of memory."""
    monkeypatch.setattr(limits, "JOBS_MAX", 2)
    driver = Driver()
    driver.add("a")
    assert isinstance(driver.add("b", "c"), Refused)
    assert driver.add("b") == [1, []]
