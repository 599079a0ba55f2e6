"""Releases side by side: an operation that is too new for the cluster is unknown to everyone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType

import pytest

from exkiq.errors import DataError
from exkiq.machine import Machine, commands, encode_snapshot, schema
from exkiq.machine import machine as machine_module
from exkiq.machine.commands import Op
from tests.machine.driver import Driver

NEW_CODE = 99


@contextmanager
def later_release() -> Iterator[None]:
    """The code inside belongs to a release that knows one operation more."""
    with pytest.MonkeyPatch.context() as patch:
        known = machine_module.VERBS
        patch.setattr(schema, "SCHEMA", 2)
        patch.setattr(schema, "SINCE", {NEW_CODE: 2})
        verbs = {**known, NEW_CODE: known[Op.DECLARE]}
        patch.setattr(machine_module, "VERBS", MappingProxyType(verbs))
        yield


def new_op(pid: bytes) -> bytes:
    """It does what DECLARE does."""
    op = bytearray(commands.declare(pid, ["new"]))
    op[1] = NEW_CODE
    return bytes(op)


def both(ops: list[list[bytes]]) -> tuple[Machine, Machine]:
    """A replica of this release and one of a later release, after the same entries."""
    earlier, later = Machine(), Machine()
    for index, entry in enumerate(ops, 1):
        body = commands.encode_entry(1_000, 1, entry)
        told = earlier.apply(index, body).results
        with later_release():
            assert later.apply(index, body).results == told
    return earlier, later


def test_old_and_new_replicas_stay_equal_until_all_can():
    """One of them would carry out what the other calls unknown."""
    pid = Driver().pid
    earlier, later = both([[new_op(pid())], [commands.declare(pid(), ["old"]), new_op(pid())]])
    assert earlier.state_hash == later.state_hash
    assert encode_snapshot(earlier.capture()) == encode_snapshot(later.capture())
    assert list(later.queues) == ["old"]


def test_once_it_is_raised_the_new_operation_is_carried_out():
    with later_release():
        driver = Driver()
        refused = driver.entry(new_op(driver.pid()))[0]
        assert refused.text == f"no operation has the code {NEW_CODE}"
        assert driver.schema(2) is True
        assert driver.schema(2) is False
        assert driver.schema(1) is False
        assert driver.entry(new_op(driver.pid())) == [1]
        restored = Machine.restore(encode_snapshot(driver.machine.capture()))
        assert restored.schema == 2


def test_who_does_not_know_the_schema_stops_and_says_what_to_do():
    """It would go on with another state than the rest."""
    driver = Driver()
    with pytest.raises(DataError, match="uses schema 2 and this release of exkiq knows 1: install"):
        driver.schema(2)


def test_who_stopped_writes_no_snapshot_and_a_later_release_goes_on_from_before():
    """What it did after that entry is a guess: a later release would load it and differ."""
    driver = Driver()
    driver.add("a")
    data = encode_snapshot(driver.machine.capture())
    bodies = [[commands.schema(driver.pid(), 2)], [new_op(driver.pid())]]
    entries = [commands.encode_entry(driver.now_ms, 1, ops) for ops in bodies]
    for index, body in enumerate(entries, 2):
        with pytest.raises(DataError):
            driver.machine.apply(index, body)
        with pytest.raises(DataError):
            driver.machine.capture()
    with later_release():
        again = Machine.restore(data)
        for index, body in enumerate(entries, 2):
            again.apply(index, body)
        assert list(again.queues) == ["mail", "new"]


def test_a_snapshot_of_a_later_schema_is_refused():
    with later_release():
        driver = Driver()
        driver.schema(2)
        data = encode_snapshot(driver.machine.capture())
    with pytest.raises(DataError, match="uses schema 2 and this release of exkiq knows 1"):
        Machine.restore(data)


@pytest.mark.parametrize(
    ("members", "present", "level"),
    [
        ([], 1, 2),
        ([2, 2], 1, 2),
        ([3, 2], 1, 2),
        ([2, 1], 1, None),
        ([2, None], 1, None),
        ([2, 2], 2, None),
    ],
)
def test_the_schema_is_what_all_members_can(members, present, level):
    """A member that is down or older would have to stop."""
    with later_release():
        assert schema.next_schema(members, present) == level


def test_this_release_gates_only_what_it_has():
    """A gate for a code that is none would hide a slip of the pen."""
    assert set(schema.SINCE) <= set(machine_module.VERBS)
    assert all(1 < since <= schema.SCHEMA for since in schema.SINCE.values())
