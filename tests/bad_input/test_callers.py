"""Mistakes of a program that enqueues: refused where they are made, nothing stored."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

import exkiq
from exkiq import Client, Worker
from exkiq.errors import JobFailed, Refused, SerializationError
from exkiq.machine import limits
from tests.cluster.jobs import Note

nest: list[Any] = []
for _ in range(2000):
    nest = [nest]
ring: list[Any] = []
ring.append(ring)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (object(), "object"),
        ({1, 2}, "set"),
        (2**64, "argument 1"),
        (1j, "complex"),
        (Note, "type"),
        (datetime(2030, 1, 1), "naive|aware|time zone"),
        ("\udc80", "argument 1"),
        (nest, "argument 1"),
        (ring, "argument 1"),
        (b"x" * (limits.ARGUMENTS_BYTES_MAX + 1), "1,?048,?576|1 MiB"),
    ],
    ids=["object", "set", "2**64", "complex", "class", "naive", "surrogate", "deep", "ring", "big"],
)
def test_an_argument_that_cannot_travel(client: Client, bad: Any, named: str) -> None:
    """It would fail on some other machine, later, without the caller."""
    with pytest.raises(SerializationError, match=named):
        Note.perform_async(bad)
    with pytest.raises(SerializationError, match=r"item 1"):
        Note.perform_bulk([(1,), (bad,)])
    with pytest.raises(SerializationError, match="seconds"):
        Note.perform_async(1, seconds={"deep": object()})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"nope": 1}, "nope"),
        ({"queue": ""}, "queue"),
        ({"queue": "failed"}, "failed"),
        ({"queue": "q" * 256}, "255"),
        ({"queue": "ü" * 128}, "255"),
        ({"queue": 7}, "queue"),
        ({"retries": -1}, "retries"),
        ({"retries": True}, "retries"),
        ({"retries": "5"}, "retries"),
        ({"priority": "high"}, "priority"),
        ({"result_ttl": -1}, "result_ttl"),
    ],
    ids=repr,
)
def test_an_option_that_is_none(client: Client, options: dict[str, Any], named: str) -> None:
    """A job would run with other options than the caller thinks."""
    with pytest.raises((TypeError, ValueError), match=named):
        Note.set(**options).perform_async(1)
    with pytest.raises((TypeError, ValueError), match=named):
        type("Odd", (Worker,), {"perform": lambda self: None}, **options)


@pytest.mark.parametrize("bad", ["", "x" * 129, 7, "\udc80"], ids=repr)
def test_an_id_that_is_none(client: Client, bad: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="id"):
        Note.set(id=bad).perform_async(1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: Note.perform_in(10),
        lambda: Note.perform_in(1, parsecs=2),
        lambda: Note.perform_in(1, seconds="2"),
        lambda: Note.perform_in(1, seconds=float("nan")),
        lambda: Note.perform_at("tomorrow", 1),  # type: ignore[arg-type]
        lambda: Note.perform_at(datetime(2030, 1, 1), 1),
        lambda: Note.perform_bulk([1, 2]),  # type: ignore[list-item]
        lambda: Note.set(id="one").perform_bulk([(1,)]),
    ],
    ids=["unit", "parsecs", "text", "nan", "tomorrow", "naive", "no tuples", "bulk id"],
)
def test_a_call_that_means_nothing(client: Client, call: Callable[[], Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        call()


@pytest.mark.parametrize("name", ["", "failed", "x" * 256, 7], ids=repr)
def test_a_queue_that_cannot_be(client: Client, name: Any) -> None:
    """`pause` of it would be stored for ever."""
    with pytest.raises((TypeError, ValueError)):
        exkiq.queue(name).pause()


@pytest.mark.parametrize("limit", [-1, 10**12, "ten", 1.5, True], ids=repr)
def test_a_list_of_absurd_length(client: Client, limit: Any) -> None:
    """One reader could make a node build an answer without end."""
    try:
        found = exkiq.queue("notes").jobs(limit=limit)
    except (TypeError, ValueError, Refused) as error:
        found = []
        told = str(error)
    else:
        told = "limit"
    assert "limit" in told
    assert len(found) <= 10_000


def test_wrong_arguments_fail_the_job_alone(running: Any) -> None:
    """They are known to be wrong only where the worker is."""
    with running.client():
        job = Note.set(retries=0).perform_async()  # type: ignore[call-arg]
        with pytest.raises(JobFailed, match="TypeError"):
            job.result(timeout=10)
        exkiq.queue("notes").jobs(state="failed")


def test_a_worker_that_no_node_has(running: Any) -> None:
    """The job fails with a name that tells what is missing; the node goes on."""

    class Elsewhere(Worker, queue="notes", retries=0):
        def perform(self) -> None: ...

    with running.client():
        with pytest.raises((JobFailed, TypeError, ValueError), match="Elsewhere"):
            Elsewhere.perform_async().result(timeout=10)
        assert Note.perform_async(3).result(timeout=10) == 3
