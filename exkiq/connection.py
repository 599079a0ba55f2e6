"""The client's way to the nodes: one link, and another one as soon as that fails.

All of it lives on one loop; `post` alone may be called from elsewhere.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from exkiq.bridge import Inbox
from exkiq.clock import Clock
from exkiq.errors import (
    ClusterMismatch,
    ExkiqError,
    NoQueueError,
    NoSuchJob,
    NotRunning,
    OutcomeUnknown,
    Unavailable,
)
from exkiq.links import Link
from exkiq.machine.limits import MIB
from exkiq.orders import Enqueue, Gatherer
from exkiq.requests import PAUSE_SECONDS, Request, ResultWait, Watch, named_error
from exkiq.seeker import Seeker
from exkiq.service import Tasks

# Bytes of unanswered requests on a link: a quarter of what makes a node or a link give up.
UNDER_WAY_BYTES_MAX = 4 * MIB

# After a node said "not now", before the next one is asked; doubles a few times.
REFUSED_PAUSE_SECONDS = 0.05
REFUSED_DOUBLINGS_MAX = 4

# Questions for a result that a node holds at once: below what it takes from one client.
POLLS_MAX = 5_000

# The shortest time between two looks at deadlines and silence.
LOOK_SECONDS = 0.02


@dataclass(slots=True)
class Flight:
    """A request on its way: sent over `link`, silent at `silent_at` if nothing comes."""

    request: Request
    link: Link
    silent_at: float


class Connection:
    """Asks the nodes on behalf of one process.

    Duties: 1 keep one link, to whichever node answers; 2 hold every request until it is
    answered, and send it again, elsewhere, when its link is lost, its node says "not now" or
    nothing comes; 3 bound what is under way; 4 end each request at its deadline, with what the
    caller may conclude.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seeker: Seeker,
        *,
        clock: Clock,
        chance: Callable[[], float],
        next_pid: Callable[[], bytes],
    ) -> None:
        self._loop = loop
        self._seeker = seeker
        self._clock = clock
        self._chance = chance
        self._is_closed = False
        self._gatherer = Gatherer(next_pid, self.ask)
        self._inbox = Inbox(loop, self._gatherer.flush)
        self.post = self._inbox.post  # the one thing to be called from other threads
        self._link: Link | None = None
        self._retired: set[Link] = set()
        self._rids = itertools.count(1)
        self._live: dict[Request, None] = {}
        self._waiting: deque[Request] = deque()
        self._parked: deque[ResultWait] = deque()
        self._polls = 0
        self._owed: dict[Link, int] = {}
        self._flights: dict[int, Flight] = {}
        self._bytes_under_way = 0
        self._tasks = Tasks()
        self._is_seeking = False
        self._look_timer: asyncio.TimerHandle | None = None
        self._look_at = math.inf

    # ---- in ------------------------------------------------------------------------------------

    def enqueue(self, enqueue: Enqueue) -> None:
        """Gather it with the others of this turn."""
        self._gatherer.add(enqueue)

    def ask(self, request: Request) -> None:
        """See the request to its end."""
        if self._is_closed:
            request.is_over = True
            request.waiter.resolve(None, NotRunning("this client is closed"))
            return
        self._live[request] = None
        request.is_queued = True
        self._waiting.append(request)
        self._look_by(request.deadline)
        self._send_waiting()

    def ask_all(self, requests: Iterable[Request]) -> None:
        """See them to their ends."""
        for request in requests:
            self.ask(request)

    def forget(self, request: Request) -> None:
        """Its caller has gone."""
        if request.is_over:
            return
        if isinstance(request, Watch):
            self._unwatch(request)
        self._settle(request)

    def forget_all(self, requests: Iterable[Request]) -> None:
        """Their caller has gone, or has all answers."""
        for request in requests:
            self.forget(request)

    def _unwatch(self, request: Watch) -> None:
        """Tell the node that nobody watches any more; its answer to that is of no interest."""
        for rid in request.rids:
            self._flights[rid].link.send([next(self._rids), "unwatch", rid])

    async def close(self, error: type[ExkiqError] = NotRunning, why: str = "") -> None:
        """Hang up. Who still waits is told so; may be called twice."""
        self._is_closed = True
        await self._tasks.stop()
        for request in list(self._live):
            self._finish(request, None, error(why or "this client was closed meanwhile"))
        for link in (self._link, *self._retired):
            if link is not None:
                link.close("the client closes")
        self._link = None
        if self._look_timer is not None:
            self._look_timer.cancel()

    # ---- out -----------------------------------------------------------------------------------

    def _send_waiting(self) -> None:
        while self._waiting and not self._is_closed:
            if self._link is None:
                self._seek()
                return
            request = self._waiting[0]
            is_full = self._bytes_under_way + request.size > UNDER_WAY_BYTES_MAX
            if is_full and self._bytes_under_way and not request.is_over and not request.sendings:
                return
            self._waiting.popleft()
            if isinstance(request, ResultWait):
                self._park(request)
            elif not request.is_over:
                self._send(self._link, request)
        while self._link is not None and self._parked and self._polls < POLLS_MAX:
            request = self._parked.popleft()
            if not request.is_over:
                self._send(self._link, request)

    def _send(self, link: Link, request: Request) -> None:
        now = self._clock.monotonic()
        rid = next(self._rids)
        if isinstance(request, Watch):
            self._unwatch(request)  # of two nodes each would tell every step
            self._land_all(request)
        if not request.sendings:
            self._bytes_under_way += request.size
        request.sendings += 1
        request.is_queued = False
        request.rids.append(rid)
        silent_at = now + request.patience(now)
        self._flights[rid] = Flight(request, link, silent_at)
        self._owed[link] = self._owed.get(link, 0) + 1
        self._polls += isinstance(request, ResultWait)
        self._look_by(silent_at)
        request.sent_at = now
        link.send(request.message(rid, now))

    def _land(self, rid: int) -> Flight | None:
        """This sending is over."""
        flight = self._flights.pop(rid, None)
        if flight is None:
            return None
        flight.request.rids.remove(rid)
        self._owed[flight.link] -= 1
        self._polls -= isinstance(flight.request, ResultWait)
        return flight

    def _land_all(self, request: Request) -> None:
        for rid in list(request.rids):
            flight = self._land(rid)
            if flight is not None:
                self._close_if_idle(flight.link)

    def _park(self, request: ResultWait) -> None:
        """Polls wait for their turn, and never in the way of what is quickly done."""
        request.park()
        self._parked.append(request)

    def _unpark(self) -> None:
        """There is no link: those in turn do not wait for an answer, but for a node."""
        for request in self._parked:
            request.unpark(self._clock.monotonic())
            self._look_by(request.deadline)
        self._waiting += self._parked
        self._parked.clear()

    def _again(self, request: Request) -> None:
        """Send it once more, before those that were not sent yet."""
        if request.is_over or request.is_queued or self._is_closed:
            return
        request.is_queued = True
        self._waiting.appendleft(request)
        self._send_waiting()

    def _again_in(self, seconds: float, request: Request) -> None:
        self._loop.call_later(seconds, self._again, request)

    # ---- answers -------------------------------------------------------------------------------

    def _on_message(self, link: Link, message: list[Any]) -> None:
        if message[0] == 0:
            self._seeker.learn(message[2])
            return
        if message[1] == 2:
            self._on_push(message[0], message[2])
            return
        flight = self._land(message[0])
        if flight is None:
            return  # answered by another node meanwhile, or given up
        if message[1] == 0:
            self._on_answer(flight.request, message[2])
        else:
            self._on_error(flight.request, link, named_error(message[2], message[3]))
        self._close_if_idle(link)
        self._send_waiting()

    def _on_push(self, rid: int, told: Any) -> None:
        flight = self._flights.get(rid)
        if flight is None or not isinstance(flight.request, Watch):
            return
        now = self._clock.monotonic()
        flight.silent_at = now + flight.request.patience(now)
        flight.request.pushed(told, now)

    def _on_answer(self, request: Request, value: Any) -> None:
        if request.is_final(value, self._clock.monotonic()):
            self._finish(request, value, None)
        else:
            self._again_in(PAUSE_SECONDS, request)

    def _on_error(self, request: Request, link: Link, error: ExkiqError) -> None:
        if isinstance(error, NoSuchJob) and request.is_expected(self._clock.monotonic()):
            self._again_in(PAUSE_SECONDS, request)
        elif not request.is_repeatable or isinstance(error, NoQueueError):
            self._finish(request, None, error)
        elif isinstance(error, OutcomeUnknown):
            request.is_doubtful = True
            self._refused(request, link)
        elif isinstance(error, Unavailable):
            request.refusal = error
            if request.is_late_for_another(self._clock.monotonic()):
                self._finish(request, None, error)
            else:
                self._refused(request, link)
        else:
            self._finish(request, None, error)

    def _refused(self, request: Request, link: Link) -> None:
        pause = REFUSED_PAUSE_SECONDS * 2.0 ** min(request.refusals, REFUSED_DOUBLINGS_MAX)
        request.refusals += 1
        self._turn_from(link)
        # by chance, so that those who were refused together do not come back together
        self._again_in(pause * (0.5 + self._chance() / 2), request)

    def _finish(self, request: Request, value: Any, error: Exception | None) -> None:
        self._settle(request)
        request.waiter.resolve(value, error)

    def _settle(self, request: Request) -> None:
        request.is_over = True
        self._live.pop(request, None)
        self._land_all(request)
        if request.sendings:
            self._bytes_under_way -= request.size
            self._send_waiting()

    # ---- links ---------------------------------------------------------------------------------

    def _seek(self) -> None:
        if not self._is_seeking and not self._is_closed:
            self._is_seeking = True
            self._tasks.start(self._find_link(), name="finding a node")

    async def _find_link(self) -> None:
        try:
            link = await self._seeker.find(self._is_needed, self._listen_to)
        except ClusterMismatch as error:
            for request in list(self._waiting):
                self._finish(request, None, ClusterMismatch(*error.args))
        else:
            if link is not None and link.is_open:
                self._link = link
        finally:
            self._is_seeking = False
        self._send_waiting()

    def _is_needed(self) -> bool:
        while self._waiting and self._waiting[0].is_over:
            self._waiting.popleft()
        return bool(self._waiting)

    def _listen_to(self, link: Link) -> None:
        link.on_message = self._on_message
        link.on_close = self._on_close

    def _turn_from(self, link: Link) -> None:
        """Prefer another node from now on; what `link` still owes may yet come."""
        if self._link is link:
            self._link = None
            self._seeker.avoid(link)
            self._retired.add(link)
            self._unpark()
            self._close_if_idle(link)

    def _close_if_idle(self, link: Link) -> None:
        if link in self._retired and not self._owed.get(link):
            link.close("another node is asked instead")

    def _on_close(self, link: Link, reason: str) -> None:  # noqa: ARG002 - the callback's shape
        self._retired.discard(link)
        if self._link is link:
            self._link = None
            self._seeker.avoid(link)
            self._unpark()
        lost = [rid for rid, flight in self._flights.items() if flight.link is link]
        for flight in [self._land(rid) for rid in reversed(lost)]:
            if flight is not None:
                self._on_lost(flight.request)
        self._owed.pop(link, None)
        if not self._is_closed:
            self._send_waiting()

    def _on_lost(self, request: Request) -> None:
        """It was sent, and there will be no answer to that."""
        request.is_doubtful = True
        if not request.is_repeatable:
            self._finish(request, *request.expire("", self._clock.monotonic()))
        elif not request.rids:  # else it was sent elsewhere meanwhile
            self._again(request)

    # ---- time ----------------------------------------------------------------------------------

    def _look_by(self, moment: float) -> None:
        """Look at the clock no later than `moment`; no timer runs while nothing is asked."""
        if moment >= self._look_at:
            return
        if self._look_timer is not None:
            self._look_timer.cancel()
        self._look_at = moment
        delay = max(LOOK_SECONDS, moment - self._clock.monotonic())
        self._look_timer = self._loop.call_later(delay, self._look)

    def _look(self) -> None:
        self._look_timer, self._look_at = None, math.inf
        now = self._clock.monotonic()
        for request in [each for each in self._live if each.deadline <= now]:
            self._expire(request)
        for rid, flight in list(self._flights.items()):
            if flight.silent_at <= now and rid in self._flights:
                self._on_silence(flight)
        moments = [request.deadline for request in self._live]
        moments += [flight.silent_at for flight in self._flights.values()]
        if moments:
            self._look_by(min(moments))

    def _expire(self, request: Request) -> None:
        if request.rids:
            request.is_doubtful = True
        missing = self._seeker.complaint() if self._link is None else "no answer in time"
        value, error = request.expire(missing, self._clock.monotonic())
        self._finish(request, value, error)

    def _on_silence(self, flight: Flight) -> None:
        flight.silent_at = math.inf  # an answer may still come; if not, the deadline does
        self._turn_from(flight.link)
        self._again(flight.request)
