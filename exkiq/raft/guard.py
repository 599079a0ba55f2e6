"""Between the peers' messages and the engine: what may reach it, and in which form.

Pure: what we know and a message go in, messages come out. The engine is not trusted; each rule
names what it would do without it.

    stamp and echo    Each append carries a number, each answer the number it answers and its
                      sender's term. Without them an answer of another term, or of a link long
                      gone, counts for what was never compared.
    term filter       An answer of another term than ours never reaches the engine.
    rewind cut        After a refusal the engine goes back, but refusals of what was sent before
                      that are still under way, and each would send it forward again for ever.
    end of the log    The engine believes an answer that names a place behind its own log: it
                      would count what nobody has, or send from a place that is not there.
    prefix trim       The engine cuts its log behind a message's place even where the entries
                      match, and so forgets what it has vouched for. Only what is missing or
                      conflicts is delivered, and the answer names what was compared.
    back-off hint     The engine goes back one entry a heartbeat. A refusal names the first entry
                      of the conflicting term instead.
    snapshot commit   A message without a place in the log still carries a commit index, and the
                      engine would commit its own tail with it, although nothing was compared.
    sign of life      A piece of snapshot is not answered by the engine, and a leader that hears
                      nothing steps down: it is answered with what changes nothing.
    votes             The engine counts every vote it is handed. One a voter and term counts,
                      and only one of our term: of other terms a peer could send without end.
    roles             Votes count only when they come from a voter, answers only when they come
                      from a member; the engine counts those of voters alone. Who is no voter in
                      our log may ask for votes only while we know no leader: a removed node
                      would depose one leader after the other, yet a new voter that we have not
                      heard of may be the only one who can lead.
    term in replies   A leader of an older term is ignored by the engine, in silence, and goes on
                      believing. It is told our term; hearing of a newer one, we step down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from exkiq.errors import DataError
from exkiq.raft.messages import Message


class View(Protocol):
    """What the rules read of this member."""

    @property
    def term(self) -> int: ...
    @property
    def voters(self) -> frozenset[str]:
        """The other voters, as of the newest entry."""

    @property
    def followers(self) -> frozenset[str]:
        """The other members, voters or not, as of the newest entry."""

    @property
    def has_leader(self) -> bool: ...
    @property
    def last_index(self) -> int: ...
    @property
    def commit_index(self) -> int: ...
    def term_at(self, index: int) -> int | None:
        """Term of the entry there, None when we have none."""


@dataclass(frozen=True, slots=True)
class Appending:
    """The append that is being delivered, for the answer that the engine gives meanwhile.

    `verified` is the last index that it vouched for, where the engine would name another;
    `conflict` is the place that it named and that we have from another term.
    """

    seq: int
    verified: int | None = None
    conflict: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to deliver to the engine, and what to answer ourselves."""

    deliver: Message | None = None
    answer: Message | None = None
    appending: Appending | None = None


NOTHING = Verdict()


def step_down(term: int) -> Message:
    """A message from which the engine learns a newer term, and grants nothing."""
    return {"type": "request_vote", "term": term, "last_log_index": 0, "last_log_term": 0}


@dataclass(slots=True)
class Guard:
    """Remembers what the rules need between two messages."""

    sent: dict[str, int] = field(default_factory=dict)  # number of the last append, by peer
    rewound_at: dict[str, int] = field(default_factory=dict)  # that number at the last refusal
    votes: set[tuple[int, str]] = field(default_factory=set)

    # ---- out ---------------------------------------------------------------------------------

    def stamp_append(self, to: str, message: Message) -> Message:
        """Number an append."""
        self.sent[to] = seq = self.sent.get(to, 0) + 1
        return {**message, "seq": seq}

    def stamp_answer(self, message: Message, appending: Appending | None, view: View) -> Message:
        """Say in an answer whose it is, what it answers, and no more than was compared."""
        seq = 0 if appending is None else appending.seq
        stamped = {**message, "term": view.term, "seq": seq}
        if appending is None:
            return stamped
        if message["success"] and appending.verified is not None:
            stamped["next_node_idx"] = appending.verified + 1
        elif message["reset"] and appending.conflict is not None:
            stamped["next_node_idx"] = _first_of_its_term(appending.conflict, view)
        return stamped

    # ---- in ----------------------------------------------------------------------------------

    def admit(self, sender: str, message: Message, view: View) -> Verdict:
        """Judge a message.

        Errors: DataError when a leader contradicts what is committed here: the node must stop.
        """
        kind = message["type"]
        if kind == "append_entries":
            return self._append(message, view)
        if kind == "next_node_idx":
            return self._answer(sender, message, view)
        if kind == "response_vote":
            return Verdict(message) if self._counts(sender, message["term"], view) else NOTHING
        if kind == "request_vote" and view.has_leader and sender not in view.voters:
            return NOTHING
        return Verdict(message)

    def _append(self, message: Message, view: View) -> Verdict:
        seq = message["seq"]
        if message["term"] < view.term:
            return Verdict(answer=_no_news(view, seq))
        if "prevLogIdx" not in message:
            delivered = {**message, "commit_index": 0}
            return Verdict(delivered, _no_news(view, seq, message["term"]), Appending(seq))
        return _trimmed(message, view)

    def _answer(self, sender: str, message: Message, view: View) -> Verdict:
        if message["term"] > view.term:
            return Verdict(step_down(message["term"]))
        if message["term"] < view.term or sender not in view.followers:
            return NOTHING
        end = view.last_index + 1
        if message["success"] and message["next_node_idx"] > end:
            return NOTHING
        if not message["reset"]:
            return Verdict(message)
        message = {**message, "next_node_idx": min(message["next_node_idx"], end)}
        if message["seq"] <= self.rewound_at.get(sender, 0):
            return Verdict({**message, "reset": False})
        self.rewound_at[sender] = self.sent.get(sender, 0)
        return Verdict(message)

    def _counts(self, sender: str, term: int, view: View) -> bool:
        is_known = (term, sender) in self.votes
        if term != view.term or sender not in view.voters or is_known:
            return False
        self.votes = {vote for vote in self.votes if vote[0] == term} | {(term, sender)}
        return True


def _no_news(view: View, seq: int, term: int = 0) -> Message:
    """An answer that says our term and moves nothing."""
    return {
        "type": "next_node_idx",
        "next_node_idx": view.last_index + 1,
        "reset": False,
        "success": False,
        "term": max(term, view.term),
        "seq": seq,
    }


def _first_of_its_term(index: int, view: View) -> int:
    """The first entry of the term at `index`, not at or below what is committed."""
    term = view.term_at(index)
    while index - 1 > view.commit_index and view.term_at(index - 1) == term:
        index -= 1
    return index


def _trimmed(message: Message, view: View) -> Verdict:
    """Deliver only what we do not have."""
    place, entries, seq = message["prevLogIdx"], message.get("entries", []), message["seq"]
    here = view.term_at(place)
    if here != message["prevLogTerm"]:  # the engine refuses it, as it should
        return Verdict(message, None, Appending(seq, None, None if here is None else place))
    matching = 0
    for _, index, term in entries:
        if view.term_at(index) != term:
            break
        matching += 1
    place += matching
    if matching == len(entries):
        return _nothing_new(message, place, view)
    if place < view.last_index and place < view.commit_index:
        raise DataError(
            f"the leader contradicts entry {place + 1}, which is committed here: move the data "
            "folder away and start the node again, it then copies everything from the others"
        )
    rest = entries[matching:]
    at = {"prevLogIdx": place, "prevLogTerm": view.term_at(place), "entries": rest}
    return Verdict({**message, **at}, None, Appending(seq))


def _nothing_new(message: Message, verified: int, view: View) -> Verdict:
    """All of it is here: say so without touching what stands behind it."""
    last = view.last_index
    at: Message = {"prevLogIdx": last, "prevLogTerm": view.term_at(last), "entries": []}
    commit_index = min(message["commit_index"], verified)
    delivered = {**message, **at, "commit_index": commit_index}
    return Verdict(delivered, None, Appending(message["seq"], verified))
