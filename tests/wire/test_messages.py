"""Messages: each kind's right shape passes, every wrong one closes the link."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exkiq.errors import RemoteWireError
from exkiq.machine import limits
from exkiq.wire.hello import Hello
from exkiq.wire.messages import (
    GROUPS_MAX,
    PROGRESS_BYTES_MAX,
    PROGRESS_ROWS_MAX,
    SHAPES,
    UNABLE_MAX,
    Kind,
    check,
    check_answer,
    check_request,
)

MEMBERS = [["n1", "life-1", "10.0.0.1:7000"], ["n2", "life-2", "10.0.0.2:7000"]]
NODE = Hello("member", "n1", "run", "life", "10.0.0.1:7000", "default", "id")

RIGHT = {
    Kind.RAFT: [[{"type": "append_entries", "term": 3}], [{}]],
    Kind.PROPOSE: [[[b"op", b"op"]], [[]]],
    Kind.DEMAND: [
        [1, 2, {"": 3, "pool": 2}, {"default": 1, "pool": 1}, ["app:gone"]],
        [0, 0, {}, {}, []],
    ],
    Kind.JOIN: [["n3", "life-3", "10.0.0.3:7000"]],
    Kind.WELCOME: [["id", MEMBERS]],
    Kind.PROMISE: [["n1", "id", MEMBERS]],
    Kind.PROMISED: [["n1", True, "n1"]],
    Kind.FOUNDED: [["id", MEMBERS]],
    Kind.DENIED: [["no"]],
    Kind.NOT_LEADER: [["n1", "10.0.0.1:7000"], [None, None]],
    Kind.LEAVE: [["n1"]],
    Kind.PING: [[]],
    Kind.CALL: [[1, "status", []], [2, "job", ["id"]]],
    Kind.ANSWER: [[1, True, None], [1, False, {"a": [1]}]],
    Kind.HELLO: [[NODE.fields()], [NODE.fields() | {"of a later release": [1]}]],
    Kind.PROGRESS: [[[]], [[["job-1", 7, b"x" * PROGRESS_BYTES_MAX], ["job-2", 8, b""]]]],
}
WRONG = {
    Kind.RAFT: [[[]], [b""], [None]],
    Kind.PROPOSE: [[b"op"], [["op"]], [[b"op", None]], [[[b"op"]]]],
    Kind.DEMAND: [
        [-1, 0, {}, {}, []],
        [True, 0, {}, {}, []],
        [1, 2, 3, {}, []],
        [1, 2, {"": -1}, {}, []],
        [1, 2, {"": 3}, {b"q": 1}, []],
        [1, 2, {"": 3}, {"q": "1"}, []],
        [1, 2, {"": 3}, {}, [b"app:gone"]],
        [1, 2, {"": 3}, {}, ["x" * (limits.TASK_CHARS_MAX + 1)]],
        [1, 2, {"": 3}, {}, ["app:gone"] * (UNABLE_MAX + 1)],
        [1, 2, dict.fromkeys(map(str, range(GROUPS_MAX + 1)), 1), {}, []],
    ],
    Kind.JOIN: [["n3", 1, "address"], [None, "life", "address"]],
    Kind.WELCOME: [["id", {}], ["id", [["n1", "life"]]], ["id", [["n1", "life", 7]]], [1, []]],
    Kind.PROMISE: [["n1", "id", [["n1"]]], ["n1", None, []]],
    Kind.PROMISED: [["n1", 1, "n1"], ["n1", True, None]],
    Kind.FOUNDED: [["id", ["n1"]], ["id", None]],
    Kind.DENIED: [[None], [b"no"]],
    Kind.NOT_LEADER: [[1, None], [None, b"x"]],
    Kind.LEAVE: [[["n1"]]],
    Kind.PING: [],
    Kind.CALL: [["1", "status", []], [1, 2, []], [1, "status", {}]],
    Kind.ANSWER: [[1, 0, None], ["1", True, None]],
    Kind.HELLO: [[{}], [[]], [NODE.fields() | {"role": "client"}], [NODE.fields() | {"schema": 0}]],
    Kind.PROGRESS: [
        [{}],
        [["job-1", 7, b""]],
        [[["job-1", 7]]],
        [[["job-1", 7, "text"]]],
        [[["job-1", -7, b""]]],
        [[["job-1", True, b""]]],
        [[["job-1", 7, b"x" * (PROGRESS_BYTES_MAX + 1)]]],
        [[["x" * (limits.ID_CHARS_MAX + 1), 7, b""]]],
        [[["job-1", 7, b""]] * (PROGRESS_ROWS_MAX + 1)],
    ],
}


def cases(table: dict[Kind, list[list[object]]]) -> list[list[object]]:
    return [[int(kind), *items] for kind, rows in table.items() for items in rows]


def test_every_kind_has_a_shape_and_cases():
    """A new kind would pass unchecked, or never."""
    assert set(Kind) == set(SHAPES) == set(RIGHT) == set(WRONG)


@pytest.mark.parametrize("message", cases(RIGHT), ids=repr)
def test_right_messages_pass(message):
    """Nodes would hang up on each other."""
    assert check(message) is None


@pytest.mark.parametrize("message", cases(WRONG), ids=repr)
def test_wrong_messages_are_refused(message):
    """An odd message would raise inside of the node's turn."""
    with pytest.raises(RemoteWireError, match=Kind(message[0]).name + "|hello"):
        check(message)


@pytest.mark.parametrize("message", cases(RIGHT), ids=repr)
def test_one_item_more_or_less_is_refused(message):
    """A handler that unpacks its message would raise."""
    with pytest.raises(RemoteWireError):
        check([*message, None])
    if len(message) > 1:
        with pytest.raises(RemoteWireError):
            check(message[:-1])


@pytest.mark.parametrize(
    "message", [None, [], {}, [True], ["1"], [0], [4], [99], [None], [[1]], [1.0, {}], b"x"]
)
def test_what_has_no_known_kind_is_refused(message):
    """It would reach a handler that is not there."""
    with pytest.raises(RemoteWireError):
        check(message)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 20) | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.integers() | st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=50)
@given(st.integers(0, 20), st.lists(JUNK, max_size=5), JUNK)
def test_junk_raises_nothing_else(kind, items, junk):
    """A check that raises its own TypeError would not close the link."""
    for message in ([kind, *items], junk):
        for accept in (check, check_request, check_answer):
            with contextlib.suppress(RemoteWireError):
                accept(message)


@pytest.mark.parametrize("message", [[1, "ping"], [2, "propose", b"op", 1000]])
def test_right_requests_pass(message):
    """Clients would be hung up on."""
    assert check_request(message) is None


@pytest.mark.parametrize(
    "message",
    [
        [],
        [1],
        ["1", "ping"],
        [0, "ping"],
        [-1, "ping"],
        [True, "ping"],
        [1, b"ping"],
        [1, "x" * 65],
    ],
)
def test_wrong_requests_are_refused(message):
    """A client could raise inside of a node."""
    with pytest.raises(RemoteWireError):
        check_request(message)


@pytest.mark.parametrize(
    "message",
    [
        [1, 0, None],
        [1, 0, {"a": 1}],
        [1, 1, "NoSuchJob", "x"],
        [1, 2, None],
        [1, 2, {"name": "started"}],
        [0, "members", ["a:1"]],
    ],
)
def test_right_answers_pass(message):
    """Clients would hang up on their node."""
    assert check_answer(message) is None


@pytest.mark.parametrize(
    "message",
    [
        [],
        [1, 0],
        [1, 0, 1, 2],
        [1, 1, "NoSuchJob"],
        [1, 1, "NoSuchJob", None],
        [1, 2, "x", "y"],
        ["1", 0, None],
        [0, "members", None],
        [0, "members", [1]],
        [0, "news", []],
    ],
)
def test_wrong_answers_are_refused(message):
    """Whatever answers a client could raise inside of it."""
    with pytest.raises(RemoteWireError):
        check_answer(message)
