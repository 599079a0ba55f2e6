"""Operations and entries as bytes."""

from __future__ import annotations

import msgpack
import pytest

from exkiq.errors import RemoteWireError
from exkiq.machine import check_op, commands, limits
from exkiq.machine.commands import Op
from exkiq.machine.parsing import PARSERS
from tests.machine.driver import MAIL

PID = b"p" * 12
SAMPLES = {
    Op.ENQUEUE: commands.enqueue(PID, MAIL, ["a"], [b"x"], delay_ms=5, is_unique=True),
    Op.CLAIM: commands.claim(PID, [("n1", 7, ["a", "b"])]),
    Op.COMPLETE: commands.complete(PID, 7, ["a", "b"], [8, 8], [b"v", ("Kind", "text")], [1, 2]),
    Op.FAIL: commands.fail(PID, 7, [["a", 8, ["retry", 5], ["E", "m", "t"], 3]]),
    Op.HAND_BACK: commands.hand_back(PID, 7, ["a"], [8], [b"c"], is_lost=True),
    Op.DUE: commands.due(PID),
    Op.SESSION_BEGIN: commands.session_begin(PID, "n1", "run", "h:1"),
    Op.SESSION_OVER: commands.session_over(PID, "n1", 7, is_orderly=True),
    Op.CANCEL: commands.cancel(PID, "a"),
    Op.PAUSE: commands.pause(PID, "mail"),
    Op.RESUME: commands.resume(PID, "mail"),
    Op.RETRY: commands.retry(PID, ["a"], "mail"),
    Op.DELETE: commands.delete(PID),
    Op.CLEAR: commands.clear(PID, "mail"),
    Op.DECLARE: commands.declare(PID, ["mail", "log"]),
    Op.CHECKPOINT: commands.checkpoint(PID, 7, "a", 8, b"c"),
    Op.FOUND: commands.found(PID, "cluster", [("n1", "h:1", "i")]),
    Op.ADDRESS: commands.address(PID, "n1", "h:2"),
    Op.MOVE: commands.move(PID, "a", "log"),
    Op.PARK: commands.park(PID, "app:Mail", ["a", "b"]),
    Op.UNPARK: commands.unpark(PID, "app:Mail", 1_000),
    Op.SESSION_START: commands.session_start(PID, MAIL, "s", b"x"),
    Op.SESSION_POST: commands.session_post(PID, "s", "update", b"x"),
    Op.SCHEMA: commands.schema(PID, 1),
}


@pytest.mark.parametrize("code", Op)
def test_every_operation_is_built_peeked_and_accepted_at_the_door(code):
    """A builder and its parser must agree."""
    op = SAMPLES[code]
    assert commands.peek_code(op) == code
    assert commands.peek_pid(op) == PID
    assert commands.decode_op(op)[:2] == [code, PID]
    assert check_op(op) is None
    assert code in PARSERS


def test_the_bytes_of_an_operation_do_not_change():
    """Logs of earlier versions are replayed by later ones."""
    assert SAMPLES[Op.ENQUEUE] == msgpack.packb(
        [1, PID, ["app:Mail", "mail", 0, 5, 600_000, 3, 0, False], ["a"], [b"x"], 5, 0, 1]
    )
    assert SAMPLES[Op.CLAIM] == msgpack.packb([2, PID, [["n1", 7, ["a", "b"]]]])
    assert SAMPLES[Op.CANCEL] == msgpack.packb([9, PID, "a", False])
    assert commands.cancel(PID, "a", running=True) == msgpack.packb([9, PID, "a", True])
    assert SAMPLES[Op.HAND_BACK] == msgpack.packb([5, PID, 7, ["a"], [8], [b"c"], True])


@pytest.mark.parametrize("code", Op)
def test_an_operation_cut_anywhere_is_refused_at_the_door(code):
    """Half an operation is none."""
    op = SAMPLES[code]
    for length in range(len(op)):
        assert check_op(op[:length]) is not None
        commands.peek_code(op[:length])
        assert commands.peek_pid(op[:length]) in (None, PID)
    assert check_op(op + b"\xc0") is not None


@pytest.mark.parametrize(
    "op",
    [b"", b"\xc0", b"\x90", b"\x91\x01", b"\x92\x01\xc0", b"\x92\xc3\xc4\x0c" + PID, b"\xff" * 40],
)
def test_what_is_no_operation_has_neither_code_nor_pid(op):
    """Peeking must not be fooled into reading elsewhere."""
    assert commands.peek_pid(op) is None or commands.peek_code(op) is None
    with pytest.raises(RemoteWireError):
        commands.decode_op(op)


def test_the_door_names_what_is_wrong():
    """Refusals travel to the caller as the class and text of an error."""
    assert check_op(msgpack.packb([99, PID])).kind == "UnsupportedOperation"
    assert check_op(b"\x92\x01").kind == "RemoteWireError"
    assert check_op(commands.pause(PID, "failed")).text == (
        "'failed' is the name of a state or count and cannot be a queue's"
    )
    large = commands.enqueue(PID, MAIL, ["a"], [bytes(limits.OP_BYTES_MAX)])
    assert check_op(large).kind == "RemoteWireError"


def test_an_entry_opens_to_what_went_in():
    """Operations travel as they are."""
    ops = list(SAMPLES.values())
    entry = commands.decode_entry(commands.encode_entry(1_000, 7, ops))
    assert entry == commands.Entry(1_000, 7, ops)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00",
        b"\x01" + msgpack.packb([1, 0, 0]),
        b"\x00" + msgpack.packb([2, 0, 0]),
        b"\x00" + msgpack.packb([True, 0, 0]),
        b"\x00" + msgpack.packb([1, 0]),
        b"\x00" + msgpack.packb([1, -1, 0]),
        b"\x00" + msgpack.packb([1, True, 0]),
        b"\x00" + msgpack.packb([1, limits.TIME_MS_MAX + 1, 0]),
        b"\x00" + msgpack.packb([1, 0, 2**63]),
        b"\x00" + msgpack.packb([1, 0, 0, "op"]),
        b"\x00" + msgpack.packb({1: 2}),
        b"\x00" + msgpack.packb([1, 0, 0]) + b"\x00",
    ],
)
def test_what_is_no_entry_of_this_version_is_not_opened(body):
    """A later version's entry must not be taken for one of ours."""
    assert commands.decode_entry(body) is None
