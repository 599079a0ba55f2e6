"""What a pool tells its owner, gathered to one report a turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

# A value column holds encoded values, None for None, or one of these two marks in place of a
# value that could not be kept. 0xc1 is the one byte that msgpack never uses.
VALUE_TOO_LARGE = b"\xc1R"
VALUE_NOT_SERIALISABLE = b"\xc1S"  # then the reason, in UTF-8

# [id, fence, decision, [type, message, traceback], run_ms], as the FAIL command wants it.
FailedRow = list[object]


@dataclass(slots=True)
class Done:
    """Jobs that succeeded, as columns of equal length."""

    ids: list[str] = field(default_factory=list)
    fences: list[int] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    run_ms: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """What happened since the last report. An empty one says only that `free` has changed.

    Shapes: done, columns; failed, rows for FAIL; returned, (id, fence, checkpoint) to hand back
            uncounted; lost, (id, fence) to hand back as lost; checkpoints, (id, fence, value).
            A job is in one of the first four at most; its checkpoints count before that.
            progress, (id, fence, value), the last of each; awaiting, ids of `done` for which
            `Pool.committed` is to be called.
    """

    done: Done = field(default_factory=Done)
    failed: list[FailedRow] = field(default_factory=list)
    returned: list[tuple[str, int, bytes | None]] = field(default_factory=list)
    lost: list[tuple[str, int]] = field(default_factory=list)
    checkpoints: list[tuple[str, int, bytes]] = field(default_factory=list)
    progress: list[tuple[str, int, bytes]] = field(default_factory=list)
    awaiting: set[str] = field(default_factory=set)

    @property
    def is_empty(self) -> bool:
        ended = self.done.ids or self.failed or self.returned or self.lost
        return not (ended or self.checkpoints or self.progress)


class Reporter:
    """Holds the report that is being filled, and hands it over once a turn of the loop."""

    def __init__(self, send: Callable[[Report], None]) -> None:
        self._send = send
        self._report: Report | None = None
        self._handle: asyncio.Handle | None = None

    def open(self) -> Report:
        """The report to write into; it goes out in the next turn of the loop."""
        if self._report is None:
            self._report = Report()
            self._handle = asyncio.get_running_loop().call_soon(self.flush)
        return self._report

    def flush(self) -> None:
        """Hand over now what there is."""
        report = self._take()
        if report is not None:
            self._send(report)

    def drop(self) -> None:
        """Forget what was not handed over."""
        self._take()

    def _take(self) -> Report | None:
        report, self._report = self._report, None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        return report
