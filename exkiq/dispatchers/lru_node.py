"""The node used least recently, idle ones first: the default of replicated queues.

Nodes a, b, c with two slots each are used a, b, c, a, b, c. A node without a free slot is out of
the ring. A node that runs nothing comes before one that runs something, however long ago that
one was used: nobody gets a second job while another sits idle.

Slots are counted, not kept: a turn of the leader hands out hundreds.
"""

from __future__ import annotations

from collections.abc import Container

from exkiq.dispatchers.protocol import Dispatcher, Offer


class _Node:
    """`out`: slots handed out and not back yet; `used`: when, in hand-outs since the start."""

    __slots__ = ("free", "name", "out", "used")

    def __init__(self, name: str) -> None:
        self.name = name
        self.free = 0
        self.out = 0
        self.used = 0


def _place_in_ring(node: _Node) -> tuple[bool, int]:
    return node.out > 0, node.used


class LRUNode(Dispatcher):
    """Deals jobs to the idle, then to the node used least recently."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._used = 0

    def available(self) -> bool:
        return any(node.free for node in self._nodes.values())

    def check_in(self, slot: str) -> None:
        node = self._node(slot)
        node.free += 1
        node.out = max(0, node.out - 1)

    def check_out(self, job: Offer) -> str | None:
        ring = self._with_room(job.nodes)
        if not ring:
            return None
        node = min(ring, key=_place_in_ring)
        self._use(node, 1)
        return node.name

    def remove(self, slot: str) -> None:
        self._nodes.pop(slot, None)

    def known(self, slot: str) -> bool:
        return slot in self._nodes

    def room(self, node: str, free: int, running: int) -> None:
        """`node` has `free` slots and runs `running` jobs by the log, which may be behind.

        A slot that came back shows here before its completion is applied, so the smaller of
        the two counts of what is out is the true one.
        """
        kept = self._nodes.get(node)
        if kept is None:
            kept = self._node(node)
            kept.out = running
        else:
            kept.out = max(0, min(kept.out - (free - kept.free), running))
        kept.free = free

    def deal(self, count: int, nodes: Container[str]) -> list[tuple[str, slice]]:
        """As `count` check-outs in turn, but round by round: slices instead of single jobs."""
        ring = sorted(self._with_room(nodes), key=_place_in_ring)
        hands: list[tuple[str, slice]] = []
        start = 0
        while ring and start < count:
            ring = ring[: count - start]  # the last round may not reach everyone
            rounds = min(min(node.free for node in ring), (count - start) // len(ring))
            stop = start + rounds * len(ring)
            for offset, node in enumerate(ring):
                hands.append((node.name, slice(start + offset, stop, len(ring))))
                self._use(node, rounds)
            ring = [node for node in ring if node.free]
            start = stop
        return hands

    def _node(self, name: str) -> _Node:
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = _Node(name)
        return node

    def _with_room(self, nodes: Container[str]) -> list[_Node]:
        return [node for node in self._nodes.values() if node.free and node.name in nodes]

    def _use(self, node: _Node, slots: int) -> None:
        self._used += 1
        node.used = self._used
        node.free -= slots
        node.out += slots
