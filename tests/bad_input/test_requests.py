"""A client that speaks the protocol and asks for what makes no sense."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from exkiq import Client
from exkiq.errors import ExkiqError, JobTooLarge, NotRunning, Refused, WireError
from exkiq.machine import Spec, commands, limits
from exkiq.machine.commands import Op

PID = bytes(12)
SPEC = Spec("tests.cluster.jobs:Note", "notes", 0, 5, 600_000, 3, 0)

ODD: list[Any] = [None, True, 0, -1, 2**63, 1.5, float("nan"), "", "x" * 10_000, b"\xc1", [], {}]
ODD += [[None], {"a": 1}, ["x"] * 1000]
VERBS = ("job", "jobs", "result", "propose", "stats_after", "cluster_remove")


@pytest.mark.parametrize("verb", VERBS)
def test_wrong_types_for_every_verb(client: Client, verb: str) -> None:
    """Each is refused, or answered as what it happens to mean; no link or node is lost."""
    for odd in ODD:
        for args in ((odd,), (odd, odd), (odd, odd, odd, odd), ("notes", None, odd, odd)):
            try:
                client.request(verb, *args, timeout=2.0)
            except ExkiqError as error:
                assert isinstance(error, Refused | NotRunning), (verb, args, error)  # noqa: PT017
            assert client.request("ping") == "pong"


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        ("nope", ()),
        ("__class__", ()),
        ("", ()),
        ("cluster_remove", ("n1",)),
        ("cluster_remove", ("n1", None)),
        ("cluster_remove", ("nobody", False)),
        ("cluster_transfer", (7,)),
        ("cluster_transfer", ("nobody",)),
        ("jobs", ("notes", "lost", 1, 0)),
        ("jobs", ("notes", None, -1, 0)),
        ("jobs", ("notes", None, 1, -1)),
    ],
)
def test_a_request_that_cannot_be_done(client: Client, verb: str, args: tuple[Any, ...]) -> None:
    """The answer says no, at once, whichever node is asked."""
    with pytest.raises((Refused, NotRunning)) as told:
        client.request(verb, *args, timeout=2.0)
    assert str(told.value)


def test_a_list_without_end(client: Client) -> None:
    """A page stays a page, however much of it is asked for."""
    for limit, offset in ((2**62, 0), (1, 2**62), (2**63 - 1, 2**63 - 1), (0, 0)):
        assert len(client.request("jobs", None, None, limit, offset)) <= 1_000


def operations_of_nodes() -> Iterator[bytes]:
    yield commands.claim(PID, [("n1", 1, ["x"])])
    yield commands.complete(PID, 1, ["x"], [1])
    yield commands.fail(PID, 1, [["x", 1, ["failed"], ["E", "m", "t"], 1]])
    yield commands.hand_back(PID, 1, ["x"], [1], is_lost=True)
    yield commands.due(PID)
    yield commands.session_begin(PID, "n1", "run", "127.0.0.1:1")
    yield commands.session_over(PID, "n1", 1, is_orderly=False)
    yield commands.checkpoint(PID, 1, "x", 1, b"x")
    yield commands.found(PID, "other")
    yield commands.address(PID, "n1", "127.0.0.1:1")
    yield commands.park(PID, "app:T", ["x"])
    yield commands.unpark(PID, "app:T", 1)
    yield commands.schema(PID, 2)


def test_the_operations_of_nodes_are_all_tried() -> None:
    """A new code that only nodes may use would not be tried here."""
    tried = {commands.peek_code(op) for op in operations_of_nodes()}
    assert tried == set(map(int, Op)) - set(map(int, commands.CLIENT_OPS))


@pytest.mark.parametrize("op", list(operations_of_nodes()), ids=lambda op: Op(op[1]).name)
def test_an_operation_that_only_nodes_may_ask_for(client: Client, op: bytes) -> None:
    """A client could end sessions, or finish jobs that others run."""
    with pytest.raises(Refused, match="client"):
        client.request("propose", op, 1000, timeout=2.0)
    code, *rest = msgpack.unpackb(op)
    # the same code, written longer than it has to be
    for head in (b"\xcc", b"\xcd\x00", b"\xce\x00\x00\x00", b"\xd0"):
        disguised = bytes([0x90 | (1 + len(rest))]) + head + bytes([code])
        disguised += b"".join(map(msgpack.packb, rest))
        with pytest.raises(Refused):
            client.request("propose", disguised, 1000, timeout=2.0)


def broken_operations() -> Iterator[bytes]:
    good = commands.enqueue(PID, SPEC, ["x"], [b"\x92\x90\x80"])
    yield from (b"", b"\x00", b"\xc1", b"\x90", b"\x92\x01\xc4\x0c" + PID, os.urandom(200))
    yield good[:-1]
    yield good + b"\x00"
    for code in (0, 8, 15, 20, 127):
        yield bytes([good[0], code]) + good[2:]
    for spec in (
        SPEC._replace(queue=""),
        SPEC._replace(queue="failed"),
        SPEC._replace(queue="q" * 300),
        SPEC._replace(retries=-1),
        SPEC._replace(task=7),  # type: ignore[arg-type]
        SPEC._replace(priority="x"),  # type: ignore[arg-type]
        (),
    ):
        yield commands.enqueue(PID, spec, ["x"], [b"\x92\x90\x80"])  # type: ignore[arg-type]
    for ids in ([""], ["x" * 200], [7], []):
        yield commands.enqueue(PID, SPEC, ids, [b"\x92\x90\x80"] * len(ids))  # type: ignore[arg-type]
    yield commands.enqueue(PID, SPEC, ["x", "y"], [b""])
    yield commands.enqueue(PID, SPEC, ["x"], [b"x" * (limits.ARGUMENTS_BYTES_MAX + 1)])
    yield commands.enqueue(PID, SPEC, ["x"], [b"\x92\x90\x80"], run_at_ms=-5)
    yield commands.enqueue(PID, SPEC, ["x"], [b"\x92\x90\x80"], delay_ms=2**63)
    for queue in ("", "running", "x" * 256):
        yield commands.pause(PID, queue)
        yield commands.clear(PID, queue)
        yield commands.declare(PID, [queue])
    yield commands.declare(PID, [str(number) for number in range(100_000)])
    yield commands.cancel(PID, "x" * 1000)
    yield commands.retry(PID, [], None)[:-1] + b"\xc3"


@pytest.mark.parametrize("op", list(broken_operations()), ids=lambda op: f"op{len(op)}")
def test_an_operation_that_is_broken(client: Client, op: bytes) -> None:
    """It must not reach the log as something that is done, nor part the replicas."""
    with pytest.raises((Refused, WireError)) as told:
        client.request("propose", op, 2000, timeout=4.0)
    assert str(told.value)


def test_an_operation_over_every_limit(client: Client) -> None:
    with pytest.raises(JobTooLarge):
        client.request(
            "propose",
            commands.enqueue(PID, SPEC, ["x", "y", "z"], [b"x" * 1_000_000] * 3),
            2000,
            timeout=4.0,
        )


def test_a_timeout_that_is_none(client: Client) -> None:
    """The wait is the one thing that is cut to what makes sense; nothing is refused for it."""
    for timeout_ms in (-1, 0, 2**63 - 1):
        try:
            client.request("propose", commands.declare(os.urandom(12), []), timeout_ms, timeout=4)
        except ExkiqError as error:
            assert timeout_ms <= 0, error  # noqa: PT017
