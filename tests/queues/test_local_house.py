"""The house of one process: everything applied at once, in order, and told to who asked."""

from __future__ import annotations

import asyncio

import pytest

from exkiq.clock import ManualClock
from exkiq.errors import JobAlreadyExists, Refused
from exkiq.machine import Applied, Spec, commands
from exkiq.machine import Refused as Refusal
from exkiq.queues import House, LocalHouse, error_of, raise_or_return
from tests.aggregator.pretend import Pids

PID = Pids()
SPEC = Spec("app:work", "default")


def enqueue(*ids: str, is_unique: bool = False) -> bytes:
    return commands.enqueue(PID(), SPEC, ids, [b""] * len(ids), is_unique=is_unique)


def test_an_operation_is_applied_at_once_and_answered() -> None:
    """A caller would wait for something that has happened."""
    house: House = LocalHouse(ManualClock(), "n1")
    assert house.is_leader
    assert house.leader == "n1"
    told: list[object] = []
    house.propose_with(enqueue("1", "2"), 5.0, told.append)
    house.propose_nowait(enqueue("2", "3"))
    assert told == [[2, []]]
    assert list(house.machine.jobs) == ["1", "2", "3"]
    assert asyncio.run(house.propose(enqueue("3", "4"), 5.0)) == [1, [0]]


def test_a_refusal_is_the_error_it_names() -> None:
    """A caller could not tell a taken id from an outage."""
    house = LocalHouse(ManualClock())
    house.propose_nowait(enqueue("1"))
    with pytest.raises(JobAlreadyExists, match="'1'"):
        asyncio.run(house.propose(enqueue("1", is_unique=True), 5.0))
    told: list[object] = []
    house.propose_with(enqueue("1", is_unique=True), 5.0, told.append)
    assert isinstance(told[0], Refusal)
    with pytest.raises(ValueError, match="without an id"):
        house.propose_with(b"", 5.0, told.append)


def test_every_kind_of_refusal_has_its_class() -> None:
    """A refusal of the machine would reach people as a bare Refused."""
    for kind in ("JobTooLarge", "NoSuchJob", "ResultTooLarge", "SerializationError"):
        assert type(error_of(Refusal(kind, "text"))).__name__ == kind
    unknown = error_of(Refusal("Exception", "text"))
    assert type(unknown) is Refused
    assert str(unknown) == "text"
    assert raise_or_return(7) == 7
    with pytest.raises(Refused):
        raise_or_return(unknown)


def test_listeners_hear_every_entry_and_may_propose() -> None:
    """An operation from within a listener would be lost, or applied in the middle of an entry."""
    house = LocalHouse(ManualClock())
    heard: list[tuple[str, int]] = []

    def answer(applied: Applied) -> None:
        heard.append(("first", len(applied.results)))
        if len(house.machine.jobs) < 3:
            house.propose_nowait(enqueue(str(len(house.machine.jobs))))

    house.subscribe(answer)
    house.subscribe(lambda applied: heard.append(("second", len(applied.results))))
    house.propose_nowait(enqueue("0"))
    assert heard == [("first", 1), ("second", 1)] * 3
    assert house.machine.index == 3
