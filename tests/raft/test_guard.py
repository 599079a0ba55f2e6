"""The guard's rules, each with what the engine would do without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exkiq.errors import DataError
from exkiq.raft.guard import Admitted, Guard

VOTERS = frozenset({"n2", "n3"})


@dataclass
class Log:
    """Terms of entries 1, 2, 3, ..."""

    terms: list[int]
    commit_index: int = 0

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
        "commit_index": commit,
        "prevLogIdx": place,
        "prevLogTerm": place_term,
        "entries": entries,
    }


def admit(message: dict[str, Any], log: Log, sender: str = "n2") -> Admitted:
    admitted = Guard().admit(sender, message, VOTERS, log, has_leader=True)
    assert admitted is not None
    return admitted


def test_a_heartbeat_behind_the_end_cuts_nothing() -> None:
    """The engine would forget entries that it has vouched for."""
    admitted = admit(append(2, 1, [], commit=4), Log([1, 1, 1, 1, 1]))
    assert admitted.message["prevLogIdx"] == 5
    assert admitted.message["entries"] == []
    assert admitted.message["commit_index"] == 2
    assert admitted.verified == 2


def test_entries_that_are_here_are_not_cut_and_added_again() -> None:
    admitted = admit(append(1, 1, [1, 1]), Log([1, 1, 1, 1]))
    assert (admitted.message["prevLogIdx"], admitted.message["entries"]) == (4, [])
    assert admitted.verified == 3


def test_only_the_conflicting_rest_is_delivered() -> None:
    admitted = admit(append(1, 1, [1, 3, 3]), Log([1, 1, 2, 2]))
    assert (admitted.message["prevLogIdx"], admitted.message["prevLogTerm"]) == (2, 1)
    assert [entry[1] for entry in admitted.message["entries"]] == [3, 4]
    assert admitted.verified is None


def test_a_contradiction_of_what_is_committed_stops_the_node() -> None:
    with pytest.raises(DataError, match="entry 3"):
        admit(append(1, 1, [1, 3]), Log([1, 1, 2, 2], commit_index=3))


def test_a_wrong_place_is_left_to_the_engine_to_refuse() -> None:
    message = append(7, 1, [1])
    assert admit(message, Log([1, 1])).message == message


@given(st.lists(st.integers(1, 3), max_size=6), st.lists(st.integers(1, 3), max_size=6), st.data())
def test_delivered_entries_leave_the_log_a_leader_s_prefix_expects(
    ours: list[int], theirs: list[int], data: st.DataObject
) -> None:
    """As the paper has it: cut only on a conflict, then append; nothing else changes."""
    ours, theirs = [0, *ours], [0, *theirs]
    place = data.draw(st.integers(1, len(theirs)))
    message = append(place, theirs[place - 1], theirs[place:])
    admitted = admit(message, Log(ours)).message
    start = admitted["prevLogIdx"]
    if Log(ours).term_at(place) != theirs[place - 1]:
        return
    delivered = ours[:start] + [entry[2] for entry in admitted["entries"]]
    conflict = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    expected = theirs if conflict is not None or len(theirs) > len(ours) else ours
    if ours[:place] == theirs[:place]:
        assert delivered == expected


def test_a_message_without_a_place_commits_nothing() -> None:
    message = {"type": "append_entries", "term": 1, "commit_index": 9, "serialized": None}
    assert admit(message, Log([1])).message["commit_index"] == 0


def test_one_vote_a_voter_and_term() -> None:
    guard, log = Guard(), Log([1])
    vote = {"type": "response_vote", "term": 4}
    assert guard.admit("n2", vote, VOTERS, log, has_leader=True) is not None
    assert guard.admit("n2", vote, VOTERS, log, has_leader=True) is None
    assert guard.admit("n3", vote, VOTERS, log, has_leader=True) is not None
    assert guard.admit("n9", vote, VOTERS, log, has_leader=True) is None
    assert guard.admit("n2", {**vote, "term": 5}, VOTERS, log, has_leader=True) is not None


def test_who_is_no_voter_deposes_no_leader() -> None:
    """A removed node would raise the term again and again."""
    ask = {"type": "request_vote", "term": 9, "last_log_index": 1, "last_log_term": 1}
    assert Guard().admit("gone", ask, VOTERS, Log([1]), has_leader=True) is None
    assert Guard().admit("gone", ask, VOTERS, Log([1]), has_leader=False) is not None
    assert Guard().admit("n2", ask, VOTERS, Log([1]), has_leader=True) is not None
