"""What is refused before anybody is asked: a removal or a lead that would stop the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from exkiq import errors
from exkiq import governance as room
from exkiq.governance import Governance
from exkiq.wire.messages import Kind


@dataclass
class Pretended:
    """A replica, its peers and its admission in one: `links` are up, removals happen at once."""

    voters: frozenset[str]
    links: set[str]
    members: set[str] = field(default_factory=set)
    name: str = "n1"
    leader: str | None = "n1"
    is_removed: bool = False
    does_leave: bool = True
    sent: list[tuple[str, list[Any]]] = field(default_factory=list)

    @property
    def machine(self) -> Any:
        return SimpleNamespace(members=dict.fromkeys(self.members or self.voters))

    @property
    def is_alone(self) -> bool:
        return not self.links

    def is_linked(self, name: str) -> bool:
        return name in self.links

    def send(self, name: str, message: list[Any]) -> bool:
        self.sent.append((name, message))
        if message[0] == Kind.LEAVE and self.does_leave:
            self.leave(message[1])
        return name in self.links

    def leave(self, name: str) -> None:
        self.members = (self.members or set(self.voters)) - {name}

    def transfer_leadership(self, name: str | None) -> None:
        self.sent.append(("transfer", [name]))


def rooms(made: Pretended) -> Governance:
    pretended: Any = made
    return Governance(pretended, pretended, pretended, lambda: made.leave(made.name))


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


THREE = frozenset({"n1", "n2", "n3"})


def test_a_living_member_is_asked_to_go_itself() -> None:
    """Its jobs would be declared lost, and start a second time after a while."""
    made = Pretended(THREE, {"n2", "n3"})
    run(rooms(made).cluster_remove("n2", force=False))
    assert made.sent == [("n2", [Kind.LEAVE, "n2"])]
    run(rooms(made).cluster_leave())
    assert "n1" not in made.members


def test_a_lost_member_is_removed_by_the_leader() -> None:
    made = Pretended(THREE, {"n2"}, leader="n2")
    run(rooms(made).cluster_remove("n3", force=False))
    assert made.sent == [("n2", [Kind.LEAVE, "n3"])]


def test_a_removal_that_leaves_no_majority_is_refused() -> None:
    """Two of three live: without one of them the removal itself could not be committed."""
    made = Pretended(THREE, {"n2"})
    with pytest.raises(errors.Refused, match=r"without n2 no majority .* n3 is lost"):
        run(rooms(made).cluster_remove("n2", force=False))
    with pytest.raises(errors.Refused, match="without n1 no majority"):
        run(rooms(made).cluster_leave())
    assert (made.sent, made.members) == ([], set())


def test_a_non_voter_may_always_go() -> None:
    made = Pretended(THREE, {"n2", "n6"}, {*THREE, "n6"})
    run(rooms(made).cluster_remove("n6", force=False))
    assert "n6" not in made.members


def test_nobody_goes_where_nobody_leads() -> None:
    """It would end its jobs and stop, and count as a voter for ever."""
    made = Pretended(THREE, {"n2"}, leader=None)
    with pytest.raises(errors.NoQuorum, match="start the lost ones"):
        run(rooms(made).cluster_leave())
    assert made.members == set()


def test_the_only_member_and_a_stranger_are_told_apart() -> None:
    with pytest.raises(errors.Refused, match="the only member; stop it instead"):
        run(rooms(Pretended(frozenset({"n1"}), set())).cluster_leave())
    with pytest.raises(errors.NotRunning, match="'n9'; there are n1, n2, n3"):
        run(rooms(Pretended(THREE, set())).cluster_remove("n9", force=False))


def test_a_member_that_is_slow_to_go_is_not_called_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator would switch the machine off while its jobs run."""
    monkeypatch.setattr(room, "ORDERLY_SECONDS", 0.1)
    made = Pretended(THREE, {"n2", "n3"}, does_leave=False)
    with pytest.raises(errors.OutcomeUnknown, match="n2 was told to leave and is still there"):
        run(rooms(made).cluster_remove("n2", force=False))


def test_the_lead_goes_to_nobody_who_cannot_take_it() -> None:
    """The leader would stop taking work for somebody who never answers."""
    made = Pretended(THREE, {"n2", "n6"}, {*THREE, "n6"})
    with pytest.raises(errors.Refused, match="n6 does not vote"):
        run(rooms(made).cluster_transfer("n6"))
    with pytest.raises(errors.Refused, match="n3 is lost"):
        run(rooms(made).cluster_transfer("n3"))
    assert made.sent == []


def test_a_lead_that_is_not_taken_over_is_told() -> None:
    made = Pretended(THREE, {"n2", "n3"})
    with pytest.raises(errors.NoQuorum, match="n2 did not take over the lead: n1 goes on"):
        run(rooms(made).cluster_transfer("n2", patience=0.1))
    assert made.sent == [("transfer", ["n2"])]
