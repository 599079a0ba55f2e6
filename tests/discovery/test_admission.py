"""The leader's side of joining: everybody enters without a vote."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from exkiq.discovery import admission as room
from exkiq.discovery.admission import Admission
from exkiq.discovery.promotion import Promotion
from exkiq.machine import Machine, Member, MemberChange
from exkiq.wire.messages import Kind


@dataclass
class Pretended:
    """A Raft group that notes the changes it is asked for."""

    machine: Machine = field(default_factory=Machine)
    name: str = "n1"
    is_leader: bool = True
    leader: str | None = "n1"
    voters: frozenset[str] = frozenset({"n1", "n2"})
    non_voters: frozenset[str] = frozenset()
    commit_index: int = 9
    is_changing_members: bool = False
    asked: list[MemberChange] = field(default_factory=list)

    def matched(self, name: str) -> int:
        return 9

    def change_members(self, change: MemberChange) -> None:
        self.asked.append(change)


@dataclass
class Door:
    group: Pretended
    admission: Admission
    sent: list[tuple[str, list[Any]]]

    @property
    def verbs(self) -> list[tuple[str, str]]:
        return [(change.verb, change.name) for change in self.group.asked]


@pytest.fixture
def door() -> Door:
    group, sent = Pretended(), []
    group.machine.cluster_id = "c1"
    for name in ("n1", "n2"):
        group.machine.members[name] = Member(name, f"h:{name}", "1")
    admission = Admission(
        group, "c1", lambda to, message: sent.append((to, message)) is None, Promotion("n1", 0)
    )
    return Door(group, admission, sent)


def test_who_joins_enters_without_a_vote_and_is_told_who_votes(door: Door) -> None:
    """A vote would count at once, of a node that has nothing of the log."""
    door.group.machine.members["n7"] = Member("n7", "h:n7", "1", "non-voter")
    door.admission.join("n9", "1", "h:n9")
    assert door.group.asked == [MemberChange("admit", "n9", "h:n9", "1")]
    assert door.sent == []
    door.admission.appended(door.group.asked[0])
    rows = [[name, f"h:{name}", "1"] for name in ("n1", "n2", "n9")]
    assert door.sent == [("n9", [Kind.WELCOME, "c1", rows])]


def test_who_lost_its_disk_is_another_node(door: Door) -> None:
    """It forgot its votes, and what it had vouched for."""
    door.admission.join("n2", "2", "h:new")
    assert door.group.asked == [MemberChange("remove", "n2", "h:n2", "1")]


def test_there_is_an_end_to_members(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may join could fill the list that every snapshot carries."""
    monkeypatch.setattr(room, "MEMBERS_MAX", 2)
    door.admission.join("n9", "1", "h:n9")
    assert door.group.asked == []
    assert door.sent == [("n9", [Kind.DENIED, "the cluster has 2 members, which is the most"])]


def test_a_node_that_does_not_lead_names_who_does(door: Door) -> None:
    door.group.is_leader, door.group.leader = False, "n2"
    door.admission.join("n9", "1", "h:n9")
    door.admission.leave("n2")
    assert (door.verbs, door.sent) == ([], [("n9", [Kind.NOT_LEADER, "n2", "h:n2"])])


def test_the_leader_looks_and_acts_on_one_thing_at_a_time(door: Door) -> None:
    door.group.non_voters = frozenset({"n9"})
    door.group.machine.members["n9"] = Member("n9", "h:n9", "1", "non-voter")
    door.admission.look({"n2", "n9"}, 0.0)
    door.group.is_changing_members = True
    door.admission.look({"n2", "n9"}, 0.25)
    assert door.verbs == []
    door.group.is_changing_members = False
    door.admission.look({"n2", "n9"}, 0.5)
    assert door.verbs == [("promote", "n9")]
    door.group.is_leader = False
    door.admission.look({"n2", "n9"}, 0.75)
    assert len(door.verbs) == 1
