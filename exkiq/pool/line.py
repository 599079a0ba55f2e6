"""The line between a node and its child, and the end of the process behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from exkiq.errors import RemoteWireError
from exkiq.machine import limits
from exkiq.pool.assignment import Assignment
from exkiq.pool.words import BATCH_BYTES_MAX
from exkiq.wire.frames import FrameDecoder


def in_parts(jobs: Sequence[Assignment]) -> list[list[Assignment]]:
    """`jobs` cut so that no frame gets much larger than a batch may be."""
    parts: list[list[Assignment]] = [[]]
    size = 0
    for job in jobs:
        if size > BATCH_BYTES_MAX:
            parts.append([])
            size = 0
        parts[-1].append(job)
        size += len(job.payload) + len(job.checkpoint or b"")
    return parts


class Exit(asyncio.SubprocessProtocol):
    """Says that the process has exited."""

    def __init__(self, exited: Callable[[], None]) -> None:
        self._exited = exited

    def process_exited(self) -> None:
        self._exited()


class Line(asyncio.Protocol):
    """The node's end of the line: frames to words."""

    def __init__(
        self, heard: Callable[[list[Any]], None], lost: Callable[[Exception | None], None]
    ) -> None:
        self._heard = heard
        self._lost = lost
        self._decoder = FrameDecoder(limits.FRAME_BYTES_MAX)
        self._transport: asyncio.BaseTransport | None = None
        self._fault: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._fault is not None:
            return
        try:
            for word in self._decoder.feed(data):
                self._heard(word)  # type: ignore[arg-type]
        except (RemoteWireError, TypeError, ValueError, LookupError) as error:
            # User code in the child can write what it likes; it must not take the node along.
            self._fault = error
            if self._transport is not None:
                self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._lost(self._fault)
