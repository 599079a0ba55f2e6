"""The guard's rules, each with what the engine would do without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exkiq.errors import DataError
from exkiq.raft.guard import Guard

VOTERS = frozenset({"n2", "n3"})


@dataclass
class Me:
    """Terms of entries 1, 2, 3, ..., and what else a member knows."""

    terms: list[int]
    commit_index: int = 0
    term: int = 9
    has_leader: bool = True
    voters: frozenset[str] = VOTERS
    followers: frozenset[str] = VOTERS

    @property
    def last_index(self) -> int:
        return len(self.terms)

    def term_at(self, index: int) -> int | None:
        return self.terms[index - 1] if 1 <= index <= len(self.terms) else None


def append(place: int, place_term: int, terms: list[int], commit: int = 0) -> dict[str, Any]:
    entries = [(b"x", place + number, term) for number, term in enumerate(terms, 1)]
    return {
        "type": "append_entries",
        "term": 9,
        "seq": 7,
        "commit_index": commit,
        "prevLogIdx": place,
        "prevLogTerm": place_term,
        "entries": entries,
    }


def answer(*, term: int = 9, seq: int = 1, reset: bool = True) -> dict[str, Any]:
    return {
        "type": "next_node_idx",
        "next_node_idx": 3,
        "reset": reset,
        "success": not reset,
        "term": term,
        "seq": seq,
    }


def delivered(message: dict[str, Any], me: Me) -> dict[str, Any]:
    verdict = Guard().admit("n2", message, me)
    assert verdict.deliver is not None
    return verdict.deliver


def verified(message: dict[str, Any], me: Me) -> int | None:
    appending = Guard().admit("n2", message, me).appending
    assert appending is not None
    return appending.verified


def test_a_heartbeat_behind_the_end_cuts_nothing() -> None:
    """The engine would forget entries that it has vouched for."""
    message, me = append(2, 1, [], commit=4), Me([1, 1, 1, 1, 1])
    assert delivered(message, me)["prevLogIdx"] == 5
    assert delivered(message, me)["entries"] == []
    assert delivered(message, me)["commit_index"] == 2
    assert verified(message, me) == 2


def test_entries_that_are_here_are_not_cut_and_added_again() -> None:
    message, me = append(1, 1, [1, 1]), Me([1, 1, 1, 1])
    assert (delivered(message, me)["prevLogIdx"], delivered(message, me)["entries"]) == (4, [])
    assert verified(message, me) == 3


def test_only_the_conflicting_rest_is_delivered() -> None:
    message, me = append(1, 1, [1, 3, 3]), Me([1, 1, 2, 2])
    assert (delivered(message, me)["prevLogIdx"], delivered(message, me)["prevLogTerm"]) == (2, 1)
    assert [entry[1] for entry in delivered(message, me)["entries"]] == [3, 4]
    assert verified(message, me) is None


def test_a_contradiction_of_what_is_committed_stops_the_node() -> None:
    with pytest.raises(DataError, match="entry 3"):
        Guard().admit("n2", append(1, 1, [1, 3]), Me([1, 1, 2, 2], commit_index=3))


def test_a_wrong_place_is_left_to_the_engine_to_refuse() -> None:
    message = append(7, 1, [1])
    assert delivered(message, Me([1, 1])) == message


@given(st.lists(st.integers(1, 3), max_size=6), st.lists(st.integers(1, 3), max_size=6), st.data())
def test_what_is_delivered_changes_the_log_as_the_paper_says(
    ours: list[int], theirs: list[int], data: st.DataObject
) -> None:
    """Cut only on a conflict, then append; nothing else changes."""
    ours, theirs = [1, *ours], [1, *theirs]
    place = data.draw(st.integers(1, len(theirs)))
    if ours[:place] != theirs[:place]:
        return
    message = delivered(append(place, theirs[place - 1], theirs[place:]), Me(ours))
    result = ours[: message["prevLogIdx"]] + [entry[2] for entry in message["entries"]]
    has_conflict = any(a != b for a, b in zip(ours, theirs, strict=False))
    assert result == (theirs if has_conflict or len(theirs) > len(ours) else ours)


def test_a_message_without_a_place_commits_nothing_and_is_answered() -> None:
    """The engine would commit its own tail; the leader would hear nothing and step down."""
    message = {"type": "append_entries", "term": 9, "seq": 3, "commit_index": 9, "serialized": None}
    verdict = Guard().admit("n2", message, Me([1]))
    assert verdict.deliver is not None
    assert verdict.deliver["commit_index"] == 0
    assert verdict.answer is not None
    assert (verdict.answer["success"], verdict.answer["reset"]) == (False, False)


def test_one_vote_a_voter_and_term() -> None:
    guard, me = Guard(), Me([1])
    vote = {"type": "response_vote", "term": 9}
    assert guard.admit("n2", vote, me).deliver is not None
    assert guard.admit("n2", vote, me).deliver is None
    assert guard.admit("n3", vote, me).deliver is not None
    assert guard.admit("n9", vote, me).deliver is None
    assert guard.admit("n2", {**vote, "term": 10}, me).deliver is None
    me.term = 10
    assert guard.admit("n2", {**vote, "term": 10}, me).deliver is not None


def test_votes_of_other_terms_leave_nothing_behind() -> None:
    """A peer that sends one for each number there is would fill the memory."""
    guard, me = Guard(), Me([1])
    for term in range(1000, 0, -1):
        guard.admit("n2", {"type": "response_vote", "term": term}, me)
    assert guard.votes == {(9, "n2")}


def test_who_is_no_voter_deposes_no_leader() -> None:
    """A removed node would raise the term again and again."""
    ask = {"type": "request_vote", "term": 9, "last_log_index": 1, "last_log_term": 1}
    assert Guard().admit("gone", ask, Me([1])).deliver is None
    assert Guard().admit("gone", ask, Me([1], has_leader=False)).deliver is not None
    assert Guard().admit("n2", ask, Me([1])).deliver is not None


def test_an_answer_of_an_older_term_counts_for_nothing() -> None:
    """It vouches for entries that this term may have replaced."""
    assert Guard().admit("n2", answer(term=8, reset=False), Me([1, 1])).deliver is None
    assert Guard().admit("n2", answer(term=9, reset=False), Me([1, 1])).deliver is not None
    assert Guard().admit("n9", answer(term=9, reset=False), Me([1, 1])).deliver is None


def test_an_answer_of_a_newer_term_makes_us_step_down() -> None:
    message = Guard().admit("n2", answer(term=12), Me([1])).deliver
    assert message is not None
    assert (message["type"], message["term"], message["last_log_index"]) == ("request_vote", 12, 0)


def test_an_answer_behind_the_end_of_our_log_vouches_for_nothing() -> None:
    """Entries to come would count as stored by a follower that has not seen them."""
    me = Me([1, 1])
    assert Guard().admit("n2", answer(reset=False), me).deliver is not None
    far = {**answer(reset=False), "next_node_idx": 4}
    assert Guard().admit("n2", far, me).deliver is None


def test_a_refusal_rewinds_to_a_place_in_our_log() -> None:
    """The engine would send from a place that is not there, and the follower would hang up."""
    refusal = Guard().admit("n2", {**answer(), "next_node_idx": 9}, Me([1, 1])).deliver
    assert refusal is not None
    assert refusal["next_node_idx"] == 3


def test_a_leader_of_an_older_term_is_told_ours() -> None:
    """It would go on believing, and its clients with it."""
    verdict = Guard().admit("n2", {**append(1, 1, []), "term": 5}, Me([1]))
    assert verdict.deliver is None
    assert verdict.answer is not None
    assert verdict.answer["term"] == 9


def test_refusals_of_what_was_sent_before_the_last_rewind_rewind_nothing() -> None:
    """They would send the engine forward and back for ever."""
    guard, me = Guard(), Me([1])
    heartbeat = {"type": "append_entries"}
    numbers = [guard.stamp_append("n2", heartbeat)["seq"] for _ in range(4)]
    assert numbers == [1, 2, 3, 4]
    first = guard.admit("n2", answer(seq=1), me).deliver
    second = guard.admit("n2", answer(seq=2), me).deliver
    late = guard.admit("n2", answer(seq=4), me).deliver
    assert first is not None
    assert second is not None
    assert late is not None
    assert (first["reset"], second["reset"], late["reset"]) == (True, False, False)
    guard.stamp_append("n2", heartbeat)
    fresh = guard.admit("n2", answer(seq=5), me).deliver
    assert fresh is not None
    assert fresh["reset"] is True


def test_a_refusal_names_the_first_entry_of_the_conflicting_term() -> None:
    """The engine goes back one entry a heartbeat: 30,000 entries took most of an hour."""
    guard, me = Guard(), Me([1, 1, 2, 2, 2, 2], commit_index=1)
    verdict = guard.admit("n2", append(6, 3, []), me)
    refusal = {"type": "next_node_idx", "next_node_idx": 6, "reset": True, "success": False}
    assert guard.stamp_answer(refusal, verdict.appending, me)["next_node_idx"] == 3


def test_the_hint_never_goes_below_what_is_committed() -> None:
    guard, me = Guard(), Me([1, 1, 2, 2, 2, 2], commit_index=4)
    verdict = guard.admit("n2", append(6, 3, []), me)
    refusal = {"type": "next_node_idx", "next_node_idx": 6, "reset": True, "success": False}
    assert guard.stamp_answer(refusal, verdict.appending, me)["next_node_idx"] == 5


def test_a_success_vouches_only_for_what_was_compared() -> None:
    guard, me = Guard(), Me([1, 1, 1, 1])
    verdict = guard.admit("n2", append(2, 1, []), me)
    success = {"type": "next_node_idx", "next_node_idx": 5, "reset": False, "success": True}
    stamped = guard.stamp_answer(success, verdict.appending, me)
    assert (stamped["next_node_idx"], stamped["term"], stamped["seq"]) == (3, 9, 7)
