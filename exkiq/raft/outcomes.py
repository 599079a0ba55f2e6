"""What this node proposed and has not yet seen applied.

The engine's own callbacks say too little: an error may be said of a command that commits, and
some never come. Here an outcome is known when the operation, by its id, is in the applied log,
and by nothing else. Until then it is sent again to every new leader; ids make that safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from exkiq.errors import ExkiqError, JobTooLarge, NoQuorum, OutcomeUnknown, Unavailable
from exkiq.machine.commands import peek_pid
from exkiq.machine.limits import OP_BYTES_MAX
from exkiq.machine.outcomes import Answer, Refused

Outcome: TypeAlias = "Answer | Refused"
Done: TypeAlias = "Callable[[Answer | Refused | ExkiqError], None]"

WAITING_MAX = 100_000  # operations, not jobs; beyond it a caller is told to come back later
RESEND_SECONDS = 1.0  # a leader that answers later than this has most likely lost it


@dataclass(slots=True)
class Proposal:
    """An operation on its way."""

    op: bytes
    done: Done | None
    deadline: float | None
    sent_at: float | None = None  # None: no leader has ever been handed it


class Outbox:
    """Keeps proposals until they are applied, refused or out of time."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, Proposal] = {}
        self._unsent: list[Proposal] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, op: bytes, deadline: float | None, done: Done | None) -> None:
        """Take an operation in. `deadline` in monotonic seconds, None keeps it for ever.

        Errors: Unavailable when too much is waiting already; JobTooLarge.
        """
        pid = peek_pid(op)
        if pid is None:
            raise ValueError("an operation without an id")
        if len(op) > OP_BYTES_MAX:  # no leader would take it in, and nobody would say so
            raise JobTooLarge(f"an operation of {len(op)} bytes is over {OP_BYTES_MAX}")
        if len(self._waiting) >= WAITING_MAX:
            raise Unavailable(f"{WAITING_MAX} operations wait for an outcome already")
        proposal = Proposal(op, done, deadline)
        self._waiting[pid] = proposal
        self._unsent.append(proposal)

    def take_unsent(self, now: float) -> list[bytes]:
        """What the present leader has not been handed, oldest first; it counts as sent now."""
        unsent, self._unsent = self._unsent, []
        for proposal in unsent:
            proposal.sent_at = now
        return [proposal.op for proposal in unsent]

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    def leader_changed(self) -> None:
        """Everything is to be sent again, to the new one."""
        self._unsent = list(self._waiting.values())

    def applied(self, results: Iterable[tuple[bytes, Outcome]]) -> None:
        """Outcomes from the log: tell those who wait for them."""
        waiting = self._waiting
        for pid, outcome in results:
            proposal = waiting.pop(pid, None)
            if proposal is not None and proposal.done is not None:
                proposal.done(outcome)

    def tick(self, now: float) -> None:
        """Give up what is out of time, send again what got no answer."""
        expired = [
            (pid, proposal)
            for pid, proposal in self._waiting.items()
            if proposal.deadline is not None and proposal.deadline <= now
        ]
        for pid, proposal in expired:
            del self._waiting[pid]
            if proposal.done is not None:
                proposal.done(_out_of_time(proposal))
        self._unsent = [
            proposal
            for proposal in self._waiting.values()
            if proposal.sent_at is None or now - proposal.sent_at >= RESEND_SECONDS
        ]


def _out_of_time(proposal: Proposal) -> ExkiqError:
    if proposal.sent_at is None:
        return NoQuorum("no leader with a majority behind it; nothing was stored")
    return OutcomeUnknown("no answer in time; it may have been done, repeating it is safe")
