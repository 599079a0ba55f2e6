"""Snapshots: canonical, complete, and safe to trust; captures that do not change."""

from __future__ import annotations

import gc
import hashlib
import struct
import threading

import msgpack
import pytest

from exkiq.errors import DataError
from exkiq.machine import Machine, check_invariants, encode_snapshot, limits, snapshot
from exkiq.machine.record import freeze
from tests.machine.driver import MAIL, Driver
from tests.machine.test_total import lively


def test_a_restored_machine_is_equal_and_goes_on_equally():
    """A replica that loaded a snapshot must not be told from one that replayed the log."""
    first = lively()
    data = encode_snapshot(first.machine.capture())
    second = Driver(Machine.restore(data))
    second._pids = first._pids
    assert check_invariants(second.machine) == []
    assert second.machine.counts() == first.machine.counts()
    assert [freeze(record) for record in second.machine.jobs.values()] == [
        freeze(record) for record in first.machine.jobs.values()
    ]
    for driver in (first, second):
        session = driver.machine.sessions["n1"].id
        driver.retry()
        driver.tick(20_000)
        driver.session_over("n1", session, is_orderly=False)
        driver.begin("n1", "again")
        driver.clear("mail")
        driver.tick(700_000)
    assert first.machine.state_hash == second.machine.state_hash
    assert first.waiting() == second.waiting()
    snapshots = [encode_snapshot(driver.machine.capture()) for driver in (first, second)]
    assert snapshots[0] == snapshots[1]


def test_an_empty_machine_has_a_snapshot():
    """A follower may ask before anything happened."""
    data = encode_snapshot(Machine().capture())
    assert encode_snapshot(Machine.restore(data).capture()) == data


def test_many_jobs_and_tombstones_span_many_chunks():
    """Nothing is lost at the edges of chunks."""
    driver = Driver()
    for n in range(3):
        ids = [f"{n}-{i}" for i in range(300)]
        driver.add(*ids, spec=MAIL._replace(task=f"app:T{n}"))
    for n in range(300):
        driver.cancel(f"1-{n}")
    data = encode_snapshot(driver.machine.capture())
    restored = Machine.restore(data)
    assert list(restored.jobs) == list(driver.machine.jobs)
    assert restored.tombstones.stones == driver.machine.tombstones.stones
    assert [r.spec for r in restored.jobs.values()] == [
        r.spec for r in driver.machine.jobs.values()
    ]
    assert check_invariants(restored) == []


def test_an_id_that_ended_twice_at_one_time_stays_taken_on_every_replica(monkeypatch):
    """A replica that loaded a snapshot would refuse a job that the others accept."""
    monkeypatch.setattr(limits, "DUE_MOVES_MAX", 1)
    first = Driver()
    session = first.begin()
    first.add("a")
    for again in (first.retry, first.delete):
        first.take(session, "a")
        first.fail_one(session, "a", "failed")
        again()
    first.tick(limits.TOMBSTONE_MS)
    assert len(first.machine.tombstones.rows) == 1
    second = Driver(Machine.restore(encode_snapshot(first.machine.capture())))
    second.now_ms = first.now_ms
    assert second.add("a") == first.add("a") == [0, [0]]
    first.tick(1)
    assert first.add("a") == [1, []]


def test_any_damage_is_noticed():
    """A flipped bit must never become a state."""
    driver = Driver()
    driver.add("a")
    data = encode_snapshot(driver.machine.capture())
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(DataError):
            Machine.restore(bytes(damaged))
        with pytest.raises(DataError):
            Machine.restore(data[:position])
    with pytest.raises(DataError):
        Machine.restore(data + b"\x00")


def sealed(body: bytes) -> bytes:
    """Any body between a header and an end that fit it."""
    data = struct.pack(">8sH", snapshot.MAGIC, snapshot.VERSION) + body + bytes(4)
    return data + hashlib.sha256(data).digest()


def test_a_well_sealed_body_that_is_no_state_is_refused():
    """Written by a version with a bug, say: an error, not a crash elsewhere."""
    data = encode_snapshot(lively().machine.capture())
    body = data[10:-36]
    assert Machine.restore(sealed(body)).index == Machine.restore(data).index
    for length in range(0, len(body) - 30, 7):
        with pytest.raises(DataError):
            Machine.restore(sealed(body[:length]))
    for value in (None, [], [1], {"a": 1}, [[]] * 13, "text"):
        chunk = msgpack.packb(value)
        with pytest.raises(DataError):
            Machine.restore(sealed(struct.pack(">I", len(chunk)) + chunk))


def test_a_capture_does_not_change_while_the_machine_goes_on():
    """The snapshot is written by another thread, minutes of work later."""
    driver = lively()
    capture = driver.machine.capture()
    data = encode_snapshot(capture)
    session = driver.machine.sessions["n1"].id
    fence = driver.job("a").fence
    driver.checkpoint(session, "a", fence, b"more")
    driver.fail_one(session, "a", "retry", 1)
    driver.take(session, "b", "c")
    driver.complete(session, ["b"], [driver.job("b").fence], [b"v"])
    driver.session_over("n1", session, is_orderly=False)
    driver.retry()
    driver.cancel("due")
    driver.clear("mail")
    driver.tick(1_000_000)
    driver.add("a")
    assert encode_snapshot(capture) == data
    assert Machine.restore(data).index == capture.index


def test_a_capture_can_be_encoded_while_another_thread_applies():
    """No lock is needed: the old fields are kept before a record changes."""
    driver = Driver()
    session = driver.begin()
    ids = [f"j{n}" for n in range(1_000)]
    driver.add(*ids)
    data = encode_snapshot(driver.machine.capture())
    capture = driver.machine.capture()
    results: list[bytes] = []
    thread = threading.Thread(target=lambda: results.append(encode_snapshot(capture)))
    thread.start()
    fence = driver.take(session, *ids)
    driver.complete(session, ids, [fence] * 1_000, [b"v"] * 1_000)
    thread.join()
    assert results == [data]


def test_a_capture_that_is_let_go_costs_nothing_more():
    """Else every record would be kept for ever."""
    driver = lively()
    capture = driver.machine.capture()
    driver.tick(0)
    assert len(driver.machine._captures) == 1
    del capture
    gc.collect()
    driver.tick(0)
    assert driver.machine._captures == []
    assert driver.machine.captures == ()


def test_the_hash_tells_replicas_apart_for_ever():
    """H12: a difference of one entry is still seen thousands of entries later."""
    first, second = Driver(), Driver()
    first.add("a")
    second.add("b")
    assert first.machine.state_hash != second.machine.state_hash
    for driver in (first, second):
        driver.clear("mail")
        driver.tick(100_000)
    assert first.machine.state_hash != second.machine.state_hash
    assert len(first.machine.state_hash) == 32


def test_the_hash_sees_what_an_entry_did_not_only_what_it_said():
    """The same log over another state is a divergence."""
    drivers = [Driver(), Driver()]
    for driver in drivers:
        driver.add("a")
    drivers[1].machine.queues["mail"].paused = True
    for driver in drivers:
        driver.pause("mail")
    assert drivers[0].machine.state_hash != drivers[1].machine.state_hash
