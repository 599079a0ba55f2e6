"""`apply` gives a value for anything, and what is refused changes nothing."""

from __future__ import annotations

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st

from exkiq.errors import DataError
from exkiq.machine import Machine, Refused, check_invariants, commands, encode_snapshot, intake
from exkiq.machine.commands import Op
from exkiq.machine.schema import SCHEMA
from tests.machine.driver import MAIL, START_MS, Driver
from tests.machine.test_commands import SAMPLES

QUICK = settings(max_examples=150, deadline=None, database=None)
SCALARS = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, -1, 2, 7, 8, 2**31, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)])
    | st.floats()
    | st.sampled_from(["", "a", "mail", "n1", "failed", "retry", "move", "x" * 300])
    | st.binary(max_size=13)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=3))
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=8)
PLACES = st.lists(st.integers(0, 7), min_size=1, max_size=4)


def lively() -> Driver:
    """A machine with a job in every state; session 1, `a` runs under fence 3."""
    driver = Driver()
    session = driver.begin()
    driver.add("a", "b", "c", "done", "failed", "retry", "due", "gone", "kept")
    driver.take(session, "a", "done", "failed", "retry", "due", "gone", "kept")
    fence = driver.machine.index
    driver.complete(session, ["done", "kept"], [fence] * 2, [None, b"v"])
    driver.fail_one(session, "failed", "failed")
    driver.fail_one(session, "retry", "retry", 5_000)
    driver.fail_one(session, "due", "retry", 0)
    driver.fail_one(session, "gone", "abandon")
    driver.add("odd")
    fence = driver.take(session, "odd")
    driver.complete(session, ["odd"], [fence], [("SerializationError", "a set")])
    fence = driver.job("a").fence
    driver.add("later", delay_ms=10_000)
    driver.add("x")
    driver.cancel("x")
    driver.checkpoint(session, "a", fence, b"half")
    driver.add("p", "r", "q", spec=MAIL._replace(task="app:Unknown"))
    driver.take(session, "r")
    driver.fail_one(session, "r", "retry", 0)
    driver.park("app:Unknown", ["p", "r"])
    driver.add("other", spec=MAIL._replace(task="app:Unknown", queue="log", priority=2))
    driver.park("app:Unknown", ["other"])
    driver.add("stop")
    driver.take(session, "stop")
    driver.cancel("stop", running=True)
    driver.session_start(MAIL, "s", b"x")
    driver.session_post("s", "update", b"y")
    driver.pause("paused")
    driver.found("c1", [("n1", "h:1", "i")])
    return driver


LIVELY = encode_snapshot(lively().machine.capture())


def content(machine: Machine) -> list[object]:
    """The whole state but index, time, term and hash."""
    head, *chunks = msgpack_chunks(encode_snapshot(machine.capture()))
    return [head[3:4] + head[5:], *chunks]


def msgpack_chunks(data: bytes) -> list[list[object]]:
    chunks, position = [], 10
    while position < len(data) - 36:
        length = int.from_bytes(data[position : position + 4], "big")
        chunks.append(msgpack.unpackb(data[position + 4 : position + 4 + length]))
        position += 4 + length
    return chunks


BEFORE = content(Machine.restore(LIVELY))
BEFORE_IDS = list(Machine.restore(LIVELY).jobs)


def feed(op: bytes, **header: int) -> None:
    """Apply an operation to the lively machine; the promises of this file must hold."""
    machine = Machine.restore(LIVELY)
    body = commands.encode_entry(header.get("now_ms", START_MS), 1, [op])
    try:
        applied = machine.apply(machine.index + 1, body)
    except DataError:
        assert machine.schema > SCHEMA  # the one thing that stops a node
        return
    ((pid, answer),) = applied.results
    assert type(pid) is bytes
    assert machine.totals.faults == 0, answer
    if isinstance(answer, Refused):
        assert content(machine) == BEFORE
        assert applied.ended == applied.claimed == applied.begun == applied.over == []
        rarer = (applied.retried, applied.moved, applied.stopping, applied.returned, applied.lost)
        assert not any(rarer)
    assert check_invariants(machine) == []


@QUICK
@given(st.binary(max_size=60))
def test_random_bytes(op):
    """As an operation."""
    feed(op)


@QUICK
@given(body=st.binary(max_size=60), has_header=st.booleans())
def test_random_entries(body, has_header):
    """As a whole entry: the index moves, and nothing else."""
    machine = Machine.restore(LIVELY)
    applied = machine.apply(machine.index + 1, b"\x00" * has_header + body)
    assert machine.totals.faults == 0
    assert applied.results == [] or has_header
    assert check_invariants(machine) == []


@QUICK
@given(code=st.sampled_from(Op), items=st.lists(VALUES, max_size=8))
def test_random_items(code, items):
    """Well-formed msgpack of any shape."""
    feed(msgpack.packb([code, b"p" * 12, *items]))


@settings(QUICK, max_examples=500)
@given(code=st.sampled_from(Op), path=PLACES, value=VALUES, is_added=st.booleans())
def test_mutated_operations(code, path, value, is_added):
    """A valid operation with one item, somewhere inside, changed, added or taken away."""
    items = target = msgpack.unpackb(SAMPLES[code])
    for step in path[:-1]:
        inner = target[step % len(target)]
        if not isinstance(inner, list) or not inner:
            break
        target = inner
    place = path[-1] % len(target)
    target[place : place + (not is_added)] = [value] if value is not None or is_added else []
    feed(msgpack.packb(items))


def test_a_schema_of_any_level_is_followed_or_stops_the_node():
    """It would be found by chance alone, one time in ten."""
    for level in (0, 1, SCHEMA, SCHEMA + 1, 2**63 - 1, 2**63):
        feed(msgpack.packb([Op.SCHEMA, b"p" * 12, level]))


@QUICK
@given(
    code=st.sampled_from(Op),
    ids=st.lists(st.sampled_from([*BEFORE_IDS, "new"]), max_size=4),
    session=st.sampled_from([1, 2]),
    fence=st.sampled_from([3, 4]),
)
def test_every_command_meets_jobs_in_every_state(code, ids, session, fence):
    """State by command: whatever is asked of whichever job, the places stay in order."""
    pid, count = b"q" * 12, len(ids)
    failures = [[i, fence, ["requeue"], ["E", "m", "t"], 3] for i in ids]
    ops = {
        Op.ENQUEUE: commands.enqueue(pid, MAIL, ids, [b"x"] * count),
        Op.CLAIM: commands.claim(pid, [("n1", session, ids)]),
        Op.COMPLETE: commands.complete(pid, session, ids, [fence] * count, [b"v"] * count),
        Op.FAIL: commands.fail(pid, session, failures),
        Op.HAND_BACK: commands.hand_back(pid, session, ids, [fence] * count, is_lost=True),
        Op.CANCEL: commands.cancel(pid, ids[0] if ids else "a", running=fence == 3),
        Op.MOVE: commands.move(pid, ids[0] if ids else "a", "log"),
        Op.PARK: commands.park(pid, "app:Mail" if fence == 3 else "app:Unknown", ids),
        Op.UNPARK: commands.unpark(pid, "app:Unknown", fence - 2),
        Op.RETRY: commands.retry(pid, ids),
        Op.DELETE: commands.delete(pid, ids),
        Op.SESSION_START: commands.session_start(pid, MAIL, ids[0] if ids else "s", b"x"),
        Op.SESSION_POST: commands.session_post(pid, "s", "finish" if count else "update", b"x"),
    }
    feed(ops.get(code, SAMPLES[code]), now_ms=START_MS + 700_000)


def test_an_entry_that_was_applied_is_not_applied_again():
    """After a restart the engine may repeat what the snapshot holds."""
    driver = Driver()
    driver.add("a")
    digest = driver.machine.state_hash
    body = commands.encode_entry(driver.now_ms, 1, [SAMPLES[Op.DECLARE]])
    for index in (0, 1, -5):
        assert driver.machine.apply(index, body).results == []
    assert driver.machine.state_hash == digest
    assert list(driver.machine.queues) == ["mail"]


def test_a_malformed_operation_harms_only_itself():
    """Its neighbours in the entry come from other callers."""
    driver = Driver()
    good = commands.enqueue(driver.pid(), MAIL, ["a"], [b""])
    bad = [b"\xff", b"", good[:-1], msgpack.packb([1, b"q" * 12, {}])]
    body = commands.encode_entry(driver.now_ms, 1, [*bad, good, *bad])
    results = driver.machine.apply(1, body).results
    assert [isinstance(answer, Refused) for _, answer in results] == [
        *[True] * 4,
        False,
        *[True] * 4,
    ]
    assert list(driver.machine.jobs) == ["a"]


def test_text_that_is_no_unicode_is_refused():
    """Else it could not be written into a snapshot."""
    driver = Driver()
    op = commands.pause(driver.pid(), "mail").replace(b"mail", b"\xff\xfe\xfd\xfc")
    assert driver.entry(op)[0].kind == "RemoteWireError"


def test_a_bug_of_ours_is_refused_and_counted_and_the_next_entry_is_applied(monkeypatch):
    """F7: an exception in apply would stop the whole cluster for ever."""
    driver = Driver()
    monkeypatch.setattr(intake, "Record", None)
    refused = driver.add("a")
    assert isinstance(refused, Refused)
    assert "TypeError" in refused.text
    monkeypatch.undo()
    assert driver.add("b") == [1, []]
    assert driver.count("faults") == [1]


def test_time_and_term_come_from_the_entry_and_never_go_back():
    """C-10."""
    machine = Machine()
    machine.apply(1, commands.encode_entry(500, 3, []))
    machine.apply(2, commands.encode_entry(400, 2, []))
    assert (machine.now_ms, machine.term, machine.index) == (500, 3, 2)
