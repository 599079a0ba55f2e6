"""How far jobs are, told to the node now and then."""

from __future__ import annotations

import asyncio

from exkiq.clock import Clock
from exkiq.pool.assignment import Assignment
from exkiq.pool.outbox import Outbox
from exkiq.pool.words import Word

# A job that counts to a million would send as many messages.
PERIOD_SECONDS = 0.1


class Telling:
    """The last progress of each job of a child, sent at most once a period for all of them.

    Jobs say theirs in their threads; the first after a pause goes out at once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, outbox: Outbox, clock: Clock) -> None:
        self._loop = loop
        self._outbox = outbox
        self._clock = clock
        self._news: dict[tuple[str, int], bytes] = {}
        self._is_due = False
        self._sent_at = float("-inf")

    def say(self, job: Assignment, progress: bytes) -> None:
        """From any thread."""
        self._news[job.id, job.fence] = progress
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon_threadsafe(self._wait)

    def _wait(self) -> None:
        wait = self._sent_at + PERIOD_SECONDS - self._clock.monotonic()
        if wait > 0:
            self._loop.call_later(wait, self._send)
        else:
            self._send()

    def _send(self) -> None:
        # Before the news are taken: what is said from here on comes with the next message.
        self._is_due = False
        self._sent_at = self._clock.monotonic()
        while self._news:
            (job_id, fence), progress = self._news.popitem()
            self._outbox.put(Word.PROGRESS, [job_id, fence, progress])
