"""Who may campaign: only with a majority's consent, and never against a living leader."""

from __future__ import annotations

from typing import Any

from exkiq.raft.campaign import LEADER_SECONDS, ROUND_SECONDS, Campaign
from tests.raft.test_guard import Me


def question(**fields: Any) -> dict[str, Any]:
    asked = {"type": "pre_vote", "term": 10, "last_log_index": 3, "last_log_term": 2, "round": 1}
    return {**asked, **fields}


def judged(campaign: Campaign, now: float, is_leader: bool = False, **fields: Any) -> bool:
    answer = campaign.judge(question(**fields), Me([1, 2, 2]), is_leader, now)
    return bool(answer["granted"])


def test_who_hears_a_leader_says_no() -> None:
    """A follower back from a cut would depose a healthy leader."""
    campaign = Campaign()
    campaign.heard_leader(5.0)
    assert not judged(campaign, 5.0 + LEADER_SECONDS / 2)
    assert judged(campaign, 5.0 + LEADER_SECONDS)


def test_who_lost_the_link_to_its_leader_says_yes_at_once() -> None:
    campaign = Campaign()
    campaign.heard_leader(5.0)
    campaign.lost_leader()
    assert judged(campaign, 5.0)


def test_a_leader_an_older_log_and_an_older_term_get_no() -> None:
    assert not judged(Campaign(), 9.0, is_leader=True)
    assert not judged(Campaign(), 9.0, last_log_index=2)
    assert not judged(Campaign(), 9.0, last_log_term=1, last_log_index=9)
    assert not judged(Campaign(), 9.0, term=9)
    assert judged(Campaign(), 9.0)


def granted(campaign: Campaign, sender: str, number: int, *, yes: bool = True) -> None:
    voters = frozenset({"n2", "n3", "n4", "n5"})
    answer = {"type": "pre_vote_answer", "term": 9, "round": number, "granted": yes}
    campaign.count(sender, answer, voters)


def test_a_majority_of_this_round_opens_the_campaign() -> None:
    campaign = Campaign()
    first = campaign.ask(Me([1]), 0.0)["round"]
    granted(campaign, "n2", first)
    granted(campaign, "n2", first)
    granted(campaign, "stranger", first)
    granted(campaign, "n3", first, yes=False)
    assert not campaign.is_open
    second = campaign.ask(Me([1]), 1.0)["round"]
    granted(campaign, "n2", second)
    granted(campaign, "n3", first)
    assert not campaign.is_open
    granted(campaign, "n3", second)
    assert campaign.is_open


def test_who_does_not_vote_needs_a_majority_of_the_others() -> None:
    """Half of an even number would elect it, the other half somebody else."""
    campaign = Campaign()
    answer = {"type": "pre_vote_answer", "term": 9, "round": 1, "granted": True}
    campaign.ask(Me([1]), 0.0)
    campaign.count("n2", answer, {"n2", "n3"}, we_vote=False)
    assert not campaign.is_open
    campaign.count("n3", answer, {"n2", "n3"}, we_vote=False)
    assert campaign.is_open


def test_a_leader_that_is_heard_ends_the_round() -> None:
    campaign = Campaign()
    number = campaign.ask(Me([1]), 0.0)["round"]
    granted(campaign, "n2", number)
    granted(campaign, "n3", number)
    campaign.heard_leader(0.1)
    assert not campaign.is_open


def test_rounds_have_a_pause_between_them() -> None:
    campaign = Campaign()
    assert campaign.may_ask(0.0)
    campaign.ask(Me([1]), 0.0)
    assert not campaign.may_ask(ROUND_SECONDS / 2)
    assert campaign.may_ask(ROUND_SECONDS)


def test_a_call_of_the_leader_is_not_undone_by_its_heartbeats() -> None:
    """They are under way beside it, and the lead would not change hands."""
    campaign = Campaign()
    campaign.called()
    campaign.heard_leader(1.0)
    assert campaign.is_open
    campaign.close()
    campaign.heard_leader(1.1)
    assert not campaign.is_open


def test_who_said_yes_waits_a_round_before_it_asks() -> None:
    """Both would campaign in one term, and neither would get the other's vote."""
    campaign = Campaign()
    assert campaign.may_ask(5.0)
    assert judged(campaign, 5.0)
    assert not campaign.may_ask(5.0 + ROUND_SECONDS / 2)
    assert campaign.may_ask(5.0 + ROUND_SECONDS * 1.01)


def test_who_is_asked_for_ever_asks_all_the_same() -> None:
    """One that is cut off from the rest could keep the only one that can lead from asking."""
    campaign = Campaign()
    asked = 0
    for number in range(10):
        now = 5.0 + number * ROUND_SECONDS * 0.9
        assert judged(campaign, now)
        asked += campaign.may_ask(now)
    assert asked > 5
