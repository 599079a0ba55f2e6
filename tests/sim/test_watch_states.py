"""The check of whole states looks at more than answers and counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from exkiq.machine import Machine
from exkiq.machine.commands import encode_entry
from tests.sim.stage import new_jobs
from tests.sim.violation import Violation
from tests.sim.watch_states import check_equal_states


def _node(name: str) -> Any:
    machine = Machine()
    machine.apply(1, encode_entry(1_000, 1, [new_jobs("one")]))
    return SimpleNamespace(name=name, replica=SimpleNamespace(machine=machine))


def test_another_payload_is_seen() -> None:
    """A node that holds another payload than the others passes for equal to them."""
    first, second = _node("n1"), _node("n2")
    check_equal_states([first, second])
    second.replica.machine.jobs["one"].payload = b"y"
    with pytest.raises(Violation, match="another state"):
        check_equal_states([first, second])


def test_who_is_behind_is_not_compared() -> None:
    """A node that has applied less is taken for one that differs."""
    first, second = _node("n1"), _node("n2")
    second.replica.machine.apply(2, encode_entry(2_000, 1, [new_jobs("two")]))
    check_equal_states([first, second])
