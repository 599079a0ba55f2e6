"""The committed log as a witness: what differs, is missing, or leads to another state is found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from exkiq.machine import Machine, Spec, commands
from tests.faults.committed import FIRST, Log, judge
from tests.faults.history import OK, History, NodeState, Send

SPEC = Spec("m:t", "q", 0, 0, 0, 3, 0)
NOW_MS = 1_700_000_000_000


def pid(number: int) -> bytes:
    return number.to_bytes(12, "big")


def good() -> tuple[History, list[Log]]:
    """One job from its enqueue to its end, on three nodes."""
    begin = commands.session_begin(pid(1), "n1", "run", "127.0.0.1:1")
    operations = [
        begin,
        commands.enqueue(pid(2), SPEC, ["a"], [b""]),
        commands.claim(pid(3), [("n1", FIRST, ["a"])]),
        commands.complete(pid(4), FIRST, ["a"], [FIRST + 2], [None], [1]),
    ]
    bodies = [commands.encode_entry(NOW_MS + n, 1, [op]) for n, op in enumerate(operations)]
    entries = {FIRST + n: (1, body) for n, body in enumerate(bodies)}
    machine = Machine()
    for index, (_, body) in entries.items():
        machine.apply(index, body)
    history = History(sends={"a": Send("a", "single", 1.0, 1.1, OK)})
    names = ("n1", "n2", "n3")
    last = max(entries)
    history.nodes = {name: NodeState("n1", last, machine.state_hash) for name in names}
    # how far it is committed is known a little later than it is
    return history, [Log(name, last - 1, dict(entries)) for name in names]


def another_entry(history: History, logs: list[Log]) -> None:
    logs[1].entries[FIRST + 1] = (1, logs[1].entries[FIRST][1])


def another_term(history: History, logs: list[Log]) -> None:
    logs[1].entries[FIRST + 1] = (2, logs[1].entries[FIRST + 1][1])


def gap(history: History, logs: list[Log]) -> None:
    del logs[2].entries[FIRST + 1]


def another_state(history: History, logs: list[Log]) -> None:
    history.nodes["n3"].state_hash = "0" * 32


def acknowledged_and_not_there(history: History, logs: list[Log]) -> None:
    history.sends["b"] = Send("b", "single", 1.0, 1.1, OK)


def not_ended(history: History, logs: list[Log]) -> None:
    history.nodes.clear()  # nobody says that the last entry is committed


BAD: list[tuple[Callable[[History, list[Log]], None], str]] = [
    (another_entry, "H12 log"),
    (another_term, "H12 log"),
    (gap, "H12 gap"),
    (another_state, "H12 state"),
    (acknowledged_and_not_there, "H1 lost"),
    (not_ended, "H1 end"),
]


def test_a_good_log_passes() -> None:
    """A witness that cries wolf would be switched off."""
    history, logs = good()
    judge(history, logs)
    assert history.log == []
    assert history.log_ids == {"a"}
    assert history.claims == {("a", FIRST + 2): "n1"}


@pytest.mark.parametrize(("spoil", "kind"), BAD, ids=lambda part: getattr(part, "__name__", part))
def test_a_bad_log_is_found(spoil: Callable[[History, list[Log]], None], kind: str) -> None:
    """Nodes that went different ways, or forgot something, would pass as one cluster."""
    history, logs = good()
    spoil(history, logs)
    judge(history, logs)
    assert {text.partition(":")[0] for text in history.log} == {kind}
