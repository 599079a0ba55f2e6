"""The cluster's schema is raised when every member said that it can, and not before."""

from __future__ import annotations

from typing import Any

import pytest

from exkiq.machine import Machine, schema
from exkiq.machine.parsing import decode_op
from exkiq.machine.sessions import Member
from exkiq.releases import Releases
from exkiq.wire.hello import Hello


class Pretended:
    """The replica of n1, its links, and what is proposed."""

    name = "n1"
    is_leader = True

    def __init__(self) -> None:
        self.machine = Machine()
        self.machine.members = {name: Member(name, "", "") for name in ("n1", "n2", "n3")}
        self.links: dict[str, Any] = {}
        self.levels: list[object] = []
        self.releases = Releases(self, lambda: self.links, self._propose, lambda: b"p" * 12)

    def _propose(self, op: bytes) -> None:
        self.levels.append(decode_op(op)[2])

    def link(self, **schemas: int) -> None:
        for name, level in schemas.items():
            self.links[name] = type("Link", (), {"peer": Hello("member", name, schema=level)})

    def look(self) -> list[object]:
        self.releases.look()
        return self.levels


@pytest.fixture
def n1(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    monkeypatch.setattr(schema, "SCHEMA", 3)
    return Pretended()


def test_all_have_to_be_there_and_know_it(n1: Pretended) -> None:
    """A member that is down, or not yet of the later release, would have to stop."""
    n1.link(n2=3)
    assert n1.look() == []
    n1.link(n3=1)
    assert n1.look() == []
    n1.link(n3=2, stranger=1)
    assert n1.look() == [2]


def test_it_is_said_once_and_again_for_a_later_one(n1: Pretended) -> None:
    n1.link(n2=2, n3=2)
    n1.look()
    assert n1.look() == [2]
    n1.machine.schema = 2
    n1.link(n2=3, n3=3)
    assert n1.look() == [2, 3]


def test_what_was_lost_with_a_leadership_is_said_again(n1: Pretended) -> None:
    """The cluster would keep to the operations of the old release for ever."""
    n1.link(n2=2, n3=2)
    n1.look()
    n1.machine.term = 7
    assert n1.look() == [2, 2]
    assert n1.look() == [2, 2]


def test_only_a_leader_says_it(n1: Pretended) -> None:
    n1.link(n2=3, n3=3)
    n1.is_leader = False
    assert n1.look() == []
