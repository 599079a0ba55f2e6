"""The replicated state machine: entries go in, what they did comes out.

Pure: no input or output, no clock, no chance, no log. Time comes inside the entries.

Total: `apply` gives a value for any bytes whatsoever. A parser checks an operation before
anything changes, so what is refused leaves the state as it was. Should a bug of ours raise all
the same, the operation is refused and counted in `faults`: all replicas run the same code over
the same state, so they stay equal, and an exception would stop the whole cluster for ever.

One thing stops a single node: a schema that its release does not know, said by the leader once
every member knew it. What later entries mean is known to the others only, so `apply` raises
DataError instead of guessing, then and ever after, and no capture is taken of such a state: the
node starts again, under a release that knows the schema, from before that entry.
"""

from __future__ import annotations

import hashlib
import weakref
from dataclasses import replace
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import msgpack

from exkiq.errors import RemoteWireError
from exkiq.machine import (
    control,
    delivery,
    intake,
    limits,
    parsing,
    reports,
    retention,
    session_jobs,
)
from exkiq.machine import schema as schemas
from exkiq.machine.capture import Capture
from exkiq.machine.checks import Rejected
from exkiq.machine.commands import LEADER_OPS, Op, decode_entry, decode_op, peek_pid
from exkiq.machine.outcomes import Answer, Applied, Refused
from exkiq.machine.sessions import ROLES, Member, MemberChange, MemberVerb
from exkiq.machine.snapshot import decode_snapshot
from exkiq.machine.store import TOTALS, Store, Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exkiq.machine.checks import Items
    from exkiq.machine.record import Record
    from exkiq.machine.tombstones import Tombstone

R = TypeVar("R")
Verb: TypeAlias = "Callable[[Store, Items, Applied], Answer]"


class Machine(Store):
    """One replica's state.

    Duties:
      1. Apply entries and changes of members, in the order of their indexes.
      2. Answer what readers ask, from what has been applied.
      3. Give and take whole states.
    """

    def __init__(self) -> None:
        super().__init__()
        self._captures: list[weakref.ref[Capture]] = []
        self._packer = msgpack.Packer(default=_pack_refused)  # kept: half the time of a new one

    def apply(self, index: int, body: bytes) -> Applied:
        """Carry out an entry.

        Shapes: an index that is not over the last one does nothing at all; a body that is no
                entry does nothing else than to move the index.
        Errors: none, for any body; DataError when the cluster uses a later schema than this
                release knows: then this node must not go on.
        """
        applied = Applied()
        if index <= self.index:
            return applied
        self.index = index
        entry = decode_entry(body)
        if entry is not None:
            self.captures = self._open_captures() if self._captures else ()
            if entry.term > self.term:
                self.term = entry.term
            if entry.now_ms > self.now_ms:
                self.now_ms = entry.now_ms
            is_stale = entry.term < self.term
            for op in entry.ops:
                applied.results.append(self._run(op, is_stale, applied))
            retention.settle(self, applied)
            self.captures = ()
        self._roll(body, applied.results)
        if self.schema > schemas.SCHEMA:
            schemas.check_schema(self.schema)
        return applied

    def apply_member(self, index: int, change: MemberChange) -> None:
        """Carry out a committed change of the list of members."""
        if index <= self.index:
            return
        self.index = index
        fields = (change.verb, change.name, change.address, change.incarnation)
        if change.verb in set(MemberVerb):
            former, role = ROLES[MemberVerb(change.verb)]
            member = self.members.get(change.name)
            if role is None:
                self.members.pop(change.name, None)
            elif former is not None and member is not None:  # it may have another address by now
                self.members[change.name] = replace(member, role=role.value)
            else:
                self.members[change.name] = Member(*fields[1:], role.value)
        self._roll(msgpack.packb(fields), [])

    def next_deadline_ms(self) -> int | None:
        """When a DUE will have something to do; None for never."""
        times = [self.due.next_ms(), self.expiring.next_ms(), self.tombstones.next_ms()]
        if self.failed:
            oldest = next(iter(self.failed.values()))
            times.append(oldest.completed_ms + limits.FAILED_AGE_MS_MAX)
        return min((ms for ms in times if ms is not None), default=None)

    def waiting(self, queue: str) -> Iterator[Record]:
        """The jobs that may start now, in hand-out order; none of a paused queue.

        Take what is needed at once, for instance with `islice`: the next apply changes it.
        """
        state = self.queues.get(queue)
        if state is not None and not state.paused:
            yield from state.waiting()

    def waiting_count(self, queue: str) -> int:
        """How many jobs may start now; none of a paused queue."""
        state = self.queues.get(queue)
        return state.waiting_count() if state is not None and not state.paused else 0

    def tombstone(self, job_id: str) -> Tombstone | None:
        """How a job ended whose record may be gone; None when that is too long ago."""
        return self.tombstones.stones.get(job_id)

    def counts(self) -> dict[str, int]:
        """Jobs by state, and totals since the cluster was founded.

        Shapes: `failed` is the failed set; `succeeded` and `cancelled` are totals. Those of
                `unknown_task` were put aside until a node can run them; they are queued, or
                to be retried, too.
        """
        queues = self.queues.values()
        counts = {
            "queued": sum(queue.queued for queue in queues),
            "running": sum(queue.running for queue in queues),
            "scheduled": sum(queue.scheduled for queue in queues),
            "retry": sum(queue.retry for queue in queues),
            "failed": len(self.failed),
            "unknown_task": sum(map(len, self.parked.values())),
        }
        totals = {name: getattr(self.totals, name) for name in TOTALS}
        counts["succeeded"] = totals.pop("succeeded_total")
        counts["cancelled"] = totals.pop("cancelled_total")
        return counts | totals

    @property
    def state_hash(self) -> str:
        """Equal on replicas that did the same; once different, different for ever."""
        return self.digest.hex()

    def capture(self) -> Capture:
        """Take an unchanging view of the state, for `encode_snapshot` on another thread.

        Errors: DataError when the cluster uses a later schema than this release knows.
        """
        schemas.check_schema(self.schema)
        capture = Capture(self)
        self._captures.append(weakref.ref(capture))
        return capture

    def let_go(self, pause: Callable[[], None]) -> None:
        """Give the memory back bit by bit, when another machine has taken this one's place.

        Records, pages and segments know each other: left alone they would stay for ever, or
        until a full collection holds up everything.
        """
        self.jobs.let_go(pause)
        lanes = [lane for queue in self.queues.values() for lane in queue.lanes.values()]
        later = [queue.later for queue in self.queues.values()]
        for lane in (*lanes, *later, *self.parked.values()):
            lane.let_go(pause)

    @classmethod
    def restore(cls, data: bytes | memoryview, pause: Callable[[], None] = lambda: None) -> Machine:
        """Make the machine whose snapshot this is; calls `pause` every millisecond or so.

        Errors: DataError when it is damaged, of another version, or no snapshot.
        """
        machine = cls()
        decode_snapshot(data, machine, pause)
        return machine

    def _run(self, op: bytes, is_stale: bool, applied: Applied) -> tuple[bytes, Answer | Refused]:
        try:
            items = decode_op(op)
        except RemoteWireError as fault:
            return peek_pid(op) or b"", Refused("RemoteWireError", str(fault))
        code, pid = items[0], items[1]
        if not isinstance(code, int) or not isinstance(pid, bytes):
            raise TypeError("decode_op checks code and pid")
        verb = VERBS.get(code)
        if verb is None or (schemas.SINCE and not schemas.is_used(code, self.schema)):
            return pid, Refused("UnsupportedOperation", f"no operation has the code {code}")
        if is_stale and code in LEADER_OPS:
            return pid, Refused("Refused", "stale_term: a former leader said this")
        try:
            return pid, verb(self, items, applied)
        except Rejected as fault:
            return pid, fault.refused
        except MemoryError:  # of this node alone: it has to stop, not to go on differently
            raise
        except Exception as fault:  # noqa: BLE001 (see the head of this file)
            self.totals.faults += 1
            return pid, Refused("Refused", f"a bug in exkiq: {type(fault).__name__}")

    def _open_captures(self) -> tuple[Capture, ...]:
        """The captures that somebody still holds."""
        found = [(ref, ref()) for ref in self._captures]
        self._captures = [ref for ref, capture in found if capture is not None]
        return tuple(capture for _, capture in found if capture is not None)

    def _roll(self, body: bytes, results: list[tuple[bytes, Answer | Refused]]) -> None:
        facts = (self.index, self.now_ms, self.sequence, len(self.jobs), len(self.failed))
        outcome = self._packer.pack((facts, _totals(self.totals), results))
        rolling = hashlib.blake2b(self.digest, digest_size=16)
        rolling.update(outcome)
        rolling.update(body)
        self.digest = rolling.digest()


_totals: Callable[[Totals], tuple[int, ...]] = attrgetter(*TOTALS)


def _pack_refused(refused: Refused) -> list[str]:
    return [refused.kind, refused.text]


def _verb(parse: Callable[[Items], R], act: Callable[[Store, R, Applied], Answer]) -> Verb:
    """An operation whose repetition is harmless by nature."""

    def run(store: Store, items: Items, applied: Applied) -> Answer:
        return act(store, parse(items), applied)

    return run


def _remembered(verb: Verb) -> Verb:
    """An operation that is done once: its pid and answer are remembered."""

    def run(store: Store, items: Items, applied: Applied) -> Answer:
        pid = items[1]
        if not isinstance(pid, bytes):
            raise TypeError("decode_op checks the pid")
        known = store.remembered.get(pid)
        if known is not None:
            return known
        answer = store.remembered[pid] = verb(store, items, applied)
        while len(store.remembered) > limits.REMEMBERED_MAX:
            store.remembered.popitem(last=False)
        return answer

    return run


def _enqueue(store: Store, items: Items, applied: Applied) -> Answer:
    return (_ENQUEUE_ONCE if items[-1] == 1 else _ENQUEUE)(store, items, applied)


_ENQUEUE = _verb(parsing.enqueue, intake.enqueue)
_ENQUEUE_ONCE = _remembered(_ENQUEUE)

VERBS: MappingProxyType[int, Verb] = MappingProxyType(
    {
        Op.ENQUEUE: _enqueue,
        Op.CLAIM: _verb(parsing.claim, delivery.claim),
        Op.COMPLETE: _verb(reports.complete, delivery.complete),
        Op.FAIL: _verb(reports.fail, delivery.fail),
        Op.HAND_BACK: _verb(reports.hand_back, delivery.hand_back),
        Op.DUE: _verb(parsing.due, intake.due),
        Op.SESSION_BEGIN: _verb(parsing.session_begin, delivery.session_begin),
        Op.SESSION_OVER: _verb(parsing.session_over, delivery.session_over),
        Op.CANCEL: _remembered(_verb(parsing.cancel, control.cancel)),
        # a repeat that comes after the opposite would undo it
        Op.PAUSE: _remembered(_verb(parsing.queue, control.pause)),
        Op.RESUME: _remembered(_verb(parsing.queue, control.resume)),
        Op.RETRY: _remembered(_verb(parsing.selection, control.retry)),
        Op.DELETE: _remembered(_verb(parsing.selection, control.delete)),
        Op.CLEAR: _remembered(_verb(parsing.queue, control.clear)),
        Op.DECLARE: _verb(parsing.queues, intake.declare),
        Op.CHECKPOINT: _verb(reports.checkpoint, delivery.checkpoint),
        Op.FOUND: _verb(parsing.found, control.found),
        Op.ADDRESS: _verb(parsing.address, control.address),
        Op.MOVE: _remembered(_verb(parsing.move, control.move)),
        Op.PARK: _verb(parsing.park, control.park),
        Op.UNPARK: _verb(parsing.unpark, control.unpark),
        Op.SESSION_START: _verb(parsing.session_start, session_jobs.start),
        Op.SESSION_POST: _verb(parsing.session_post, session_jobs.post),
        Op.SCHEMA: _verb(parsing.schema, control.schema),
    }
)
"""What each code means: parse first, then act."""
