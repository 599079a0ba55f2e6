"""What happens in a run, for people: elections, faults, what is committed, run and acknowledged.

A few are kept in `transcripts/`, and a test compares them. Whoever changes what nodes do reads
what that changes there before `scripts/sim --transcripts` writes them anew.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import msgpack

from exkiq.machine.commands import Op, decode_entry
from exkiq.raft.membership import decode_change
from tests.sim import world as worlds
from tests.sim.pool import Run
from tests.sim.trial import Trial, read, run
from tests.sim.world import World

FOLDER = Path(__file__).parent / "transcripts"
HEAD = "# "
CLIENT = "client"
IDS_SHOWN = 4


class Scribe:
    """Writes down what a world notes."""

    def __init__(self, made: World) -> None:
        self._rows: list[tuple[float, bool, str]] = []
        self._made, self._last = made, 0
        self._follows: dict[str, str] = {}
        self._note = made.watch.note
        made.watch.note = self.note  # type: ignore[method-assign]
        made.watch.runs = _Ledger(self)

    @property
    def lines(self) -> list[str]:
        # a node tells its clients before it tells us of the entry
        return [line for *_, line in sorted(self._rows, key=lambda row: row[:2])]

    def say(self, who: str, what: str) -> None:
        now = self._made.scheduler.now
        self._rows.append((now, who == CLIENT, f"{now:8.3f}  {who:6} {what}".rstrip()))

    def note(self, *facts: object) -> None:
        self._note(*facts)
        match facts:
            case (str(name), int(), int(index), str()):
                self._applied(name, index)
            case (str(name), "follows", leader, int(term)):
                self._leadership(name, leader, term)
            case ("acknowledged", bytes(pid)):
                self._acknowledged(pid)
            case ("fault", str(fault)):
                self.say("", f"FAULT {fault}")
            case (str(name), str(verb), *rest):
                self.say(name, " ".join([verb, *map(str, rest)]))
            case _:
                self.say("", " ".join(map(str, facts)).upper())

    def _applied(self, name: str, index: int) -> None:
        if index > self._last:
            self._last = index
            fact = self._made.watch.log[index]
            self.say(name, f"applies {index} of term {fact.term}: {_entry(fact.body)}")

    def _leadership(self, name: str, leader: object, term: int) -> None:
        what = f"knows no leader in term {term}"
        if leader is not None:
            verb = "leads" if leader == name else f"follows {leader}"
            what = f"{verb} in term {term}"
        if self._follows.get(name) != what:
            self._follows[name] = what
            self.say(name, what)

    def _acknowledged(self, pid: bytes) -> None:
        command = next(c for c in self._made.clients.commands if c.pid == pid)
        self.say(CLIENT, f"is told of {command.kind} {_ids(command.ids)}")


class _Ledger(list[Run]):
    def __init__(self, scribe: Scribe) -> None:
        self._scribe = scribe

    def append(self, run: Run) -> None:
        super().append(run)
        self._scribe.say(run.node, f"runs {run.id} under fence {run.fence}")


def _entry(body: bytes) -> str:
    entry = decode_entry(body)
    if entry is not None:
        return "; ".join(_operation(msgpack.unpackb(op)) for op in entry.ops)
    change = decode_change(body)
    return "nothing" if change is None else f"{change.verb} {change.name}"


def _operation(items: list[Any]) -> str:
    code, _, *rest = items
    name = Op(code).name.lower().replace("_", " ")
    match Op(code), rest:
        case Op.ENQUEUE, [[_, queue, *_], ids, *_]:
            return f"{name} {_ids(ids)} ({queue})"
        case Op.SESSION_START, [[_, queue, *_], session_id, _]:
            return f"{name} {session_id} ({queue})"
        case Op.CLAIM, [grants]:
            return name + ",".join(f" {_ids(ids)} for {node}" for node, _, ids in grants)
        case Op.COMPLETE, [_, ids, *_]:
            return f"{name} {_ids(ids)}"
        case Op.FAIL, [_, failures]:
            return name + ",".join(f" {job} ({decision[0]})" for job, _, decision, *_ in failures)
        case Op.HAND_BACK, [_, ids, _, _, is_lost]:
            return f"{name} {_ids(ids)}{' (lost)' if is_lost else ''}"
        case Op.FOUND, [cluster, *_]:
            return f"{name} {cluster}"
        case ((Op.SESSION_BEGIN | Op.SESSION_OVER), [node, *_]):
            return f"{name} of {node}"
        case _:
            words = [_ids(item) if isinstance(item, list) else item for item in rest]
            return " ".join([name, *(word for word in words if isinstance(word, str))])


def _ids(ids: list[str]) -> str:
    more = f" and {len(ids) - IDS_SHOWN} more" if len(ids) > IDS_SHOWN else ""
    return " ".join(map(str, ids[:IDS_SHOWN])) + more


def of(trial: Trial) -> str:
    """The transcript of a trial, with the command for it in front."""
    scribes: list[Scribe] = []
    look = worlds.onlookers.append
    look(lambda made: scribes.append(Scribe(made)))
    try:
        result = run(trial)
    finally:
        worlds.onlookers.pop()
    words = ["scripts/sim", "--transcript", *shlex.split(trial.line)[1:]]
    end = result.text or "every promise held"
    return "\n".join([HEAD + shlex.join(words), *scribes[0].lines, end, ""])


def kept() -> list[Path]:
    return sorted(FOLDER.glob("*.txt"))


def again(path: Path) -> str:
    """What a kept transcript would be now."""
    line = path.read_text().split("\n", 1)[0].removeprefix(HEAD)
    return of(read(line.replace("--transcript ", "")))


def rewrite() -> None:
    for path in kept():
        path.write_text(again(path))
