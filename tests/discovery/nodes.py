"""Short ways to build a founding machine and what it is told."""

from __future__ import annotations

from exkiq.discovery.effects import Effect, Send
from exkiq.discovery.facts import Facts, Member, Promise, rows_of
from exkiq.discovery.founding import Founding
from exkiq.discovery.roster import Peer, Roster
from exkiq.wire.messages import Kind


def member(name: str, life: int = 1) -> Member:
    return Member(name, f"127.0.0.1:{4000 + ord(name[0])}", f"{name}-{life}")


def peer(name: str, cluster_id: str = "", life: int = 1) -> Peer:
    return Peer(member(name, life), cluster_id)


def node(
    name: str, facts: Facts | None = None, *, expect: int = 3, join_wait_ms: int = 3_000
) -> Founding:
    ids = iter(f"id-of-{name}-{number}" for number in range(1, 1_000))
    return Founding(
        Roster(member(name), "default"),
        facts or Facts(),
        expect=expect,
        join_wait_ms=join_wait_ms,
        new_id=lambda: next(ids),
    )


def begun(name: str, facts: Facts | None = None, *, expect: int = 3) -> Founding:
    founding = node(name, facts, expect=expect)
    founding.begin(0)
    return founding


def members(*names: str) -> tuple[Member, ...]:
    return tuple(member(name) for name in names)


def promise_of(founder: str, cluster_id: str, *names: str) -> list[object]:
    return [int(Kind.PROMISE), founder, cluster_id, rows_of(members(*names))]


def promised_to_a(*names: str) -> Facts:
    return Facts(promise=Promise("a", "x", members(*names)))


def sends(effects: list[Effect] | None) -> list[tuple[str, list[object]]]:
    return [(e.name, e.message) for e in effects or [] if isinstance(e, Send)]


def kinds(effects: list[Effect] | None) -> list[tuple[str, Kind]]:
    return [(name, Kind(int(str(message[0])))) for name, message in sends(effects)]
