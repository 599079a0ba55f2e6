"""Clients: open loop, retries of the same operation through other nodes, a history of it all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from exkiq.errors import ExkiqError, NoQuorum, Unavailable
from exkiq.machine import Spec, commands
from exkiq.machine.outcomes import Refused
from tests.sim.clock import WALL_MS, Scheduler
from tests.sim.node import SimNode
from tests.sim.pool import RARE

PATIENCE = 2.0  # of one attempt
ATTEMPTS_MAX = 8
QUEUES = ("default", "mail")
CARTS = tuple(f"cart-{number}" for number in range(4))
STEPS = ("open", "post", "close")


@dataclass(eq=False)
class Command:
    """One thing that a client wants, and what it was told."""

    kind: str
    pid: bytes
    op: bytes
    ids: list[str]
    invoked: float
    is_acknowledged: bool = False
    answer: Any = None
    attempts: int = 0
    open_attempts: int = 0
    maybe_done: bool = False  # one attempt's outcome is unknown
    surely_not: ExkiqError | None = None


@dataclass
class Load:
    """What is asked, how often."""

    rate: float = 20.0  # commands a second
    bulk: int = 20
    kinds: dict[str, float] = field(
        default_factory=lambda: {
            "single": 10,
            "bulk": 2,
            "unique": 2,
            "delayed": 3,
            "cancel": 2,
            "stop": 2,
            "move": 1,
            "at": 1,
            "pause": 0.5,
            "retry": 0.5,
            "retry_all": 0.3,
            "delete": 0.3,
            "clear": 0.1,
            "declare": 0.1,
            "open": 1,
            "post": 3,
            "close": 0.5,
        }
    )


def _event(pid: bytes) -> bytes:
    return b"%d " % int.from_bytes(pid[-6:], "big")


class Clients:
    """All clients of a run."""

    def __init__(
        self,
        scheduler: Scheduler,
        chance: Random,
        load: Load,
        nodes: Callable[[], dict[str, SimNode]],
        names: list[str],
        delay: float,
        told: Callable[[Command, Any], None],
    ) -> None:
        self.commands: list[Command] = []
        self.is_open = True
        self._scheduler, self._chance, self._load = scheduler, chance, load
        self._nodes, self._names, self._delay, self._told = nodes, names, delay, told
        self._ids: list[str] = []
        self._paused: list[str] = []

    def start(self) -> None:
        self._next()

    def stop(self) -> None:
        """Nothing new; what was paused goes on."""
        self.is_open = False

    def resume_all(self) -> None:
        for queue in ("default", "mail"):
            self._ask("resume", lambda pid, q=queue: commands.resume(pid, q), [])

    @property
    def waiting(self) -> int:
        return sum(command.open_attempts for command in self.commands)

    def _next(self) -> None:
        if self.is_open:
            self._scheduler.after(self._chance.expovariate(self._load.rate), self._next)
            kinds = self._load.kinds
            kind = self._chance.choices(list(kinds), list(kinds.values()))[0]
            getattr(self, f"_{kind}")()

    # ---- what is asked -----------------------------------------------------------------------

    def _single(self) -> None:
        self._enqueue("single", 1)

    def _bulk(self) -> None:
        self._enqueue("bulk", self._chance.randint(2, self._load.bulk))

    def _delayed(self) -> None:
        self._enqueue("delayed", 1, delay_ms=self._chance.randint(1, 1500))

    def _at(self) -> None:
        """A point in time, by the client's own clock."""
        ahead = self._chance.randint(-500, 1500)
        when = WALL_MS + int(self._scheduler.now * 1000) + ahead
        self._enqueue("at", 1, run_at_ms=when)

    def _unique(self) -> None:
        is_again = self._ids and self._chance.random() < 0.5
        ids = [self._chance.choice(self._ids)] if is_again else None
        self._enqueue("unique", 1, ids=ids, is_unique=True)

    def _enqueue(
        self, kind: str, count: int, *, ids: list[str] | None = None, **options: Any
    ) -> None:
        first = len(self._ids)
        names = ids or [f"job-{first + number}" for number in range(count)]
        if ids is None:
            self._ids.extend(names)
        queue = "default" if self._chance.random() < 0.7 else "mail"
        retries, lost = self._chance.randint(0, 3), self._chance.choice((0, 1, 3))
        task = RARE if self._chance.random() < 0.1 else "m:t"
        spec = Spec(task, queue, self._chance.choice((0, 0, 0, 5)), retries, 0, lost)
        payloads = [b"x" * self._chance.randint(0, 60)] * len(names)
        self._ask(kind, lambda pid: commands.enqueue(pid, spec, names, payloads, **options), names)

    def _cancel(self) -> None:
        if self._ids:
            name = self._chance.choice(self._ids[-20:])
            self._ask("cancel", lambda pid: commands.cancel(pid, name), [])

    def _stop(self) -> None:
        """Also what runs by now."""
        if self._ids:
            name = self._chance.choice(self._ids[-3:])
            self._ask("stop", lambda pid: commands.cancel(pid, name, running=True), [])

    def _move(self) -> None:
        if self._ids:
            name, queue = self._chance.choice(self._ids[-20:]), self._chance.choice(QUEUES)
            self._ask("move", lambda pid: commands.move(pid, name, queue), [])

    def _pause(self) -> None:
        queue = self._chance.choice(("default", "mail"))
        self._ask("pause", lambda pid: commands.pause(pid, queue), [])
        self._scheduler.after(self._chance.uniform(0.1, 1.0), self._resume, queue)

    def _resume(self, queue: str) -> None:
        self._ask("resume", lambda pid: commands.resume(pid, queue), [])

    def _retry(self) -> None:
        ids = self._lately()
        self._ask("retry", lambda pid: commands.retry(pid, ids), [])

    def _retry_all(self) -> None:
        queue = self._chance.choice((None, "mail", "default"))
        self._ask("retry_all", lambda pid: commands.retry(pid, None, queue), [])

    def _delete(self) -> None:
        ids, queue = self._chance.choice(((self._lately(), None), (None, "mail")))
        self._ask("delete", lambda pid: commands.delete(pid, ids, queue), [])

    def _lately(self) -> list[str]:
        return [self._chance.choice(self._ids[-40:]) for _ in range(10)] if self._ids else ["none"]

    def _declare(self) -> None:
        names = ["mail", self._chance.choice(("later", "never"))]
        self._ask("declare", lambda pid: commands.declare(pid, names), [])

    def _clear(self) -> None:
        self._ask("clear", lambda pid: commands.clear(pid, "mail"), [])

    def _open(self) -> None:
        """A session job; often there is one already."""
        name, queue = self._chance.choice(CARTS), self._chance.choice(QUEUES)
        retries, lost = self._chance.randint(0, 2), self._chance.choice((0, 1, 3))
        spec = Spec("m:cart", queue, self._chance.choice((0, 0, 5)), retries, 0, lost)
        self._ask("open", lambda pid: commands.session_start(pid, spec, name, _event(pid)), [])

    def _post(self) -> None:
        name = self._chance.choice(CARTS)
        make = commands.session_post
        self._ask("post", lambda pid: make(pid, name, "update", _event(pid)), [])

    def _close(self) -> None:
        name = self._chance.choice(CARTS)
        make = commands.session_post
        self._ask("close", lambda pid: make(pid, name, "finish", _event(pid)), [])

    # ---- attempts ----------------------------------------------------------------------------

    def _ask(self, kind: str, make: Callable[[bytes], bytes], ids: list[str]) -> None:
        pid = b"client" + len(self.commands).to_bytes(6, "big")
        command = Command(kind, pid, make(pid), ids, self._scheduler.now)
        self.commands.append(command)
        self._attempt(command)

    def _attempt(self, command: Command) -> None:
        command.attempts += 1
        command.open_attempts += 1
        name = self._chance.choice(self._names)
        state = {"is_over": False}

        def over(outcome: Any) -> None:
            if not state["is_over"]:
                state["is_over"] = True
                command.open_attempts -= 1
                self._outcome(command, outcome)

        self._scheduler.after(PATIENCE + 1.0, over, None)
        node = self._nodes().get(name)
        if node is None:
            self._scheduler.after(self._delay, over, Unavailable("refused connection"))
            return

        def tell(outcome: Any) -> None:
            self._acknowledge_at_node(command, outcome)
            self._scheduler.after(self._delay * self._chance.random(), over, outcome)

        due = self._scheduler.now + self._delay * self._chance.random()
        self._scheduler.at(due, node.host, node.ask, command.op, PATIENCE, tell)

    def _acknowledge_at_node(self, command: Command, outcome: Any) -> None:
        """The check counts what the node says, also when the client never hears it."""
        if not isinstance(outcome, ExkiqError | Refused):
            command.is_acknowledged = True
            self._told(command, outcome)

    def _outcome(self, command: Command, outcome: Any) -> None:
        if isinstance(outcome, NoQuorum | Unavailable) and not command.maybe_done:
            command.surely_not = outcome
        elif outcome is None or isinstance(outcome, ExkiqError):
            command.maybe_done = True
        if outcome is None or isinstance(outcome, ExkiqError):
            if command.attempts < ATTEMPTS_MAX:
                self._scheduler.after(0.05 + 0.2 * self._chance.random(), self._again, command)
            return
        command.answer = outcome
        command.maybe_done = True
        if command.kind in STEPS and isinstance(outcome, str):
            self._ids.append(outcome)  # to be cancelled, stopped, moved

    def _again(self, command: Command) -> None:
        command.surely_not = None if command.maybe_done else command.surely_not
        self._attempt(command)
