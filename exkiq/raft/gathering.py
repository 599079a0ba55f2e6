"""Group commit: operations are gathered while an entry is on its way, and leave as one."""

from __future__ import annotations

from exkiq.machine.limits import ENTRY_BYTES_MAX, OP_BYTES_MAX

GATHERED_BYTES_MAX = 64 * 1024 * 1024  # beyond it operations are dropped; their origins repeat


class Gathering:
    """What the leader has been asked for and has not put into the log."""

    def __init__(self) -> None:
        self._ops: list[bytes] = []
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._ops)

    def add(self, op: bytes) -> None:
        """Take an operation in, if there is room for it."""
        if len(op) <= OP_BYTES_MAX and self._bytes < GATHERED_BYTES_MAX:
            self._ops.append(op)
            self._bytes += len(op)

    def take(self) -> list[bytes]:
        """The oldest operations that fit into one entry; one at least."""
        total, count = 0, 0
        for op in self._ops:
            total += len(op)
            if count and total > ENTRY_BYTES_MAX:
                total -= len(op)
                break
            count += 1
        taken = self._ops[:count]
        del self._ops[:count]
        self._bytes -= total
        return taken

    def drop(self) -> None:
        """We lead no more: the origins of these send them to the next leader."""
        self._ops.clear()
        self._bytes = 0


def in_frames(ops: list[bytes]) -> list[list[bytes]]:
    """The operations in groups of about an entry's size, in their order."""
    groups: list[list[bytes]] = []
    room = 0
    for op in ops:
        if not groups or len(op) > room:
            groups.append([])
            room = ENTRY_BYTES_MAX
        groups[-1].append(op)
        room -= len(op)
    return groups
