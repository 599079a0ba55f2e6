"""The checks of whole clusters, each made to see what it is there for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from exkiq.errors import NoQuorum
from exkiq.machine import Applied, Machine, Spec, commands
from exkiq.machine.commands import encode_entry
from tests.sim.disk import Disk
from tests.sim.pool import Run
from tests.sim.violation import Violation
from tests.sim.watch import Watch, check_surely_not_done

BODY = encode_entry(1, 1, [])


class Nodes:
    """Three nodes that apply what they are told, and who watches them."""

    def __init__(self) -> None:
        self.disks = {name: Disk(name, Path()) for name in ("n1", "n2", "n3")}
        self.watch = Watch(self.disks, lambda: 0.0)
        self.logs: dict[str, list[tuple[bytes, int, int]]] = {}
        self.nodes = {name: self._node(name) for name in self.disks}
        for index in (2, 3, 4):
            self.apply("n1", index)

    def _node(self, name: str) -> Any:
        log = self.logs[name] = [(b"", 1, 0)]
        journal = _Log(log)
        replica = SimpleNamespace(
            machine=Machine(),
            journal=journal,
            commit_index=1,
            voters=frozenset(self.disks),
            leader=None,
            term=1,
        )
        host = SimpleNamespace(life=1, local=0.0)
        return SimpleNamespace(name=name, host=host, replica=replica)

    def apply(
        self, name: str, index: int, body: bytes = BODY, *, on: tuple[str, ...] = ("n1", "n2")
    ) -> None:
        """`name` applies an entry that is on these disks."""
        node = self.nodes[name]
        for disk in on:
            self.disks[disk].entries.append((body, index, 1, 0))
        self.logs[name].append((body, index, 1))
        applied = node.replica.machine.apply(index, body)
        node.replica.commit_index = max(node.replica.commit_index, index)
        self.watch.applied(node, applied)

    def lead(self, name: str, term: int) -> None:
        replica = self.nodes[name].replica
        replica.leader, replica.term = name, term
        self.watch.leadership(self.nodes[name])


class _Log:
    def __init__(self, entries: list[tuple[bytes, int, int]]) -> None:
        self._entries = entries
        self.first_index = 1

    def __getitem__(self, position: int) -> tuple[bytes, int, int]:
        return self._entries[position]

    def term_at(self, index: int) -> int | None:
        return next((term for _, at, term in self._entries if at == index), None)


def two_leaders_in_a_term(made: Nodes) -> None:
    made.watch.log = {1: made.watch.log[1]}
    made.watch.last = 1
    made.lead("n1", 2)
    made.lead("n2", 2)


def leader_without_a_committed_entry(made: Nodes) -> None:
    made.lead("n3", 2)


def another_entry_at_an_index(made: Nodes) -> None:
    made.apply("n2", 2, encode_entry(2, 1, []))


def another_state_at_an_index(made: Nodes) -> None:
    made.nodes["n2"].replica.machine.digest = b"other"
    made.apply("n2", 2)


def entry_left_out(made: Nodes) -> None:
    made.logs["n1"].append((BODY, 5, 1))
    made.apply("n1", 6)


def applied_twice(made: Nodes) -> None:
    made.watch.applied(made.nodes["n1"], Applied())


def commit_index_goes_back(made: Nodes) -> None:
    made.nodes["n1"].replica.commit_index = 3
    made.watch.applied(made.nodes["n1"], Applied())


def applied_on_a_minority(made: Nodes) -> None:
    made.apply("n1", 5, on=("n1",))


def applied_before_the_sync(made: Nodes) -> None:
    made.disks["n2"].fresh_from, made.disks["n2"].fresh_at = 5, 1.0
    made.apply("n1", 5)


def committed_entry_dropped_from_a_disk(made: Nodes) -> None:
    made.watch.synced(made.disks["n2"])
    del made.disks["n2"].entries[-1]
    made.watch.synced(made.disks["n2"])


def counted_and_not_there(made: Nodes) -> None:
    made.watch.model.totals["succeeded"] = 1
    made.apply("n1", 5)


def job_in_another_place(made: Nodes) -> None:
    spec = Spec("m:t", "default")
    made.apply("n1", 5, encode_entry(1, 1, [commands.enqueue(b"p" * 12, spec, ["a"], [b""])]))
    made.nodes["n1"].replica.machine.queues["default"].lanes.clear()
    made.watch.compare(made.nodes["n1"])


def acknowledged_and_nowhere(made: Nodes) -> None:
    made.watch.told(b"p" * 12, ["a"], [1, []])
    made.watch.check_told()


def answered_otherwise(made: Nodes) -> None:
    made.apply("n1", 5, encode_entry(1, 1, [commands.pause(b"p" * 12, "mail")]))
    made.watch.told(b"p" * 12, [], "ok")
    made.watch.check_told()


def surely_not_done_and_done(made: Nodes) -> None:
    made.apply("n1", 5, encode_entry(1, 1, [commands.pause(b"p" * 12, "mail")]))
    check_surely_not_done(made.watch.model, [(b"p" * 12, NoQuorum("nothing was stored"))])


def run_without_a_claim(made: Nodes) -> None:
    made.watch.runs.append(Run("n1", 1, "a", 5, 0.0, 0))
    made.watch.check_ledger()


def run_twice_under_one_fence(made: Nodes) -> None:
    made.watch.model.claims["a", 5] = "n1", 1
    made.watch.runs += [Run("n1", 1, "a", 5, 0.0, 0, 0.1), Run("n1", 2, "a", 5, 1.0, 0, 1.1)]
    made.watch.check_ledger()


def run_before_its_time(made: Nodes) -> None:
    made.watch.model.claims["a", 5] = "n1", 1
    made.watch.model.due["a", 5] = 1_000
    made.watch.runs.append(Run("n1", 1, "a", 5, 0.0, 900))
    made.watch.check_ledger()


BROKEN: list[tuple[str, Callable[[Nodes], None]]] = [
    ("H12 leaders", two_leaders_in_a_term),
    ("H1 leader", leader_without_a_committed_entry),
    ("H12 log", another_entry_at_an_index),
    ("H12 state", another_state_at_an_index),
    ("H12 gap", entry_left_out),
    ("H12 commit", applied_twice),
    ("H12 commit", commit_index_goes_back),
    ("P1 majority", applied_on_a_minority),
    ("P1 majority", applied_before_the_sync),
    ("S3 vouched", committed_entry_dropped_from_a_disk),
    ("H11", counted_and_not_there),
    ("H11 place", job_in_another_place),
    ("H1", acknowledged_and_nowhere),
    ("H3", answered_otherwise),
    ("H2", surely_not_done_and_done),
    ("H6", run_without_a_claim),
    ("H6", run_twice_under_one_fence),
    ("H8", run_before_its_time),
]


@pytest.mark.parametrize(("kind", "make"), BROKEN, ids=[make.__name__ for _, make in BROKEN])
def test_broken_cluster_is_seen(kind: str, make: Callable[[Nodes], None]) -> None:
    """Nodes that disagree, or promise what is not on their disks, pass for sound."""
    with pytest.raises(Violation) as caught:
        make(Nodes())
    assert caught.value.kind == kind, caught.value
