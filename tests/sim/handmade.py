"""A log made by hand, entry by entry, with lies where they are wanted, for the reference model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from exkiq.machine import Applied, Machine, Spec, commands
from exkiq.machine.commands import encode_entry
from tests.sim.model import Model

Lie = Callable[[Applied], None]
ERROR = ["RuntimeError", "pretended", ""]
RETRY_NOW = ["retry", 0]


@dataclass
class History:
    """A log, the machine that applies it, and the model that watches."""

    machine: Machine = field(default_factory=Machine)
    model: Model = field(default_factory=Model)
    entries: list[tuple[int, int, bytes, Applied]] = field(default_factory=list)
    index: int = 1
    now: int = 1_000
    count: int = 0

    def pid(self) -> bytes:
        self.count += 1
        return b"handmade" + self.count.to_bytes(4, "big")

    def entry(
        self, *ops: bytes, term: int = 1, said: int | None = None, lie: Lie | None = None
    ) -> Applied:
        self.index += 1
        body = encode_entry(self.now, term if said is None else said, ops)
        applied = self.machine.apply(self.index, body)
        if lie is not None:
            lie(applied)
        self.entries.append((self.index, term, body, applied))
        self.model.apply(self.index, term, body, applied)
        return applied

    def enqueue(self, *ids: str, priority: int = 0, lie: Lie | None = None, **options: Any) -> None:
        spec = Spec("m:t", "default", priority, 1, 0, 0)
        op = commands.enqueue(self.pid(), spec, ids, [b"x"] * len(ids), **options)
        self.entry(op, lie=lie)

    def begin(self, node: str = "n1") -> int:
        """A session; gives its number."""
        op = commands.session_begin(self.pid(), node, f"{node}-{self.index}", node)
        return int(self.entry(op).results[0][1])  # type: ignore[arg-type]

    def claim(self, session: int, *ids: str, node: str = "n1", lie: Lie | None = None) -> int:
        """Hand out; gives the fence."""
        self.entry(commands.claim(self.pid(), [(node, session, ids)]), lie=lie)
        return self.index

    def complete(self, session: int, job: str, fence: int, lie: Lie | None = None) -> None:
        self.entry(commands.complete(self.pid(), session, [job], [fence]), lie=lie)

    def fail(self, session: int, job: str, fence: int, decision: list[object], **lie: Any) -> None:
        row = [job, fence, decision, ERROR, 1]
        self.entry(commands.fail(self.pid(), session, [row]), **lie)

    def open(self, lie: Lie | None = None) -> str:
        """A session job; gives the id of its first step."""
        op = commands.session_start(self.pid(), Spec("m:cart", "default", 0, 1, 0, 0), "cart", b"0")
        return str(self.entry(op, lie=lie).results[0][1])

    def post(self, event: bytes = b"1", verb: str = "update") -> str:
        """A step of it; gives its id."""
        op = commands.session_post(self.pid(), "cart", verb, event)
        return str(self.entry(op).results[0][1])

    def done(self, session: int, step: str, state: bytes, node: str = "n1") -> None:
        """A step is claimed and gives this state."""
        fence = self.claim(session, step, node=node)
        self.entry(commands.complete(self.pid(), session, [step], [fence], [state]))


def answer(value: object) -> Lie:
    def lie(applied: Applied) -> None:
        applied.results[-1] = (applied.results[-1][0], value)  # type: ignore[assignment]

    return lie


def started(made: History) -> tuple[int, int]:
    made.enqueue("a", "b")
    session = made.begin()
    return session, made.claim(session, "a")
