"""The check that states are the same in every field, not only in what they have answered."""

from __future__ import annotations

from collections.abc import Iterable

from exkiq.machine import encode_snapshot
from tests.sim.node import SimNode
from tests.sim.violation import Violation


def check_equal_states(nodes: Iterable[SimNode]) -> None:
    """H12: nodes that have applied the same are equal, byte for byte."""
    first: dict[int, tuple[str, bytes]] = {}
    for node in nodes:
        machine = node.replica.machine
        name, state = first.setdefault(
            machine.index, (node.name, encode_snapshot(machine.capture()))
        )
        if encode_snapshot(machine.capture()) != state:
            raise Violation(
                "H12 bytes", f"{name} and {node.name} have another state at {machine.index}"
            )
