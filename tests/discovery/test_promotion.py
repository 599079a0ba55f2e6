"""Who is given a vote, and whose vote is taken: pure, a look every quarter of a second."""

from __future__ import annotations

from collections.abc import Callable

from exkiq.discovery.promotion import VOTERS_MAX, Move, Promotion, Sight

FIVE = ("v1", "v2", "v3", "v4", "v5")


def sight(
    voters: tuple[str, ...],
    non_voters: dict[str, int],
    linked: tuple[str, ...] | None = None,
    commit_index: int = 100,
) -> Sight:
    everybody = (*voters, *non_voters)
    return Sight(
        voters, list(non_voters), everybody if linked is None else linked,
        lambda name: non_voters[name], commit_index,
    )  # fmt: skip


def moves(promotion: Promotion, looks: int, at: Callable[[int], Sight]) -> list[Move]:
    found = [promotion.look(at(number), number * 0.25) for number in range(looks)]
    return [move for move in found if move is not None]


def said(move: Move | None) -> tuple[str, str] | None:
    return None if move is None else (move.verb, move.name)


def test_who_has_what_was_committed_a_look_ago_is_promoted() -> None:
    """Every commit would wait for a voter that has nothing of the log yet."""
    promotion = Promotion("v1", 300.0)
    assert promotion.look(sight(("v1",), {"n": 100}), 0.0) is None
    assert said(promotion.look(sight(("v1",), {"n": 100}, commit_index=130), 0.25)) == (
        "promote",
        "n",
    )


def test_who_is_behind_or_lost_is_not() -> None:
    behind = moves(Promotion("v1", 0), 9, lambda k: sight(("v1",), {"n": 99}, None, 100 + k))
    lost = moves(Promotion("v1", 0), 9, lambda _: sight(("v1",), {"n": 100}, ("v1",)))
    assert behind == lost == []


def test_five_vote_and_no_more() -> None:
    """Commits would become slower and survive nothing that they do not survive now."""
    assert len(FIVE) == VOTERS_MAX
    assert moves(Promotion("v1", 300.0), 9, lambda _: sight(FIVE, {"n": 100})) == []


def test_who_kept_up_longest_takes_the_place_of_one_who_went() -> None:
    promotion = Promotion("v1", 300.0)
    for number in range(8):
        matched = {"a": 100 if number > 4 else 0, "b": 100}
        assert promotion.look(sight(FIVE, matched), number * 0.25) is None
    four = sight(FIVE[:4], {"a": 100, "b": 100})
    assert said(promotion.look(four, 3.0)) == ("promote", "b")


def test_a_voter_lost_for_long_makes_room_for_who_keeps_up() -> None:
    """A cluster of five would go on with three copies that count, until somebody notices."""
    promotion = Promotion("v1", 5.0)
    alive = (*FIVE[:4], "n")
    found = moves(promotion, 25, lambda k: sight(FIVE, {"n": 100}, alive if k > 2 else None))
    assert [said(move) for move in found] == [("demote", "v5")] * 2  # from 0.75 s on
    assert "v5 is lost for 5 s" in found[0].reason


def test_a_voter_that_comes_back_in_time_keeps_its_vote() -> None:
    alive = (*FIVE[:4], "n")
    back = moves(
        Promotion("v1", 2.0), 40, lambda k: sight(FIVE, {"n": 100}, alive if k % 7 else None)
    )
    nobody = moves(Promotion("v1", 2.0), 40, lambda _: sight(FIVE, {"n": 0}, alive))
    never = moves(Promotion("v1", 0), 40, lambda _: sight(FIVE, {"n": 100}, alive))
    assert back == nobody == never == []


def test_a_new_leader_counts_from_its_own_beginning() -> None:
    """It would act on what it saw when it led an hour ago."""
    promotion = Promotion("v1", 2.0)
    alive = (*FIVE[:4], "n")
    moves(promotion, 2, lambda _: sight(FIVE, {"n": 100}, alive))
    promotion.forget()
    assert promotion.look(sight(FIVE, {"n": 100}, alive), 60.0) is None
    assert promotion.look(sight(FIVE, {"n": 100}, alive), 60.25) is None
