"""A machine with someone who numbers entries and operations, for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from exkiq.machine import Answer, Applied, Machine, Record, Refused, Spec, State, commands

START_MS = 1_700_000_000_000
MAIL = Spec("app:Mail", "mail")


class Driver:
    """Feeds one machine; `applied` is what the last entry did."""

    def __init__(self, machine: Machine | None = None) -> None:
        self.machine = machine or Machine()
        self.now_ms = START_MS
        self.term = 1
        self.applied = Applied()
        self._pids = 0

    def pid(self) -> bytes:
        """The next operation's name."""
        self._pids += 1
        return self._pids.to_bytes(12, "big")

    def entry(self, *ops: bytes) -> list[Answer | Refused]:
        """Apply one entry at the present time; gives the answers."""
        body = commands.encode_entry(self.now_ms, self.term, ops)
        self.applied = self.machine.apply(self.machine.index + 1, body)
        assert [commands.peek_pid(op) or b"" for op in ops] == [p for p, _ in self.applied.results]
        return [answer for _, answer in self.applied.results]

    def __getattr__(self, name: str) -> Callable[..., Answer | Refused]:
        """Any builder of `commands` as a method: one entry with that operation, its answer."""
        return partial(self._one, getattr(commands, name))

    def _one(
        self, build: Callable[..., bytes], *args: object, **kwargs: object
    ) -> Answer | Refused:
        return self.entry(build(self.pid(), *args, **kwargs))[0]

    def add(self, *ids: str, spec: Spec = MAIL, **options: int) -> Answer | Refused:
        """Enqueue jobs with empty arguments."""
        return self.enqueue(spec, ids, [b""] * len(ids), **options)

    def begin(self, node: str = "n1", run_id: str = "run") -> int:
        """Begin a session; gives its number."""
        session = self.session_begin(node, run_id, f"{node}:1")
        assert isinstance(session, int)
        return session

    def take(self, session: int, *ids: str, node: str = "n1") -> int:
        """Claim jobs; gives their fence."""
        assert len(ids) == self.claim([(node, session, ids)])
        return self.machine.index

    def fail_one(self, session: int, job_id: str, *decision: object) -> Answer | Refused:
        """Report a failure of a running job, with its right fence."""
        fence = self.machine.jobs[job_id].fence
        failure = [job_id, fence, decision, ["ValueError", f"bad {job_id}", "line 1"], 5]
        return self.fail(session, [failure])

    def tick(self, ms: int) -> Answer | Refused:
        """Time passes, and the timekeeper says so."""
        self.now_ms += ms
        return self.due()

    def job(self, job_id: str) -> Record:
        """The record of a job."""
        return self.machine.jobs[job_id]

    def state(self, job_id: str) -> State:
        """The state of a job."""
        return self.machine.jobs[job_id].state

    def waiting(self, queue: str = "mail") -> list[str]:
        """Ids in hand-out order."""
        return [record.id for record in self.machine.waiting(queue)]

    def count(self, *names: str) -> Sequence[int]:
        """These counts."""
        counts = self.machine.counts()
        return [counts[name] for name in names]
