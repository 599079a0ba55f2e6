"""What every house of the queue offers, and what an outcome means to the one who asked.

The machine is the same in each house: alone in a process (`local`), or on a Raft log
(`replicated`).
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Protocol, TypeAlias

from exkiq import errors
from exkiq.errors import ExkiqError
from exkiq.machine import Applied, Machine
from exkiq.machine.outcomes import Answer, Refused

Outcome: TypeAlias = "Answer | Refused"
Done: TypeAlias = "Callable[[Outcome | ExkiqError], None]"
Listener: TypeAlias = Callable[[Applied], None]


class House(Protocol):
    """A machine and the way in. Everything is called on the house's own loop."""

    @property
    def machine(self) -> Machine:
        """The state, to read. Ask anew each time: a snapshot may replace it."""

    @property
    def is_leader(self) -> bool:
        """Does this house make the entries?"""

    @property
    def leader(self) -> str | None:
        """The name of the node that does."""

    async def propose(self, op: bytes, timeout: float) -> Answer:
        """Have an operation applied.

        Shapes: gives what `exkiq.machine.commands` says of its code.
        Units:  timeout in seconds.
        Errors: the class that a refusal names; NoQuorum (surely not done), OutcomeUnknown.
        """

    def propose_with(self, op: bytes, timeout: float, done: Done) -> None:
        """The same without a task: `done` gets the answer, the refusal, or the error.

        Errors: Unavailable at once, without `done`, when too much is on its way already.
        """

    def propose_nowait(self, op: bytes) -> None:
        """Keep an operation and send it, over every change of leader, until it is applied."""

    def subscribe(self, listener: Listener) -> None:
        """Have `listener` called after each entry, in the order in which they subscribed."""


_KINDS: MappingProxyType[str, type[ExkiqError]] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (
            errors.Refused,
            errors.SerializationError,
            errors.JobTooLarge,
            errors.JobAlreadyExists,
            errors.NoSuchJob,
            errors.ResultTooLarge,
            errors.UnsupportedOperation,
            errors.ClusterMismatch,
            errors.RemoteWireError,
        )
    }
)


def error_of(refused: Refused) -> ExkiqError:
    """The error that a refusal names; plain Refused for a kind we do not know."""
    return _KINDS.get(refused.kind, errors.Refused)(refused.text)


def raise_or_return(outcome: Outcome | ExkiqError) -> Answer:
    """The answer itself. Errors: what was refused, or why there is no answer."""
    if isinstance(outcome, ExkiqError):
        raise outcome
    if isinstance(outcome, Refused):
        raise error_of(outcome)
    return outcome
