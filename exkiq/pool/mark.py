"""How far a child has come in what it was given: a number in memory that it shares with its node.

Not a word on the line: one would cost each batch as much as its outcome does, could not be said
by a child that a job blocks, and not be heard by a node that is held up itself.
"""

from __future__ import annotations

import mmap
import os
import tempfile

MARK_BYTES = 8


class Mark:
    """The number of the last START that a child has taken up; 0 at first.

    One side writes, the other reads, each in one piece.
    """

    __slots__ = ("_cells",)

    def __init__(self, descriptor: int) -> None:
        page = mmap.mmap(descriptor, MARK_BYTES)  # with a descriptor of its own
        self._cells = memoryview(page).cast("Q")

    @property
    def number(self) -> int:
        return self._cells[0]

    @number.setter
    def number(self, number: int) -> None:
        self._cells[0] = number


def memory_to_share() -> int:
    """A descriptor of memory for one mark. Errors: OSError when the system has none."""
    descriptor = _anonymous()
    os.ftruncate(descriptor, MARK_BYTES)
    return descriptor


def _anonymous() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("exkiq-mark")
    with tempfile.TemporaryFile() as file:  # not Linux
        return os.dup(file.fileno())
