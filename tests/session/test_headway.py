"""How far jobs are: told by the node that runs them, kept while they run, never stale."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from exkiq import headway
from exkiq.headway import TELL_SECONDS, Headway
from exkiq.machine import Machine, Spec, commands
from exkiq.machine.commands import encode_entry
from exkiq.wire.messages import PROGRESS_ROWS_MAX, Kind, check
from tests.aggregator.pretend import Pids

PID = Pids()


class Loop:
    """A loop whose one timer is run by hand."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.delays: list[float] = []

    def call_later(self, delay: float, call: Callable[[], None]) -> Any:
        self.calls.append(call)
        self.delays.append(delay)
        return SimpleNamespace(cancel=self.calls.clear)

    def turn(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class Stage:
    """Nodes n1 and n2 with a job each, a and b, and what n1 tells its peers."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.loop: Any = Loop()
        self.told: list[list[Any]] = []
        self.headway = Headway("n1", lambda: self.machine, self.told.append)
        self.apply(commands.session_begin(PID(), "n1", "r", "h:1"))
        self.apply(commands.session_begin(PID(), "n2", "r", "h:2"))
        self.apply(commands.enqueue(PID(), Spec("m:t", "q"), ["a", "b"], [b"", b""]))
        self.apply(commands.claim(PID(), [("n1", 1, ["a"]), ("n2", 2, ["b"])]))
        self.fence = self.machine.index

    def apply(self, op: bytes) -> None:
        applied = self.machine.apply(self.machine.index + 1, encode_entry(1, 1, [op]))
        self.headway.forget(applied.ended)


def test_peers_are_told_once_in_a_while_and_only_what_is_new() -> None:
    """Each word of each job would be a message to every node."""
    stage = Stage()
    fence = stage.fence
    stage.headway.gather(stage.loop, [("a", fence, b"\x01")])
    stage.headway.gather(stage.loop, [("a", fence, b"\x02")])
    assert stage.headway.of("a") == b"\x02"
    assert (stage.told, stage.loop.delays) == ([], [TELL_SECONDS])
    stage.loop.turn()
    assert stage.told == [[Kind.PROGRESS, [["a", fence, b"\x02"]]]]
    stage.loop.turn()
    assert len(stage.told) == 1
    assert stage.headway.messages() == stage.told
    check(stage.told[0])


def test_what_peers_tell_is_shown_while_the_job_runs_there() -> None:
    """Another node, or a former run of the job, would be believed."""
    stage = Stage()
    fence = stage.fence
    stage.headway.heard("n1", [["b", fence, b"forged"]])
    stage.headway.heard("n2", [["b", fence - 1, b"former"], ["nobody", fence, b"none"]])
    assert stage.headway.of("b") is None
    assert stage.headway._said == {}
    stage.headway.heard("n2", [["b", fence, b"\x05"]])
    assert stage.headway.of("b") == b"\x05"
    assert stage.headway.messages() == []  # of n2's jobs n2 tells
    stage.apply(commands.complete(PID(), 2, ["b"], [fence]))
    assert stage.headway.of("b") is None
    assert stage.headway._said == {}


def test_a_word_that_overtakes_its_claim_counts_once_that_is_applied() -> None:
    """The first word of a job would be lost on every node that is a moment behind."""
    stage = Stage()
    stage.apply(commands.enqueue(PID(), Spec("m:t", "q"), ["c"], [b""]))
    fence = stage.machine.index + 1
    stage.headway.heard("n2", [["c", fence, b"\x01"]])
    assert stage.headway.of("c") is None
    stage.apply(commands.claim(PID(), [("n2", 2, ["c"])]))
    assert stage.headway.of("c") == b"\x01"


def test_a_job_that_went_elsewhere_has_no_word_of_its_former_node() -> None:
    stage = Stage()
    stage.headway.heard("n2", [["b", stage.fence, b"\x05"]])
    stage.apply(commands.session_over(PID(), "n2", 2, is_orderly=False))
    assert stage.headway.of("b") is None
    stage.apply(commands.claim(PID(), [("n1", 1, ["b"])]))
    assert stage.headway.of("b") is None


def test_what_is_kept_and_sent_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer could fill our memory, or one message a whole frame."""
    stage = Stage()
    monkeypatch.setattr(headway, "HELD_MAX", 5)
    far = [[f"j{number}", 1_000, b""] for number in range(20)]
    stage.headway.heard("n2", far)
    assert len(stage.headway._said) <= 5
    stage.headway.gather(stage.loop, [("a", stage.fence, b"\x01")])
    assert stage.headway.of("a") == b"\x01"  # what runs wins over what may come
    monkeypatch.undo()
    rows = [(f"j{number}", 1, b"") for number in range(PROGRESS_ROWS_MAX + 1)]
    stage.headway.gather(stage.loop, rows)
    stage.loop.turn()
    assert [len(message[1]) for message in stage.told] == [PROGRESS_ROWS_MAX, 2]
    stage.headway.stop()
    stage.headway.stop()
