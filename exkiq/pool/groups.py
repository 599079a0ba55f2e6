"""How slots are grouped: those of declared pools serve one queue each, the rest is common."""

from __future__ import annotations

from collections.abc import Mapping

from exkiq.wire.messages import COMMON


def shares(
    slots: Mapping[str, int], *, processes: int, concurrency: int, number: int
) -> dict[str, int]:
    """What child `number`, from 1, has of each group: pools are dealt out to one child after the
    other, and what a child has left of its concurrency is common."""
    mine: dict[str, int] = {}
    dealt = 0
    for queue, count in slots.items():
        first = (number - 1 - dealt) % processes
        mine[queue] = max(0, -(-(count - first) // processes))
        dealt += count
    return {COMMON: max(0, concurrency - sum(mine.values())), **mine}
