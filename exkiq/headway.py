"""How far running jobs are, as their nodes tell one another.

Progress is no part of the log: it is told by plain messages to every node, is kept while its
job runs, and is gone with it. Every node shows what it heard last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from exkiq.machine import Machine, Record, State
from exkiq.wire.messages import PROGRESS_ROWS_MAX, Kind

TELL_SECONDS = 0.1
"""Between two tellings: what a job says meanwhile is replaced by what it says next."""

HELD_MAX = 20_000
"""Jobs whose progress one node keeps: 80 MB at the very most; what more there is, is not shown."""

Row = tuple[str, int, bytes]  # id, fence, what it says


class _Said(NamedTuple):
    fence: int
    node: str
    value: bytes


class Headway:
    """What running jobs said last.

    Duties: gather what jobs here say, and tell every peer what is new; take in what peers tell;
    forget what has ended.
    """

    def __init__(
        self,
        name: str,
        machine: Callable[[], Machine],
        tell_peers: Callable[[list[Any]], None],
    ) -> None:
        self._name, self._machine, self._tell_peers = name, machine, tell_peers
        self._said: dict[str, _Said] = {}
        self._news: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def of(self, job_id: str) -> bytes | None:
        """What this job said last; None when it does not run, or said nothing."""
        said = self._said.get(job_id)
        return said.value if said is not None and self._is_running(job_id, said) else None

    def gather(self, loop: asyncio.AbstractEventLoop, rows: Iterable[Row]) -> None:
        """Take in what jobs of this node say; peers are told a moment later."""
        for job_id, fence, value in rows:
            self._keep(job_id, _Said(fence, self._name, value))
            self._news[job_id] = None
        if self._timer is None:
            self._timer = loop.call_later(TELL_SECONDS, self._tell)

    def heard(self, node: str, rows: list[Any]) -> None:
        """Take in what a peer tells of the jobs it runs, as a PROGRESS message has it."""
        for job_id, fence, value in rows:
            said = _Said(fence, node, value)
            # a claim that is not applied here yet has a fence beyond what is
            if fence > self._machine().index or self._is_running(job_id, said):
                self._keep(job_id, said)

    def messages(self) -> list[list[Any]]:
        """All that this node's jobs said last, for a peer that may have missed it."""
        return _messages(
            [(job_id, said) for job_id, said in self._said.items() if said.node == self._name]
        )

    def forget(self, ended: Iterable[Record]) -> None:
        """These jobs are over."""
        for record in ended if self._said else ():
            self._said.pop(record.id, None)

    def stop(self) -> None:
        """Tell nothing more. May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self) -> None:
        self._timer = None
        rows = [(job_id, self._said[job_id]) for job_id in self._news if job_id in self._said]
        self._news.clear()
        for message in _messages(rows):
            self._tell_peers(message)

    def _keep(self, job_id: str, said: _Said) -> None:
        if job_id not in self._said and len(self._said) >= HELD_MAX:
            self._prune()
            if len(self._said) >= HELD_MAX:
                return
        self._said[job_id] = said

    def _prune(self) -> None:
        """Let go of what ended unseen: inside of a snapshot, or handed to another node."""
        self._said = {
            job_id: said for job_id, said in self._said.items() if self._is_running(job_id, said)
        }

    def _is_running(self, job_id: str, said: _Said) -> bool:
        record = self._machine().jobs.get(job_id)
        return (
            record is not None
            and record.state is State.RUNNING
            and record.fence == said.fence
            and record.node == said.node
        )


def _messages(rows: list[tuple[str, _Said]]) -> list[list[Any]]:
    return [
        [
            int(Kind.PROGRESS),
            [
                [job_id, said.fence, said.value]
                for job_id, said in rows[at : at + PROGRESS_ROWS_MAX]
            ],
        ]
        for at in range(0, len(rows), PROGRESS_ROWS_MAX)
    ]
