"""The operations as values: what `parsing.py` makes of decoded items."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exkiq.machine.commands import Post, Verdict
    from exkiq.machine.outcomes import Refused
    from exkiq.machine.record import Spec
    from exkiq.machine.sessions import Member


class Enqueue(NamedTuple):
    spec: Spec
    ids: list[str]
    payloads: list[bytes]
    delay_ms: int
    run_at_ms: int
    is_unique: bool


class Grant(NamedTuple):
    node: str
    session: int
    ids: list[str]


class Complete(NamedTuple):
    session: int
    ids: list[str]
    fences: list[int]
    values: Sequence[bytes | Refused | None] | None
    run_ms: list[int] | None


class Failure(NamedTuple):
    id: str
    fence: int
    verdict: Verdict
    delay_ms: int
    queue: str
    error: tuple[str, str, str]
    run_ms: int


class Fail(NamedTuple):
    session: int
    failures: list[Failure]


class HandBack(NamedTuple):
    session: int
    ids: list[str]
    fences: list[int]
    checkpoints: list[bytes | None] | None
    is_lost: bool


class SessionBegin(NamedTuple):
    node: str
    run_id: str
    address: str


class SessionOver(NamedTuple):
    node: str
    session: int
    is_orderly: bool


class Selection(NamedTuple):
    """Failed jobs: those with these ids, of this queue; None for any."""

    ids: list[str] | None
    queue: str | None


class Cancel(NamedTuple):
    id: str
    running: bool


class Move(NamedTuple):
    id: str
    queue: str


class Park(NamedTuple):
    task: str
    ids: list[str]


class Unpark(NamedTuple):
    task: str
    limit: int


class SessionStart(NamedTuple):
    spec: Spec
    id: str
    step_id: str
    payload: bytes


class SessionPost(NamedTuple):
    id: str
    step_id: str
    verb: Post
    payload: bytes


class Checkpoint(NamedTuple):
    session: int
    id: str
    fence: int
    value: bytes


class Found(NamedTuple):
    cluster_id: str
    members: list[Member]


class Address(NamedTuple):
    node: str
    address: str
