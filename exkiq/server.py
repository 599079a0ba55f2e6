"""The node's answers to its clients.

A request is [rid, verb, args...]; its answer is [rid, 0, value] or [rid, 1, error's class, text],
in whatever order the answers come to be. Nothing here waits: an operation's outcome and a job's
end come as calls from the log, so a node serves thousands of waiting clients without a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias

from exkiq.clock import Clock
from exkiq.errors import ExkiqError, JobTooLarge, Refused, Unavailable, UnsupportedOperation
from exkiq.machine import State, check_op, limits
from exkiq.machine import Refused as Refusal
from exkiq.machine.commands import CLIENT_OPS, Op, peek_code, peek_pid
from exkiq.queues.protocol import House, Outcome, error_of
from exkiq.queues.views import job_map, jobs_map, queues_map, stats_map
from exkiq.queues.waiters import Waiter, Waiters
from exkiq.service import Tasks
from exkiq.telemetry import log
from exkiq.wire import Value

REQUESTS_MAX = 10_000
"""Unanswered requests of one client: far more than a well-behaved one has; each is a kilobyte."""

TIMEOUT_MS_MAX = 3_600_000
"""The longest wait for an operation: who asks for more has gone away meanwhile."""

UNCHECKED_BYTES_MAX = 4_096
"""A new job up to this size is not decoded at the door: whatever is wrong with it, the machine
refuses it, and it takes no room in the log worth the time."""


class ClientLink(Protocol):
    """What of a link is used here; `exkiq.links.Link` is one."""

    on_message: Callable[[Any, list[Any]], None]
    on_close: Callable[[Any, str], None]

    def send(self, message: list[Any]) -> bool:
        """Send a message; False when the link is closed."""


class Actions(Protocol):
    """What an operator asks of the cluster; each returns when it is done."""

    async def cluster_remove(self, name: str, force: bool) -> None:
        """Take a member out."""

    async def cluster_leave(self) -> None:
        """Take this node out."""

    async def cluster_transfer(self, name: str | None) -> None:
        """Hand over the lead."""


class Client:
    """One client's link: what it asked and has no answer to."""

    __slots__ = ("link", "unanswered", "waiters")

    def __init__(self, link: ClientLink) -> None:
        self.link = link
        self.unanswered = 0
        self.waiters: dict[int, Waiter] = {}

    def answer(self, rid: int, value: object) -> None:
        self.unanswered -= 1
        self.link.send([rid, 0, value])

    def refuse(self, rid: int, error: ExkiqError) -> None:
        self.unanswered -= 1
        self.link.send([rid, 1, type(error).__name__, str(error)])


Verb: TypeAlias = Callable[[Client, int, Sequence[Any]], None]


class ClientServer:
    """Serves the client links of this node.

    Duties:
      1. Let only operations for clients into the log, and none that is over a limit.
      2. Answer reads from what is applied here.
      3. Tell those who wait for a job's end.
      4. Tell every client where the cluster's nodes are.
    """

    def __init__(
        self, house: House, status: Callable[[], dict[str, Any]], actions: Actions, clock: Clock
    ) -> None:
        self._house = house
        self._status = status
        self._actions = actions
        self._clock = clock
        self._clients: dict[ClientLink, Client] = {}
        self._addresses: list[str] = []
        self._waiters = Waiters(lambda: house.machine, _call_later)
        self._tasks = Tasks()
        self._verbs: dict[str, Verb] = {
            "propose": self._propose,
            "result": self._result,
            "job": self._job,
            "jobs": self._jobs,
            "status": self._tell_status,
            "stats": self._stats,
            "queues": self._queues,
            "ping": self._ping,
            "cluster_remove": self._cluster_remove,
            "cluster_leave": self._cluster_leave,
            "cluster_transfer": self._cluster_transfer,
        }
        house.subscribe(self._waiters.applied)
