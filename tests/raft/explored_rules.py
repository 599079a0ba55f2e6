"""What must hold in every state of the search, by the Raft paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from tests.raft.explored_member import Lifted, type_entry


class Broken(Exception):
    """A rule does not hold."""


@dataclass(frozen=True, slots=True)
class Past:
    """What was true once and may never become untrue: part of the state that is searched."""

    leaders: tuple[tuple[int, str], ...] = ()  # (term, name)
    committed: tuple[tuple[int, bytes, int], ...] = ()  # (term, body, term it was committed in)


def judged(
    past: Past, members: dict[str, Lifted], before: dict[str, Lifted], restarted: str | None
) -> Past:
    """The past after this state. Errors: Broken."""
    for name, member in members.items():
        if member.fault is not None:
            raise Broken(f"{name} stopped: {member.fault}")
        if member is not before[name]:
            if name != restarted and member.commit_index < before[name].commit_index:
                raise Broken(f"the commit index of {name} went back")
            past = _led(past, name, member)
            past = _committed(past, name, member, member.commit_index)
    _logs_match(list(members.values()))
    _on_majority(past, list(members.values()))
    return past


def acknowledged(past: Past, dying: Lifted) -> Past:
    """The past with what a member had applied, and told of, when its power failed."""
    return _committed(
        past, "who lost its power", dying, max((i for i, _ in dying.applied), default=0)
    )


def entry_at(log: Sequence[type_entry], index: int) -> type_entry | None:
    """The entry there; None when it is not in the log."""
    position = index - log[0][1] if log else -1
    return log[position] if 0 <= position < len(log) else None


def _covers(log: Sequence[type_entry], index: int) -> bool:
    """Whether it was compacted away, which only happens to what is committed."""
    return bool(log) and index < log[0][1]


def _led(past: Past, name: str, member: Lifted) -> Past:
    if not member.is_leader or (member.term, name) in past.leaders:
        return past
    if any(term == member.term for term, _ in past.leaders):
        raise Broken(f"two leaders in term {member.term}")
    for index, (term, body, committed_in) in enumerate(past.committed, 1):
        if committed_in < member.term and not _covers(member.log, index):
            found = entry_at(member.log, index)
            if found is None or (found[2], found[0]) != (term, body):
                raise Broken(f"{name} leads in term {member.term} without committed entry {index}")
    return Past((*past.leaders, (member.term, name)), past.committed)


def _committed(past: Past, name: str, member: Lifted, commit_index: int) -> Past:
    committed = list(past.committed)
    for index in range(1, commit_index + 1):
        found = entry_at(member.log, index)
        if found is None:
            if not _covers(member.log, index):
                raise Broken(f"{name} has committed entry {index}, which it does not have")
        elif index > len(committed):
            committed.append((found[2], found[0], member.term))
        elif (found[2], found[0]) != committed[index - 1][:2]:
            raise Broken(f"{name} has committed another entry {index}")
    for index, body in member.applied:
        if index > len(committed) or committed[index - 1][1] != body:
            raise Broken(f"{name} has applied another entry {index}")
    if len(committed) == len(past.committed):
        return past
    return Past(past.leaders, tuple(committed))


def _logs_match(members: list[Lifted]) -> None:
    for one, other in combinations(members, 2):
        if one.log and other.log and one.log != other.log:
            _pair_matches(one.log, other.log)


def _pair_matches(one: Sequence[type_entry], other: Sequence[type_entry]) -> None:
    agreed = False
    low, high = max(one[0][1], other[0][1]), min(one[-1][1], other[-1][1])
    for index in range(high, low - 1, -1):
        mine, theirs = entry_at(one, index), entry_at(other, index)
        agreed = agreed or (mine is not None and theirs is not None and mine[2] == theirs[2])
        if agreed and mine != theirs:
            raise Broken(f"two logs agree later and differ at {index}")


def _on_majority(past: Past, members: list[Lifted]) -> None:
    for index, (term, body, _) in enumerate(past.committed, 1):
        if index == 1:
            continue  # every log begins with it
        count = 0
        for member in members:
            found = entry_at(member.disk.entries, index)
            holds = found is not None and (found[2], found[0]) == (term, body)
            count += holds or _covers(member.disk.entries, index)
        if count * 2 <= len(members):
            raise Broken(f"committed entry {index} is on {count} of {len(members)} disks")
