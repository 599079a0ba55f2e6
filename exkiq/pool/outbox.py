"""A child's words on their way to the node: gathered, and sent as one batch."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from exkiq.pool.words import BATCH_BYTES_MAX, IN_ORDER, Word
from exkiq.wire.frames import encode_frame


class Outbox:
    """Takes outcomes from every thread of the child.

    1. keeps them in order: a job's checkpoint is out before its end;
    2. wakes the loop once a batch, however many threads add to it;
    3. sends a frame for each kind of word, cut where it would be too large.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Callable[[bytes], None]) -> None:
        self._loop = loop
        self._send = send
        self._rows: deque[tuple[Word, Any]] = deque()
        self._is_woken = False

    def put(self, word: Word, row: object) -> None:
        """Add a word, on the loop."""
        self._rows.append((word, row))
        if not self._is_woken:
            self._is_woken = True
            self._loop.call_soon(self.flush)

    def put_threadsafe(self, word: Word, row: object) -> None:
        """Add a word, from any thread."""
        self._rows.append((word, row))
        if not self._is_woken:
            self._is_woken = True
            self._loop.call_soon_threadsafe(self.flush)

    def note(self, text: str, job_id: str = "", level: int = logging.WARNING) -> None:
        """A line for the node's log, from any thread."""
        self.put_threadsafe(Word.NOTES, [job_id, text, level])

    def flush(self) -> None:
        """Send what there is."""
        # Before the rows are taken: one that is added from here on wakes the loop again.
        self._is_woken = False
        words: dict[Word, list[Any]] = {}
        rows = self._rows
        while rows:
            word, row = rows.popleft()
            words.setdefault(word, []).append(row)
        in_order = words if len(words) == 1 else [word for word in IN_ORDER if word in words]
        frames = [frame for word in in_order for frame in _frames(word, words[word])]
        if frames:
            self._send(b"".join(frames))


def _frames(word: Word, rows: list[Any]) -> Iterator[bytes]:
    for part in _parts(rows, _SIZES.get(word, _no_size)):
        if word is Word.DONE:
            yield encode_frame([int(word), *map(list, zip(*part, strict=True))])
        else:
            yield encode_frame([int(word), part])


def _parts(rows: list[Any], size_of: Callable[[Any], int]) -> Iterator[list[Any]]:
    """`rows` cut so that no part is much larger than a batch may be."""
    part: list[Any] = []
    size = 0
    for row in rows:
        part.append(row)
        size += size_of(row)
        if size > BATCH_BYTES_MAX:
            yield part
            part, size = [], 0
    if part:
        yield part


def _no_size(row: Any) -> int:  # noqa: ARG001 - rows of this kind are few and small
    return 0


def _done_size(row: Any) -> int:
    return len(row[2] or b"")


def _checkpoint_size(row: Any) -> int:
    return len(row[2])


def _failed_size(row: Any) -> int:
    # In characters, of which each has 4 bytes at most.
    return 4 * sum(len(text) for text in row[3])


_SIZES: dict[Word, Callable[[Any], int]] = {
    Word.DONE: _done_size,
    Word.CHECKPOINTS: _checkpoint_size,
    Word.FAILED: _failed_size,
    Word.OVERDUE: _failed_size,
}
