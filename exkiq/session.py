"""This node's session: claims in, outcomes out, demand to the leader.

The log says what this node runs: a claim reaches the pool when it is applied here, and what
the pool reports goes back as operations that are kept until they are applied. The leader is
told of free slots by plain messages, again after every election.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from exkiq.errors import AlreadyStarted, NotRunning, Refused
from exkiq.headway import Headway
from exkiq.machine import Applied, Claimed, Record, State, commands
from exkiq.machine.limits import OP_BYTES_MAX
from exkiq.pool import VALUE_NOT_SERIALISABLE, VALUE_TOO_LARGE, Assignment, Report
from exkiq.queues.protocol import House
from exkiq.telemetry import log
from exkiq.wire.messages import Kind

PART_BYTES_MAX = OP_BYTES_MAX // 4  # one value may be as large again, and ids come on top
PART_ROWS_MAX = 2_000
REPORTED_MIN = 10_000  # how many to gather before looking which of them the log has
DEMAND_REPEAT_SECONDS = 0.5  # demand is a plain message, and a lost one must not idle a slot


class Runner(Protocol):
    """What runs the jobs: the pool, or a pretend one in tests."""

    @property
    def free_by_group(self) -> Mapping[str, int]: ...
    @property
    def unable(self) -> tuple[str, ...]: ...
    def run(self, assignments: list[Assignment]) -> None: ...
    def abandon(self) -> None: ...
    def stop_job(self, job_id: str, fence: int) -> None: ...
    def committed(self, ids: list[str]) -> None: ...


def _nobody(_: list[Any]) -> None:
    """There is no other node."""


class NodeSession:
    """One node's life as the log sees it.

    Duties: begin the session, and a new one when the leader ended it; hand claimed jobs to
    the pool once; turn reports into operations; keep the leader's view of our free slots true;
    tell the pool which jobs were cancelled, and which ends that it waits for are in the log.
    """

    def __init__(
        self,
        name: str,
        run_id: str,
        house: House,
        operation_id: Callable[[], bytes],
        tell_leader: Callable[[list[Any]], None],
        tell_peers: Callable[[list[Any]], None] = _nobody,
    ) -> None:
        self.name, self.run_id = name, run_id
        self.headway = Headway(name, lambda: house.machine, tell_peers)
        self.id = 0  # 0: no session at the moment
        self._house, self._operation_id, self._tell_leader = house, operation_id, tell_leader
        self._runner: Runner | None = None
        self._queues: dict[str, int] = {}
        self._address = ""
        self._given: dict[str, int] = {}  # id -> fence of what the pool has
        self._reported: dict[str, int] = {}  # the same of what it was done with, for a while
        self._reported_max = REPORTED_MIN
        self._awaiting: set[str] = set()  # the pool wants to know when their success is in the log
        self._is_taking = False
        self._is_demand_due = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(
        self,
        loop: asyncio.AbstractEventLoop,
        runner: Runner,
        queues: dict[str, int],
        address: str,
    ) -> None:
        """Take part: from the moment the session is in the log, jobs may be claimed for us."""
        self._loop, self._runner, self._queues, self._address = loop, runner, queues, address
        self._is_taking = True
        self._propose_begin()
        self._repeat_demand()

    @property
    def queues(self) -> dict[str, int]:
        """The queues whose jobs this node takes, and their weights."""
        return dict(self._queues)

    def start_queue(self, name: str, weight: int) -> None:
        """Take jobs of one more queue. Errors: AlreadyStarted; Refused without a slot."""
        if self._runner is None:
            raise Refused(
                f"node {self.name} runs no jobs (concurrency is 0), so it serves no queue"
            )
        if name in self._queues:
            raise AlreadyStarted(f"node {self.name} serves queue {name!r} already")
        self._queues = {**self._queues, name: weight}
        self._house.propose_nowait(commands.declare(self._operation_id(), [name]))
        self.demand_soon()

    def stop_queue(self, name: str) -> None:
        """Take no more jobs of a queue; those that run go on. Errors: NotRunning."""
        if name not in self._queues:
            served = ", ".join(sorted(self._queues)) or "none"
            raise NotRunning(f"node {self.name} does not serve queue {name!r}; it serves {served}")
        self._queues = {queue: self._queues[queue] for queue in self._queues if queue != name}
        self.demand_soon()

    def stop_taking(self) -> None:
        """Ask for no more jobs; those that run go on and are reported."""
        self._is_taking = False
        self._send_demand()

    def end(self) -> None:
        """Be over in the log, orderly; what is still out goes back uncounted."""
        self.stop()
        if self.id:
            op = commands.session_over(self._operation_id(), self.name, self.id, is_orderly=True)
            self._house.propose_nowait(op)

    def stop(self) -> None:
        """Tell the leader nothing more. May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
        self.headway.stop()
        self._loop = None

    @property
    def running(self) -> int:
        """Jobs that the pool has."""
        return len(self._given)

    # ---- from the log ------------------------------------------------------------------------

    def applied(self, applied: Applied) -> None:
        """Note what an entry says about us."""
        for node, session in applied.over:
            if node == self.name and session == self.id:
                self._is_over()
        for node, session in applied.begun:
            if node == self.name:
                self._has_begun(session)
        for claimed in applied.claimed:
            if claimed.session == self.id and claimed.node == self.name:
                self._take(claimed)
        if applied.stopping:
            self._stop_jobs(record.id for record in applied.stopping)
        if self._awaiting:
            self._tell_committed((record.id, record.state) for record in applied.ended)
        self.headway.forget(applied.ended)

    def installed(self) -> None:
        """A snapshot replaced the state: claims may be in it that were never applied here."""
        session = self._house.machine.sessions.get(self.name)
        if session is None or session.run_id != self.run_id:
            if self.id:
                self._is_over()
            return
        if self.id not in (0, session.id):
            self._drop_all()  # what the pool has was claimed for a session that is over
        self._has_begun(session.id)
        given, reported = self._given, self._reported
        self._give(
            [
                record
                for record in session.running.values()
                if record.fence not in (given.get(record.id), reported.get(record.id))
            ]
        )
        self._stop_jobs(session.stopping)
        stones = [(id_, self._house.machine.tombstone(id_)) for id_ in self._awaiting]
        self._tell_committed([(id_, stone.state) for id_, stone in stones if stone is not None])

    def _stop_jobs(self, ids: Iterable[str]) -> None:
        """Cancelled while they run: have those that the pool has end soon."""
        session = self._house.machine.sessions.get(self.name)
        if session is None or session.id != self.id or self._runner is None:
            return
        for job_id in ids:
            record = session.running.get(job_id)
            if record is not None and self._given.get(job_id) == record.fence:
                self._runner.stop_job(job_id, record.fence)

    def _tell_committed(self, ended: Iterable[tuple[str, State]]) -> None:
        """The pool waits for some of these: their success is in the log, or they ended else."""
        over = {id_: state for id_, state in ended if id_ in self._awaiting}
        self._awaiting -= over.keys()
        done = [id_ for id_, state in over.items() if state is State.SUCCEEDED]
        if done and self._runner is not None:
            self._runner.committed(done)

    def _has_begun(self, session: int) -> None:
        if session == self.id:
            return
        current = self._house.machine.sessions.get(self.name)
        if current is None or current.run_id != self.run_id:
            return
        self.id = session
        self.demand_soon()

    def _is_over(self) -> None:
        """The leader gave us up: others may run our jobs now, so ours must not go on."""
        self.id = 0
        self._given.clear()
        if self._is_taking:
            log.warning("the leader ended this node's session; its jobs were given to others")
            self._drop_all()
            self._propose_begin()

    def _drop_all(self) -> None:
        self._given.clear()
        self._reported.clear()
        self._awaiting.clear()
        if self._runner is not None:
            self._runner.abandon()

    def _propose_begin(self) -> None:
        pid = self._operation_id()
        op = commands.session_begin(pid, self.name, self.run_id, self._address)
        self._house.propose_nowait(op)

    def _take(self, claimed: Claimed) -> None:
        if self._is_taking:
            self._give(claimed.records)
            return
        ids = [record.id for record in claimed.records]
        self._hand_back(ids, [claimed.fence] * len(ids), None, is_lost=False)

    def _give(self, records: list[Record]) -> None:
        if self._runner is None or not records:
            return
        for record in records:
            self._given[record.id] = record.fence
        self._runner.run([assignment_of(record) for record in records])
        self.demand_soon()

    # ---- from the pool -----------------------------------------------------------------------

    def report(self, report: Report) -> None:
        """Outcomes of the pool, in one batch, become operations."""
        done = report.done
        self._forget(done.ids)
        session = self.id
        if not session:
            return
        if report.progress and self._loop is not None:
            self.headway.gather(self._loop, report.progress)
        self._awaiting |= report.awaiting
        self._send_demand()  # before the outcomes: both then fit into one entry
        propose, pid = self._house.propose_nowait, self._operation_id
        for job_id, fence, value in report.checkpoints:
            propose(commands.checkpoint(pid(), session, job_id, fence, value))
        for part in in_parts([len(value or b"") for value in done.values]):
            columns = done.ids[part], done.fences[part], kept_values(done.values[part])
            propose(commands.complete(pid(), session, *columns, done.run_ms[part]))
        for part in in_parts([_size(row) for row in report.failed]):
            self._forget(row[0] for row in report.failed[part])
            propose(commands.fail(pid(), session, report.failed[part]))
        if report.returned:
            ids, fences, checkpoints = map(list, zip(*report.returned, strict=True))
            self._hand_back(ids, fences, checkpoints, is_lost=False)
        if report.lost:
            ids, fences = map(list, zip(*report.lost, strict=True))
            self._hand_back(ids, fences, None, is_lost=True)

    def _forget(self, ids: Iterable[Any]) -> None:
        """The pool is done with these, though the log may not say so yet."""
        given, reported = self._given, self._reported
        for id_ in ids:
            fence = given.pop(id_, None)
            if fence is not None:
                reported[id_] = fence
        if len(reported) > self._reported_max:
            self._prune()

    def _prune(self) -> None:
        """Keep of what was reported only what the log still shows as running."""
        session = self._house.machine.sessions.get(self.name)
        running = {} if session is None else session.running
        self._reported = {
            id_: fence
            for id_, fence in self._reported.items()
            if id_ in running and running[id_].fence == fence
        }
        self._reported_max = max(REPORTED_MIN, 2 * len(self._reported))
        self._awaiting &= running.keys()

    def _hand_back(
        self, ids: list[str], fences: list[int], checkpoints: list[Any] | None, *, is_lost: bool
    ) -> None:
        self._forget(ids)
        op = commands.hand_back(
            self._operation_id(), self.id, ids, fences, checkpoints, is_lost=is_lost
        )
        self._house.propose_nowait(op)

    # ---- to the leader -----------------------------------------------------------------------

    def demand_soon(self) -> None:
        """Tell the leader of our free slots, once in this turn of the loop."""
        if not self._is_demand_due and self._loop is not None:
            self._is_demand_due = True
            self._loop.call_soon(self._send_demand)

    def _repeat_demand(self) -> None:
        if self._loop is not None:
            self._timer = self._loop.call_later(DEMAND_REPEAT_SECONDS, self._repeat_demand)
            self.demand_soon()

    def _send_demand(self) -> None:
        self._is_demand_due = False
        session = self._house.machine.sessions.get(self.name)
        if session is None or session.id != self.id or self._runner is None:
            return
        free = dict(self._runner.free_by_group)
        if not self._is_taking:
            free = dict.fromkeys(free, 0)
        seen, unable = session.claimed_total, list(self._runner.unable)
        self._tell_leader([int(Kind.DEMAND), self.id, seen, free, self._queues, unable])


def in_parts(sizes: list[int]) -> Iterator[slice]:
    """Where to cut a column so that each operation stays far below its limit."""
    start, room = 0, PART_BYTES_MAX
    for position, size in enumerate(sizes):
        if position > start and (size > room or position - start >= PART_ROWS_MAX):
            yield slice(start, position)
            start, room = position, PART_BYTES_MAX
        room -= size
    if len(sizes) > start:
        yield slice(start, len(sizes))


def _size(row: list[Any]) -> int:
    """About how many bytes a failed attempt takes: its texts."""
    return sum(len(text) * 4 for text in row[3])


def kept_values(values: list[bytes | None]) -> list[bytes | tuple[str, str] | None] | None:
    """The value column for the log: nothing where all are None, reasons where one is unfit."""
    if not any(values):
        return None
    return [value if value is None or value[:1] != b"\xc1" else _unfit(value) for value in values]


def _unfit(value: bytes) -> tuple[str, str]:
    if value.startswith(VALUE_TOO_LARGE):
        return "ResultTooLarge", "the job succeeded; its value was too large to be kept"
    text = value.removeprefix(VALUE_NOT_SERIALISABLE).decode(errors="replace")
    return "SerializationError", f"the job succeeded; its value cannot be kept: {text}"


def assignment_of(record: Record) -> Assignment:
    """A claimed job as a pool gets it."""
    spec = record.spec
    return Assignment(
        id=record.id,
        fence=record.fence,
        task=spec.task,
        payload=record.payload,
        attempt=record.failures + 1,
        lost=record.lost,
        retries=spec.retries,
        queue=spec.queue,
        enqueued_ms=record.enqueued_ms,
        timeout_ms=spec.timeout_ms,
        checkpoint=record.checkpoint,
        isolated=spec.isolated,
    )
