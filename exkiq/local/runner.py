"""The slots of one local queue: who runs what, chosen by a dispatcher."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

from exkiq.clock import Clock
from exkiq.dispatchers import LRU, Dispatcher, Offer
from exkiq.local.workshop import Seat, Workshop
from exkiq.pool.assignment import Assignment
from exkiq.pool.children import ChildProcess, Ending
from exkiq.pool.pool import CANCEL_SECONDS, SAVE_PART, SAVE_SECONDS
from exkiq.pool.report import Report, Reporter
from exkiq.pool.settling import Settling
from exkiq.pool.words import Order, Word
from exkiq.pool.work import App
from exkiq.telemetry import log
from exkiq.wire.messages import COMMON, UNABLE_MAX


class LocalRunner:
    """Runs claimed jobs in this process; a `Runner` of a session, as the pool of a node is.

    Duties: 1 give each job a slot, the one that the dispatcher says; 2 pass on what the slots
    say, once a turn, to `report`; 3 let jobs end when the process does, and hand back the rest.

    A job that is over its timeout is failed; its thread cannot be stopped, so its slot is given
    up and another one takes its place. Everything is called on the loop of the house.
    """

    report: Callable[[Report], None]

    def __init__(
        self,
        concurrency: int,
        make_dispatcher: Callable[[], Dispatcher],
        app: App,
        workshop: Workshop,
        clock: Clock,
    ) -> None:
        self._app, self._workshop, self._clock = app, workshop, clock
        self._reporter = Reporter(lambda report: self.report(report))
        self._settling = Settling(self._reporter)
        self._names = dict.fromkeys(map(str, range(1, concurrency + 1)))
        self._dispatcher = make_dispatcher()
        self._seats: dict[str, Seat] = {}
        self._busy: dict[str, Seat] = {}
        self._held: deque[Assignment] = deque()
        self._is_taking = True
        self._idle = asyncio.Event()
        for name in self._names:
            self._dispatcher.check_in(name)

    # ---- as the runner of a session --------------------------------------------------------------

    @property
    def free(self) -> int:
        """How many jobs could start now."""
        if not self._is_taking:
            return 0
        barred = sum(not seat.has_room for seat in self._seats.values())
        return max(0, len(self._names) - len(self._busy) - len(self._held) - barred)

    @property
    def free_by_group(self) -> Mapping[str, int]:
        """The same, as a pool says it."""
        return {COMMON: self.free}

    @property
    def unable(self) -> tuple[str, ...]:
        """Tasks that no slot can run now."""
        if len(self._seats) < len(self._names):
            return ()
        seats = iter(self._seats.values())
        unable = set(next(seats).unable)
        for seat in seats:
            unable &= seat.unable
        return tuple(sorted(unable)[:UNABLE_MAX])

    def run(self, assignments: list[Assignment]) -> None:
        """Start these jobs, each as soon as the dispatcher has a slot for it."""
        if not self._is_taking:
            self._settling.hand_back_unstarted(assignments)
            return
        self._held.extend(assignments)
        self._start_held()

    def abandon(self) -> None:
        """Forget everything that runs."""
        self._held.clear()
        for seat in list(self._busy.values()):
            seat.ledger.clear()
            seat.replace(Ending.DROP)
        self._reporter.drop()
        self._reporter.open()

    def stop_job(self, job_id: str, fence: int) -> None:
        """It was cancelled while it runs."""
        for seat in self._busy.values():
            job = seat.ledger.find(job_id, fence)
            if job is not None:
                seat.stop_job(job)
                return
        held = [job for job in self._held if (job.id, job.fence) == (job_id, fence)]
        for job in held:
            self._held.remove(job)
        self._settling.hand_back_unstarted(held)

    def committed(self, job_ids: Iterable[str]) -> None:
        """The success of these is kept: the slots that ran them want to know."""
        for job_id in job_ids:
            seat = self._settling.awaiting.pop(job_id, None)
            if seat is not None:
                seat.order(Order.COMMITTED, [job_id])

    def _start_held(self) -> None:
        try:
            while self._held and self._dispatcher.available():
                job = self._held[0]
                slots = self._slots_for(job.task)
                name = self._dispatcher.check_out(Offer(job.id, job.queue, slots))
                if name is None:
                    return
                seat = self._free_seat(name)
                self._busy[name] = seat
                seat.begin([self._held.popleft()])
        except BaseException as error:  # noqa: BLE001 - a user's code, and the jobs have to go on
            log.error("dispatcher %r raised; LRU goes on", self._dispatcher, exc_info=error)
            self._dispatcher = LRU()
            for name in self._names:
                if name not in self._busy:
                    self._dispatcher.check_in(name)
            self._start_held()

    def _slots_for(self, task: str) -> Container[str]:
        """Those that can run it: where its `init` failed it is tried again only after a while."""
        seats = self._seats.values()
        barred = {seat.name for seat in seats if task in seat.unable or not seat.has_room}
        return self._names.keys() - barred if barred else self._names

    def _free_seat(self, name: str) -> Seat:
        if name not in self._names or name in self._busy:
            raise ValueError(f"{name!r} is no free slot")
        seat = self._seats.get(name)
        if seat is None:
            seat = Seat(int(name), self._app, self._workshop, self, self._clock)
            self._seats[name] = seat
        return seat

    # ---- as the owner of the seats ---------------------------------------------------------------

    def ready(self, child: ChildProcess, *_: Any) -> None:
        """A seat is ready from the start."""

    def heard(self, child: ChildProcess, word: Word, rest: list[Any]) -> None:
        self._settling.heard(child, word, rest)
        self._changed(child)

    def late(self, child: ChildProcess, jobs: Sequence[Assignment]) -> None:
        """No slot is ever late: there is no other to take its jobs."""

    def overdue(self, child: ChildProcess, job: Assignment) -> None:
        if child.ledger.find(job.id, job.fence) is not None:
            self._settling.timed_out(child, job)
            child.replace(Ending.HAND_BACK)

    def gone(self, child: ChildProcess) -> None:
        name = str(child.number)
        self._settling.died(child)
        if self._seats.get(name) is child:
            del self._seats[name]  # the next job of this slot has a new one
        self._changed(child)

    def _changed(self, child: ChildProcess) -> None:
        name = str(child.number)
        if not child.ledger.running and self._busy.get(name) is child:
            del self._busy[name]
            self._checked_in(name)
        if not self._busy:
            self._idle.set()
        self._reporter.open()

    def _checked_in(self, name: str) -> None:
        try:
            self._dispatcher.check_in(name)
        except BaseException as error:  # noqa: BLE001 - as above; it is asked for a slot next
            log.error("dispatcher %r raised", self._dispatcher, exc_info=error)
        self._start_held()

    # ---- the end ---------------------------------------------------------------------------------

    async def drain(self, timeout: float) -> None:
        """Start nothing more, let jobs end, then stop the rest and hand it back."""
        self._is_taking = False
        self._settling.hand_back_unstarted(list(self._held))
        self._held.clear()
        self._order_busy(Order.STOPPING)
        for_saving = min(SAVE_SECONDS, timeout * SAVE_PART)
        if not await self._until_idle(timeout - for_saving):
            self._order_busy(Order.SAVE)
            if not await self._until_idle(for_saving):
                await self._stop_running()
        self._reporter.flush()

    def _order_busy(self, order: Order) -> None:
        for seat in self._busy.values():
            seat.order(order)

    async def _stop_running(self) -> None:
        self._order_busy(Order.CANCEL)
        await self._until_idle(CANCEL_SECONDS)
        for seat in list(self._busy.values()):
            seat.replace(Ending.HAND_BACK)
        await self._until_idle(CANCEL_SECONDS)

    async def _until_idle(self, timeout: float) -> bool:
        self._idle.clear()
        if not self._busy:
            return True
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True
