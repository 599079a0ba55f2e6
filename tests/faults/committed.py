"""The committed log, read from the journals of stopped nodes and held against the model."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from exkiq.machine import Machine
from exkiq.raft.membership import decode_change
from tests.faults.history import History
from tests.sim.model import Model
from tests.sim.violation import Violation

FIRST = 2  # each node begins with entry 1 by itself


@dataclass
class Log:
    """What one node has in its journal."""

    name: str
    commit: int
    entries: dict[int, tuple[int, bytes]] = field(default_factory=dict)


def read(folder: Path, name: str) -> Log:
    """The journal of a node that does not run."""
    db = sqlite3.connect(folder / name / "journal")
    try:
        (commit,) = db.execute("SELECT commit_index FROM hard_state").fetchone()
        rows = db.execute("SELECT idx, term, body FROM entry ORDER BY idx")
        return Log(name, commit, {index: (term, body) for index, term, body in rows})
    finally:
        db.close()


def judge(history: History, logs: list[Log]) -> None:
    """Put into the history what the log says, and what is wrong with it."""
    for log in logs:  # how far it is committed is written down with the entry after it
        state = history.nodes.get(log.name)
        log.commit = max(log.commit, state.applied if state is not None else 0)
    longest = max(logs, key=lambda log: log.commit)
    for log in logs:
        history.log += _differences(longest, log)
    if FIRST not in longest.entries:
        return  # compacted: only the ends of the logs can be compared
    model = Model()
    wrong = _replay(longest, model, history)
    history.log += wrong
    if wrong:
        return  # what follows a wrong entry says nothing
    history.log_ids = set(model.jobs)
    history.claims = {claim: node for claim, (node, _) in model.claims.items()}
    history.log += [
        f"H1 lost: {send.id} is not in the log"
        for send in history.sends.values()
        if send.outcome == "ok" and send.id not in model.jobs
    ]
    history.log += [f"H1 end: {job.id} has not ended" for job in model.jobs.values() if not job.end]


def _differences(longest: Log, log: Log) -> list[str]:
    wrong = [
        f"H12 log: entry {index} of {log.name} is not that of {longest.name}"
        for index, entry in log.entries.items()
        if index <= log.commit and longest.entries.get(index, entry) != entry
    ]
    upto = range(min(log.entries, default=1), log.commit + 1)
    return wrong[:3] + [
        f"H12 gap: {log.name} has no entry {i}" for i in upto if i not in log.entries
    ]


def _replay(log: Log, model: Model, history: History) -> list[str]:
    """Every entry once through the product's machine, and what it did through the model."""
    machine = Machine()
    told = {state.applied: (name, state.state_hash) for name, state in history.nodes.items()}
    wrong: list[str] = []
    for index in range(FIRST, log.commit + 1):
        term, body = log.entries.get(index, (0, b""))
        change = decode_change(body)
        if change is not None:
            machine.apply_member(index, change)
        applied = None if change is not None else machine.apply(index, body)
        try:
            model.apply(index, term, body, applied)
        except Violation as violation:
            return [*wrong, str(violation)]
        name, state_hash = told.get(index, ("", machine.state_hash))
        if state_hash != machine.state_hash:
            hashes = f"{state_hash}, not {machine.state_hash}"
            wrong.append(f"H12 state: {name} had {hashes} after entry {index}")
    return wrong
