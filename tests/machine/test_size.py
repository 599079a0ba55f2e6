"""Many jobs: what a snapshot costs the node that goes on meanwhile, and a restart.

Processor time of this thread against that of a fixed loop: no other process changes it much.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator

import pytest

from exkiq.machine import (
    Applied,
    Machine,
    check_invariants,
    commands,
    encode_pieces,
    encode_snapshot,
    limits,
)
from exkiq.machine.record import Record, freeze
from tests.machine.driver import MAIL, Driver

JOBS = 20_000
BULK = 1_000
RESTORE_FACTOR = 5


@pytest.fixture(autouse=True)
def _no_collections() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module")
def large() -> Machine:
    driver = Driver()
    for start in range(0, JOBS, BULK):
        driver.add(*[f"job-{number:032}" for number in range(start, start + BULK)])
    return driver.machine


def least(act: Callable[[], object]) -> float:
    """Seconds of this thread, of three tries the best."""
    found = []
    for _ in range(3):
        began = time.thread_time()
        act()
        found.append(time.thread_time() - began)
    return min(found)


def build() -> dict[str, list[int]]:
    """What any restart would have to do at least: objects of plain Python, by their names."""
    return {str(number): [number] * 20 for number in range(JOBS)}


def test_taking_a_capture_takes_next_to_no_time(large: Machine) -> None:
    """Commits would stall at every snapshot, the longer the more jobs wait."""
    assert least(large.capture) < least(lambda: list(large.jobs.values())) / 2


def test_no_step_of_writing_a_snapshot_holds_the_interpreter_for_long(large: Machine) -> None:
    """The thread that writes pauses between steps; within one the loop may have to wait."""
    steps: list[float] = []
    began = time.thread_time()
    for _ in encode_pieces(large.capture()):
        now = time.thread_time()
        steps.append(now - began)
        began = now
    assert len(steps) > JOBS / 300
    assert sorted(steps)[-3] < sum(steps) / 40


def test_many_queues_and_session_jobs_cost_a_capture_as_little_as_many_jobs() -> None:
    """Their statistics and states are large: written at once they would stall every node."""
    driver = Driver()
    names = [f"q{number}" for number in range(500)]
    driver.declare(names)
    for queue in driver.machine.queues.values():
        for ms in range(300):
            queue.waited.observe([ms * ms])
            queue.ran.observe([ms * ms])
    for name in names:
        driver.entry(
            commands.session_start(driver.pid(), MAIL, name, b""),
            *(commands.session_post(driver.pid(), name, "update", b"") for _ in range(20)),
        )
    capture = driver.machine.capture()
    written = least(lambda: list(map(len, encode_pieces(capture))))
    assert least(driver.machine.capture) < written / 8  # a 25th; copied at once: more than all
    sizes = [len(piece) for piece in encode_pieces(capture)]
    assert max(sizes) < sum(sizes) / 10


def test_a_restart_takes_about_a_microsecond_a_job(large: Machine) -> None:
    """A node with a million jobs would be away for many seconds."""
    data = encode_snapshot(large.capture())
    assert len(data) < 60 * JOBS
    assert least(lambda: Machine.restore(data)) < RESTORE_FACTOR * least(build)


def test_reading_a_snapshot_pauses_often(large: Machine) -> None:
    """A node that takes one in while it runs would be called lost."""
    pauses: list[float] = []
    Machine.restore(encode_snapshot(large.capture()), lambda: pauses.append(time.thread_time()))
    assert len(pauses) > JOBS / 300


def test_jobs_that_stay_among_many_that_go_do_not_keep_their_pages() -> None:
    """Each would hold the room of a hundred others."""
    driver = Driver()
    session = driver.begin()
    ids = [f"j{number}" for number in range(5_000)]
    for start in range(0, 5_000, BULK):
        driver.add(*ids[start : start + BULK])
    capture = driver.machine.capture()
    data = encode_snapshot(capture)
    gone = [job_id for job_id in ids if int(job_id[1:]) % 100]
    for start in range(0, len(gone), BULK):
        some = gone[start : start + BULK]
        fence = driver.take(session, *some)
        driver.complete(session, some, [fence] * len(some))
    machine = driver.machine
    pages = {id(record.page): record.page for record in machine.jobs.values()}
    room = sum(len(page.places) for page in pages.values())
    assert room <= 4 * len(machine.jobs) + 256
    assert check_invariants(machine) == []
    assert encode_snapshot(capture) == data
    restored = Machine.restore(encode_snapshot(machine.capture()))
    assert list(map(freeze, restored.jobs.values())) == list(map(freeze, machine.jobs.values()))
    assert check_invariants(restored) == []


def test_no_table_grows_with_the_number_of_jobs(large: Machine) -> None:
    """A table of a million is made anew as it grows, in all nodes at once: none leads then."""
    tables = [*large.jobs._shards]
    lane = large.queues["mail"].lanes[0]
    tables += [segment.records for segment in lane._segments.values()]
    assert sum(map(len, tables)) == 2 * JOBS
    assert max(map(len, tables)) < 300


def test_a_machine_that_is_let_go_gives_its_memory_back_bit_by_bit() -> None:
    """Of a node that took a snapshot in, all jobs it had before would stay in memory."""
    driver = Driver()
    for number in range(20):
        driver.add(*(f"{number}-{each}" for each in range(250)))
    driver.enqueue(MAIL, ["later"], [b""], delay_ms=1_000)
    others = _records()
    pauses: list[None] = []
    driver.machine.let_go(lambda: pauses.append(None))
    driver.machine = Machine()
    assert _records() == others - 5_001
    assert len(pauses) > 256


def test_a_job_that_is_gone_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node makes no full collections: what kept itself alive would fill its memory in days."""
    monkeypatch.setattr(limits, "CANCELLED_JOBS_MAX", 0)
    driver = Driver()
    others = _records()
    for number in range(5):
        driver.add(*(f"{number}-{each}" for each in range(BULK)))
        capture = driver.machine.capture() if number % 2 else None
        driver.clear("mail")
        del capture
    driver.applied = Applied()
    assert len(driver.machine.jobs) == 0
    assert _records() == others


def _records() -> int:
    return sum(isinstance(each, Record) for each in gc.get_objects())
