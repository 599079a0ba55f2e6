"""Ids of operations: unique without asking anybody, so that a repeat is known for one."""

from __future__ import annotations

from collections.abc import Callable

ORIGIN_BYTES = 6
COUNTER_BYTES = 6


class OperationIds:
    """Makes the 12-byte id of each operation: 6 random bytes a process, then a counter."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._origin = entropy(ORIGIN_BYTES)
        self._count = 0

    def __call__(self) -> bytes:
        self._count += 1
        return self._origin + self._count.to_bytes(COUNTER_BYTES, "big")
