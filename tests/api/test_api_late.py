"""A refusal that comes late: asked once more, or taken for the answer."""

from __future__ import annotations

from exkiq.bridge import ThreadWaiter
from exkiq.requests import Proposal


def refused(left: float, took: float) -> Proposal:
    """A proposal whose only sending was refused at second 10."""
    request = Proposal(b"op", ThreadWaiter(), 10.0 + left, "queue 'q'")
    request.sent_at = 10.0 - took
    return request


def test_a_late_refusal_is_the_answer() -> None:
    """The last moment would go into a sending that nobody can answer in time."""
    assert refused(left=0.2, took=1.0).is_late_for_another(10.0)
    assert not refused(left=1.0, took=4.0).is_late_for_another(10.0)


def test_a_quick_refusal_leaves_time_for_another_node() -> None:
    """A short patience would end at the first node that has no leader."""
    assert not refused(left=0.2, took=0.01).is_late_for_another(10.0)


def test_a_refusal_is_not_the_answer_while_another_sending_may_be_done() -> None:
    """The caller would be told that nothing was stored, and the job runs."""
    silent = refused(left=0.2, took=1.0)
    silent.rids = [1]
    assert not silent.is_late_for_another(10.0)
    lost = refused(left=0.2, took=1.0)
    lost.is_doubtful = True
    assert not lost.is_late_for_another(10.0)
