"""What was asked, what ran, what was done to the nodes, and how it ended.

All moments are seconds of the monotonic clock, which all processes of one machine share.
"""

from __future__ import annotations

from dataclasses import dataclass, field

OK, UNKNOWN, UNAVAILABLE, REFUSED = "ok", "unknown", "unavailable", "refused"
ENDED = ("succeeded", "failed", "cancelled")


@dataclass
class Send:
    """One job that a client wanted; repeats of it under the same id are the same send."""

    id: str
    kind: str
    invoked: float
    answered: float = 0.0
    outcome: str = UNKNOWN
    due: float | None = None
    is_absolute: bool = False  # `due` was said as a moment of the wall clock
    retries: int = 0
    max_lost: int = 0
    line: str = ""  # the producer that sends one after the other, if it was such a one
    error: str = ""


@dataclass
class Cancel:
    """A job that a client wanted to be cancelled."""

    id: str
    invoked: float
    answered: float = 0.0
    outcome: str = UNKNOWN
    answer: str = ""


@dataclass
class Run:
    """One start of a job, as the job wrote it down. `end` None: nothing tells that it ended."""

    id: str
    fence: int
    attempt: int
    lost: int
    node: str
    start: float
    end: float | None = None
    is_failed: bool = False


@dataclass
class Disturbance:
    """A fault while it lasted, and the nodes that it was done to."""

    kind: str
    nodes: tuple[str, ...]
    begin: float
    end: float = float("inf")


@dataclass
class NodeState:
    """What a node said of itself at the end."""

    leader: str | None
    applied: int
    state_hash: str


@dataclass
class History:
    """All there is to judge by."""

    sends: dict[str, Send] = field(default_factory=dict)
    cancels: list[Cancel] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)
    finals: dict[str, str | None] = field(default_factory=dict)
    nodes: dict[str, NodeState] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)  # what is wrong with the committed log
    log_ids: set[str] | None = None  # the jobs in it, None where it does not reach back
    claims: dict[tuple[str, int], str] | None = None  # (job, fence) to node, by the log
    stopped: list[str] = field(default_factory=list)  # nodes that ended by themselves
    tracebacks: list[str] = field(default_factory=list)
    healed: float = 0.0
    drained: float | None = None  # when all jobs had ended
