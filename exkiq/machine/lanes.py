"""One replicated queue: who waits in it, in which order, and what has been counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exkiq.machine.lane import Lane
from exkiq.machine.record import State
from exkiq.machine.tally import EndedRecently, Tally

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exkiq.machine.record import Record

_LANES_KEPT = 8

TOTALS = (
    "enqueued_total",
    "succeeded_total",
    "failed_total",
    "retried_total",
    "cancelled_total",
    "lost_total",
)
"""Counters of a queue that only grow."""


class QueueState:
    """One queue.

    Duties:
      1. `lanes`: a lane for each priority in use, ordered by `Record.order`, of the jobs that
         may start: those in state queued, and due retries.
      2. `later`: the jobs whose time has not come, in the order in which their timers were set.
      3. Counts of its jobs by state, and totals.
      4. Statistics: how long its jobs waited until they started (`waited`) and how long their
         attempts ran that succeeded or failed (`ran`), and how many succeeded or failed for
         good lately.
    """

    __slots__ = (
        "ended_recently",
        "failed",
        "paused",
        "lanes",
        "later",
        "name",
        "queued",
        "ran",
        "retry",
        "running",
        "scheduled",
        "waited",
        *TOTALS,
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.paused = False
        self.lanes: dict[int, Lane] = {}
        self.later = Lane()
        self.queued = 0
        self.scheduled = 0
        self.retry = 0
        self.running = 0
        self.failed = 0
        self.enqueued_total = 0
        self.succeeded_total = 0
        self.failed_total = 0
        self.retried_total = 0
        self.cancelled_total = 0
        self.lost_total = 0
        self.waited = Tally()
        self.ran = Tally()
        self.ended_recently = EndedRecently()

    @property
    def run_ms_total(self) -> int:
        """How long all attempts ran together, in milliseconds."""
        return self.ran.total

    def lane(self, priority: int) -> Lane:
        """The lane of this priority, made when it is not there."""
        lane = self.lanes.get(priority)
        if lane is None:
            if len(self.lanes) >= _LANES_KEPT:
                self.lanes = {key: lane for key, lane in self.lanes.items() if lane}
            lane = self.lanes[priority] = Lane()
        return lane

    def waiting(self) -> Iterator[Record]:
        """Jobs that may start once the queue is not paused, in hand-out order."""
        for priority in sorted(self.lanes, reverse=True):
            yield from self.lanes[priority].values()

    def waiting_count(self) -> int:
        """How many jobs may start once the queue is not paused."""
        return sum(map(len, self.lanes.values()))

    def latency_ms(self, now_ms: int) -> int:
        """How long the head of the lane that has waited longest has been ready to start."""
        heads = [lane.first().run_at_ms for lane in self.lanes.values() if lane]
        return max(0, now_ms - min(heads)) if heads else 0

    def count(self, state: State, change: int) -> None:
        """Change the count of one state by so many; ended jobs are not counted here."""
        if state is State.QUEUED:
            self.queued += change
        elif state is State.RUNNING:
            self.running += change
        elif state is State.RETRY:
            self.retry += change
        elif state is State.SCHEDULED:
            self.scheduled += change
