"""Between the peers' messages and the engine: what may reach it, and in which form.

A pure function from what we know and a message to messages. The rules that stand here so far:

    snapshot commit   A message without a place in the log (`prevLogIdx`) still carries a commit
                      index, and the engine would commit its own tail with it, although nothing
                      was compared. It is delivered with commit index 0.
    votes             The engine counts every vote it is handed. One a voter and term counts.
    roles             Votes and answers count only when they come from a voter.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from exkiq.raft.messages import Message


@dataclass(slots=True)
class Guard:
    """Remembers what the rules need between two messages."""

    votes: set[tuple[int, str]] = field(default_factory=set)

    def admit(self, sender: str, message: Message, voters: frozenset[str]) -> Message | None:
        """The message to deliver to the engine, or None when there is nothing to deliver."""
        kind = message["type"]
        if kind == "append_entries" and "prevLogIdx" not in message:
            return {**message, "commit_index": 0}
        if kind in ("response_vote", "next_node_idx") and sender not in voters:
            return None
        if kind == "response_vote":
            return self._count(sender, message)
        return message

    def _count(self, sender: str, message: Message) -> Message | None:
        vote = (message["term"], sender)
        if vote in self.votes:
            return None
        self.votes = {(term, name) for term, name in self.votes if term >= message["term"]}
        self.votes.add(vote)
        return message
