"""The replicated job state machine: pure, total, and the same in every house.

`Machine` applies entries; `commands` builds them; `limits` bounds them; `check_op` refuses at
the door what no state could carry out.
"""

from exkiq.machine import commands, limits
from exkiq.machine.capture import Capture
from exkiq.machine.invariants import check_invariants
from exkiq.machine.lanes import QueueState
from exkiq.machine.machine import Machine
from exkiq.machine.outcomes import Answer, Applied, Claimed, Refused
from exkiq.machine.parsing import check_op
from exkiq.machine.record import Record, Spec, State
from exkiq.machine.sessions import (
    ROLES,
    Member,
    MemberChange,
    MemberRole,
    MemberVerb,
    Session,
)
from exkiq.machine.snapshot import encode_pieces, encode_snapshot
from exkiq.machine.tombstones import Tombstone
from exkiq.machine.transitions import WAYS, Step

__all__ = [
    "Machine",
    "Applied",
    "Claimed",
    "Refused",
    "Answer",
    "Record",
    "Spec",
    "State",
    "Step",
    "WAYS",
    "QueueState",
    "Session",
    "Member",
    "MemberChange",
    "MemberRole",
    "MemberVerb",
    "ROLES",
    "Tombstone",
    "Capture",
    "encode_pieces",
    "encode_snapshot",
    "check_invariants",
    "check_op",
    "commands",
    "limits",
]
