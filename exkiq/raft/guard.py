"""Between the peers' messages and the engine: what may reach it, and in which form.

A pure function from what we know and a message to messages. The rules that stand here so far:

    prefix trim       The engine cuts its log behind a message's place even where the entries
                      match, and so forgets what it has vouched for. Only what is missing or
                      conflicts is delivered, and the answer names what was compared.
    snapshot commit   A message without a place in the log (`prevLogIdx`) still carries a commit
                      index, and the engine would commit its own tail with it, although nothing
                      was compared. It is delivered with commit index 0.
    votes             The engine counts every vote it is handed. One a voter and term counts.
    roles             Votes and answers count only when they come from a voter. Who is none in
                      our log may ask for votes only while we know no leader: a removed node
                      would depose one leader after the other, yet a new voter that we have not
                      heard of may be the only one who can lead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from exkiq.errors import DataError
from exkiq.raft.messages import Message


class LogView(Protocol):
    """What the rules read of our log."""

    @property
    def last_index(self) -> int: ...
    @property
    def commit_index(self) -> int: ...
    def term_at(self, index: int) -> int | None:
        """Term of the entry there, None when we have none."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """What to deliver; `verified` is the last index that the message vouched for, if it says."""

    message: Message
    verified: int | None = None


@dataclass(slots=True)
class Guard:
    """Remembers what the rules need between two messages."""

    votes: set[tuple[int, str]] = field(default_factory=set)

    def admit(
        self,
        sender: str,
        message: Message,
        voters: frozenset[str],
        log: LogView,
        *,
        has_leader: bool,
    ) -> Admitted | None:
        """What to deliver to the engine, None for nothing.

        Errors: DataError when a leader contradicts what is committed here: the node must stop.
        """
        kind = message["type"]
        if kind == "append_entries":
            if "prevLogIdx" not in message:
                return Admitted({**message, "commit_index": 0})
            return _trimmed(message, log)
        if kind in ("response_vote", "next_node_idx") and sender not in voters:
            return None
        if kind == "request_vote" and has_leader and sender not in voters:
            return None
        if kind == "response_vote" and not self._counts(sender, message["term"]):
            return None
        return Admitted(message)

    def _counts(self, sender: str, term: int) -> bool:
        if (term, sender) in self.votes:
            return False
        self.votes = {vote for vote in self.votes if vote[0] >= term} | {(term, sender)}
        return True


def _trimmed(message: Message, log: LogView) -> Admitted:
    """Deliver only what we do not have."""
    place, entries = message["prevLogIdx"], message.get("entries", [])
    if log.term_at(place) != message["prevLogTerm"]:
        return Admitted(message)  # the engine refuses it, as it should
    matching = 0
    for _, index, term in entries:
        if log.term_at(index) != term:
            break
        matching += 1
    place += matching
    if matching == len(entries):
        return _nothing_new(message, place, log)
    if place < log.last_index and place < log.commit_index:
        raise DataError(
            f"the leader contradicts entry {place + 1}, which is committed here: move the data "
            "folder away and start the node again, it then copies everything from the others"
        )
    rest = entries[matching:]
    at = {"prevLogIdx": place, "prevLogTerm": log.term_at(place), "entries": rest}
    return Admitted({**message, **at})


def _nothing_new(message: Message, verified: int, log: LogView) -> Admitted:
    """All of it is here: say so without touching what stands behind it."""
    last = log.last_index
    at: Message = {"prevLogIdx": last, "prevLogTerm": log.term_at(last), "entries": []}
    commit_index = min(message["commit_index"], verified)
    return Admitted({**message, **at, "commit_index": commit_index}, verified)
