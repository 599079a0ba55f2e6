"""Session jobs where there is little room, and asked for more than once."""

from __future__ import annotations

import pytest

from exkiq.machine import commands, limits
from tests.machine.test_session_jobs import CART, Carts


@pytest.fixture
def carts():
    return Carts()


def test_ids_of_steps_fit_where_ids_of_jobs_do(carts):
    step = carts.open("c" * limits.SESSION_ID_CHARS_MAX)
    assert len(step) <= limits.ID_CHARS_MAX
    task = "t" * limits.SESSION_TASK_CHARS_MAX
    assert isinstance(carts.open("d", task=task), str)
    assert len(carts.job(carts.waits[1]).spec.task) <= limits.TASK_CHARS_MAX


def test_a_full_cluster_makes_no_steps_but_those_that_it_promised(carts, monkeypatch):
    """A step that waits has been acknowledged: when it has its turn nobody can be told."""
    monkeypatch.setattr(limits, "JOBS_MAX", 6)
    monkeypatch.setattr(limits, "SUCCEEDED_JOBS_MAX", 0)
    first = carts.open(result_ttl_ms=0)
    later = [carts.post(), carts.post()]
    while carts.add(f"j{carts.machine.index}", spec=CART._replace(queue="other")) == [1, []]:
        pass
    for refused in (carts.post(), carts.open("d")):
        assert (refused.kind, refused.text) == ("Refused", "the cluster holds 6 jobs, its limit")
    for step in (first, *later):
        assert carts.waits == [step]
        carts.run(step, b"s")


@pytest.mark.parametrize("end", ["failed", "succeeded"])
def test_what_was_asked_twice_is_done_once_however_busy_the_cluster_is(carts, end, monkeypatch):
    """A client asks again after a change of leaders: its event would be handled twice."""
    monkeypatch.setattr(limits, "REMEMBERED_MAX", 2)
    start = commands.session_start(carts.pid(), CART, "c", b"")
    update, finish = (
        commands.session_post(carts.pid(), "c", verb, b"") for verb in ("update", "finish")
    )
    asked = [carts.entry(op)[0] for op in (start, update, finish)]
    for step in asked:
        carts.take(carts.session, step)
        if end == "failed" and step == asked[1]:
            carts.fail_one(carts.session, step, "failed")
        else:
            carts.complete(carts.session, [step], [carts.job(step).fence], [b"s"])
        for number in range(3):
            carts.pause(f"q{number}")
            carts.resume(f"q{number}")
        assert [carts.entry(op)[0] for op in (start, update, finish)] == asked
    assert carts.machine.session_jobs == {}
    assert carts.count("enqueued_total") == [3]


def test_a_clear_counts_what_goes_with_a_start(carts, monkeypatch):
    """Ten thousand starts with a hundred steps behind each would hold up every node."""
    monkeypatch.setattr(limits, "CLEAR_JOBS_MAX", 5)
    for name in "abcd":
        carts.open(name)
        carts.post(session_id=name)
        carts.post(session_id=name)
    assert [carts.clear("carts") for _ in range(3)] == [6, 6, 0]
    assert carts.machine.session_jobs == {}


def test_bounds(carts, monkeypatch):
    """One user would fill every node's memory."""
    monkeypatch.setattr(limits, "SESSION_JOBS_MAX", 2)
    monkeypatch.setattr(limits, "SESSION_MAILBOX_MAX", 2)
    monkeypatch.setattr(limits, "SESSION_MAILBOX_BYTES_MAX", 10)
    carts.open("a")
    carts.open("b")
    assert "2 session jobs" in carts.open("c").text
    carts.post(b"123456", "a")
    assert "limit is 10" in carts.post(b"123456", "a").text
    carts.post(b"1234", "a")
    assert "2 steps waiting" in carts.post(b"", "a").text
    assert len(carts.machine.session_jobs["a"].mailbox) == 2


def test_a_repeated_request_posts_once(carts):
    """A client that asks again after a timeout would have its event handled twice."""
    carts.opened()
    op = commands.session_post(carts.pid(), "c", "update", b"apple")
    answers = carts.entry(op, op)
    assert answers[0] == answers[1] == carts.waits[0]
    assert not carts.machine.session_jobs["c"].mailbox
