"""Pre-vote: a member campaigns only when a majority would vote for it.

The engine raises its term and campaigns whenever its patience ends, so that a follower that
comes back from a cut deposes a healthy leader. It campaigns only while it believes itself
connected to somebody; so its peers are shown to it only after a majority said yes, and hidden
again when the round is over or a leader is heard.

Pure: time comes as an argument, in seconds of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from exkiq.raft.guard import View
from exkiq.raft.messages import Message

LEADER_SECONDS = 0.25  # a leader heard so lately is alive: the shortest patience of the engine
ROUND_SECONDS = 0.1  # then the answers that are missing will not come
YIELD_SECONDS = 1.0  # who asks for ever and cannot win must not keep us from asking


@dataclass(slots=True)
class Campaign:
    """One member's rounds of asking.

    `is_open` is True from a won round until it has led to a campaign of the engine.
    """

    is_open: bool = False
    _is_called: bool = False  # by the leader itself, whose heartbeats are still under way
    _round: int = 0
    _granted: set[str] = field(default_factory=set)
    _asked_at: float = float("-inf")
    _heard_at: float = float("-inf")
    _yielded_at: float = float("-inf")

    def heard_leader(self, now: float) -> None:
        """A leader of our term or a newer one spoke."""
        self._heard_at = now
        if not self._is_called:
            self.is_open = False
            self._granted.clear()

    def called(self) -> None:
        """The leader asks us to take over."""
        self.is_open = self._is_called = True

    def close(self) -> None:
        """The engine campaigns, or leads: the next time begins with a round."""
        self.is_open = self._is_called = False

    def lost_leader(self) -> None:
        """The link to the leader is gone."""
        self._heard_at = float("-inf")

    def may_ask(self, now: float) -> bool:
        """Whether a new round is due; the caller knows that patience is at its end."""
        return not self.is_open and now - self._asked_at >= ROUND_SECONDS

    def ask(self, view: View, now: float) -> Message:
        """Begin a round: the question for every other voter."""
        self._round += 1
        self._asked_at = now
        self._granted = set()
        last = view.last_index
        return {
            "type": "pre_vote",
            "term": view.term + 1,
            "last_log_index": last,
            "last_log_term": view.term_at(last) or 0,
            "round": self._round,
        }

    def judge(self, question: Message, view: View, is_leader: bool, now: float) -> Message:
        """The answer to a peer's question."""
        is_granted = (
            not is_leader
            and now - self._heard_at >= LEADER_SECONDS
            and question["term"] > view.term
            and self._is_as_new(question, view)
        )
        if is_granted and now - self._yielded_at >= YIELD_SECONDS:
            self._yielded_at = self._asked_at = now  # two that ask at once split the votes
        return {
            "type": "pre_vote_answer",
            "term": view.term,
            "round": question["round"],
            "granted": is_granted,
        }

    def count(
        self, sender: str, answer: Message, voters: Collection[str], *, we_vote: bool = True
    ) -> None:
        """Count an answer; `is_open` when those who said yes, and we if we vote, are a majority.

        Shapes: `voters` are the others.
        """
        if answer["round"] != self._round or not answer["granted"] or sender not in voters:
            return
        self._granted.add(sender)
        self.is_open = len(self._granted) + we_vote > (len(voters) + we_vote) / 2

    def _is_as_new(self, question: Message, view: View) -> bool:
        last = view.last_index
        theirs = (question["last_log_term"], question["last_log_index"])
        return theirs >= (view.term_at(last) or 0, last)
