"""In which order and through which doors pysyncobj 0.3.17 works: exkiq's durability hangs on it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from pysyncobj import syncobj
from pysyncobj.transport import Transport

from exkiq.raft.journal import Journal
from exkiq.raft.messages import _FIELDS
from exkiq.raft.transport import EngineTransport
from tests.raft.world import THREE, three, world

SOURCE = ast.parse(inspect.getsource(syncobj))


def uses_of(owner: str) -> set[str]:
    """The attributes that the engine takes of `owner`: a module, or its field of that name."""
    return {
        node.attr
        for node in ast.walk(SOURCE)
        if isinstance(node, ast.Attribute) and _name(node.value) == owner
    }


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _messages() -> Iterator[dict[str, set[str]]]:
    for node in ast.walk(SOURCE):
        if isinstance(node, ast.Dict):
            keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
            if "type" in keys:
                kind = node.values[keys.index("type")]
                assert isinstance(kind, ast.Constant)
                yield {str(kind.value): set(keys) - {"type"}}


def test_the_clock_and_chance_have_one_door_each() -> None:
    """A simulation that does not own them proves nothing."""
    assert uses_of("time") == {"sleep"}  # with a transport that is ready none is reached
    assert uses_of("random") == {"random"}
    assert "datetime" not in inspect.getsource(syncobj)


def test_the_journal_has_all_that_is_asked_of_it() -> None:
    asked = uses_of("__raftLog")
    assert {"add", "deleteEntriesFrom", "setRaftCommitIndex", "setCurrentTerm"} <= asked
    assert [name for name in asked if not callable(getattr(Journal, name, None))] == []


def test_the_engine_s_messages_are_those_we_check() -> None:
    """A field that nobody checks is read from whatever a peer sends."""
    found: dict[str, set[str]] = {}
    for message in _messages():
        for kind, fields in message.items():
            found.setdefault(kind, set()).update(fields)
    assert found.keys() - _FIELDS.keys() == {"apply_command", "apply_command_response"}
    assert found["append_entries"] == {
        *("term", "commit_index", "prevLogIdx", "prevLogTerm", "entries", "serialized"),
        *("transmission", "data"),  # refused
    }
    for kind in ("next_node_idx", "request_vote", "response_vote", "timeout_now"):
        assert found[kind] <= _FIELDS[kind].keys(), kind


@pytest.mark.parametrize(
    "name", ["_onMessageReceived", "_onNodeConnected", "_onNodeDisconnected", "ready"]
)
def test_the_transport_s_doors_exist(name: str) -> None:
    assert hasattr(Transport, name)


def test_the_commit_index_reaches_the_journal_before_anything_is_applied() -> None:
    """The leader's own entries must be on its disk before anybody is told."""
    with world() as w:
        three(w)
        leader = w.leader()
        told: list[tuple[str, int]] = []
        put, apply = leader.journal.setRaftCommitIndex, leader.replica._engine._exkiq_apply

        def noted(index: int) -> None:
            told.append(("commit", index))
            put(index)

        def applied(index: int, command: bytes) -> None:
            told.append(("apply", index))
            apply(index, command)

        leader.journal.setRaftCommitIndex = noted  # type: ignore[method-assign]
        leader.replica._engine._exkiq_apply = applied
        answer = w.enqueue(leader, 1)
        w.run_until(lambda: answer.is_there)
        index = leader.replica.applied_index
        assert told.index(("commit", index)) < told.index(("apply", index))


def test_the_term_reaches_the_journal_before_a_vote_is_asked_or_given() -> None:
    with world() as w:
        three(w)
        told: list[tuple[str, str, int]] = []
        for member in w.members.values():
            put = member.journal.setCurrentTerm

            def noted(term: int, vote: Any, name: str = member.name, put: Any = put) -> None:
                told.append((name, "term", term))
                put(term, vote)

            member.journal.setCurrentTerm = noted  # type: ignore[method-assign]
        send = w.send

        def sent(sender: str, to: str, message: list[Any]) -> bool:
            if message[0] == 1 and message[1]["type"] in ("request_vote", "response_vote"):
                assert (sender, "term", message[1]["term"]) in told
                told.append((sender, message[1]["type"], message[1]["term"]))
            return send(sender, to, message)

        w.send = sent  # type: ignore[method-assign]
        w.leader()
        assert {what for _, what, _ in told} == {"term", "request_vote", "response_vote"}


def test_every_answer_goes_through_our_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that went around it would vouch for what is not on the disk."""
    with world() as w:
        three(w)
        w.leader()
        send = EngineTransport.send
        answers = ("next_node_idx", "response_vote")
        monkeypatch.setattr(
            EngineTransport,
            "send",
            lambda self, node, m: m["type"] in answers or send(self, node, m),
        )
        w.run(0.1)
        w.sent.clear()
        w.run(3.0)
        kinds = {m[1]["type"] for _, _, m in w.sent if m[0] == 1}
        assert "append_entries" in kinds
        assert not kinds & set(answers)


def test_who_sees_no_peer_does_not_campaign() -> None:
    """Pre-vote is made of that: the peers are hidden until a majority agrees."""
    with world() as w:
        member = w.start("n1", THREE)
        w.run(5.0)
        assert (member.replica.term, member.replica._engine.is_candidate) == (0, False)
        assert member.replica._engine.election_in < 0
