"""Rows about what is not lost that need no cluster, and about the package itself."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import exkiq
from exkiq import errors
from exkiq.clock import ManualClock
from exkiq.machine import Machine, Spec, State, commands
from exkiq.machine.commands import encode_entry
from tests.cluster.harness import ROOT
from tests.rows.jobs import Echo, Note
from tests.rows.nodes import make_node


def test_HD_20_a_second_completion_is_refused_and_counted() -> None:
    machine, pids = Machine(), iter(range(1, 100))

    def apply(*ops: bytes) -> list[Any]:
        entry = encode_entry(1_000, 1, ops)
        return [answer for _, answer in machine.apply(machine.index + 1, entry).results]

    def pid() -> bytes:
        return next(pids).to_bytes(12, "big")

    (session,) = apply(commands.session_begin(pid(), "n", "run", "address"))
    apply(commands.enqueue(pid(), Spec("app:work", "default"), ["job"], [b"x"]))
    claim = [("n", session, ["job"])]
    apply(commands.claim(pid(), claim))
    first = machine.jobs["job"].fence
    apply(commands.hand_back(pid(), session, ["job"], [first]))
    apply(commands.claim(pid(), claim))
    second = machine.jobs["job"].fence
    assert second > first
    assert apply(commands.complete(pid(), session, ["job"], [first], [b"\x01"])) == [0]
    assert machine.jobs["job"].state is State.RUNNING
    assert apply(commands.complete(pid(), session, ["job"], [second], [b"\x02"])) == [1]
    assert apply(commands.complete(pid(), session, ["job"], [second], [b"\x03"])) == [0]
    assert (machine.jobs["job"].state, machine.jobs["job"].result) == (State.SUCCEEDED, b"\x02")
    assert machine.counts()["stale_completions"] == 2


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), "1", True])
def test_HL_01_what_is_no_delay_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="delay"):
        Note.set(delay=wrong)


def test_HL_01_a_clock_that_steps_back_undoes_nothing() -> None:
    machine, clock, pids = Machine(), ManualClock(), iter(range(1, 100))

    def apply(*ops: bytes) -> None:
        machine.apply(machine.index + 1, encode_entry(clock.now_ms(), 1, ops))

    def pid() -> bytes:
        return next(pids).to_bytes(12, "big")

    spec = Spec("app:work", "default")
    for name in ("first", "second"):
        apply(commands.enqueue(pid(), spec, [name], [b"x"], delay_ms=1_000))
    clock.advance(1_000)
    apply(commands.declare(pid(), ["default"]))  # the log has come so far: both are due
    clock.step_wall(-3_600_000)
    apply(commands.due(pid()))
    assert [machine.jobs[name].state for name in ("first", "second")] == [State.QUEUED] * 2
    apply(commands.due(pid()))
    assert machine.waiting_count("default") == 2


def test_HA_03_nothing_runs_beside_it_and_memory_writes_no_file(surroundings: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=;\[]", need)[0] for need in project["dependencies"]}
    assert names == {"msgpack", "pysyncobj", "typer", "rich", "uvloop", "zeroconf"}
    before = {path for path in surroundings.rglob("*") if path.is_file()}
    with make_node("alone", cluster="rows-memory", concurrency=1) as node:
        exkiq.connect(f"exkiq://{node.address}")
        assert Echo.call(1) == [[1], {}]
        written = {path for path in surroundings.rglob("*") if path.is_file()} - before
    assert written == set()


def test_HD_17_the_readme_says_what_failover_covers() -> None:
    text = (ROOT / "README.md").read_text()
    _, _, part = text.partition("## What survives, and what is not promised")
    part = " ".join(part.partition("\n## ")[0].split())
    for said in ("At least once", "Three nodes survive the loss of one", "below a majority"):
        assert said in part
    assert "not for production" not in text.lower()
    assert "self.job.id" in part  # by what a second run does no harm


def test_EX_07_a_node_is_started_by_a_verb_or_a_block(surroundings: Path) -> None:
    node = make_node("verb", cluster="rows-verb", concurrency=0)
    assert node.start() is node
    with pytest.raises(errors.AlreadyStarted):
        node.start()
    node.wait_ready().stop()
    node.stop()  # twice does no harm
    with pytest.raises(errors.NotRunning):
        node.status()
    with node as again:
        assert again.members == ["verb"]
        assert dataclasses.is_dataclass(again.settings)
