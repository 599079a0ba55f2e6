"""Changes of members: their entries in our own encoding, who votes by them, one at a time.

The engine would pickle a node object into the log. Ours are msgpack behind the engine's type
byte, and the one place that decodes them is here.

The engine knows voters only. A new voter counts at once, though it has nothing of the log yet;
so a node enters as a non-voter, is sent the log, and is promoted when it has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgpack

from exkiq.errors import RemoteWireError
from exkiq.machine import ROLES, Member, MemberChange, MemberRole, MemberVerb

MEMBERSHIP = 2
WANTED_MAX = 100  # whoever asked and is not among them asks again


def encode_change(change: MemberChange) -> bytes:
    """A membership entry, with its type byte."""
    fields = [change.verb, change.name, change.address, change.incarnation]
    return bytes([MEMBERSHIP]) + bytes(msgpack.packb(fields))


def decode_change(command: bytes) -> MemberChange | None:
    """The change that an entry asks for, None when it is no membership entry.

    Errors: RemoteWireError for a membership entry that is not ours.
    """
    if command[:1] != bytes([MEMBERSHIP]):
        return None
    try:
        verb, name, address, incarnation = msgpack.unpackb(command[1:], raw=False)
    except (ValueError, TypeError) as error:
        raise RemoteWireError(f"a membership entry that is not ours: {error}") from error
    texts = (verb, name, address, incarnation)
    if verb not in set(MemberVerb) or not all(isinstance(text, str) for text in texts):
        raise RemoteWireError("a membership entry that is not ours")
    return MemberChange(verb, name, address, incarnation)


@dataclass(frozen=True, slots=True)
class Roles:
    """Who votes and who only follows, as of some entry in the log.

    `name` and `incarnation` are ours: what the log says of a former node of our name is not
    about us, and who believed it could elect itself by a list of members that is long over.
    """

    voters: frozenset[str] = frozenset()
    non_voters: frozenset[str] = frozenset()
    name: str = ""
    incarnation: str = ""

    def of(self, members: Iterable[Member]) -> Roles:
        """The roles of exactly these members."""
        roles = replace(self, voters=frozenset(), non_voters=frozenset())
        for member in members:
            roles = roles._with(member.name, member.incarnation, MemberRole(member.role))
        return roles

    def role(self, name: str) -> MemberRole | None:
        """Its role; None when it is no member."""
        if name in self.voters:
            return MemberRole.VOTER
        return MemberRole.NON_VOTER if name in self.non_voters else None

    def heirs_before(self, lost: str) -> int:
        """How many voters come before us when this one is gone.

        All notice at once; who asks at the same time as another gets no majority.
        """
        return sum(voter < self.name for voter in self.voters - {lost})

    def after(self, change: MemberChange) -> Roles:
        """The roles when the change is in the log."""
        _, role = ROLES[MemberVerb(change.verb)]
        return self._with(change.name, change.incarnation, role)

    def before(self, change: MemberChange) -> Roles:
        """The roles when the change is cut off the log again."""
        role, _ = ROLES[MemberVerb(change.verb)]
        return self._with(change.name, change.incarnation, role)

    def exact(self, wish: MemberChange) -> MemberChange | None:
        """The change that fulfils a wish as things stand; None when there is nothing to do.

        Shapes: "add" may promote, "remove" may dismiss; nobody is promoted who is no member.
        """
        former, _ = ROLES[MemberVerb(wish.verb)]
        role = self.role(wish.name)
        if role is former:
            return wish
        verb = _INSTEAD.get((wish.verb, role))
        return None if verb is None else replace(wish, verb=verb)

    def _with(self, name: str, incarnation: str, role: MemberRole | None) -> Roles:
        is_former_us = name == self.name and "" != incarnation != self.incarnation != ""
        if is_former_us:
            return self
        voters, non_voters, who = self.voters - {name}, self.non_voters - {name}, {name}
        if role is MemberRole.VOTER:
            voters |= who
        elif role is MemberRole.NON_VOTER:
            non_voters |= who
        return replace(self, voters=voters, non_voters=non_voters)


_INSTEAD: dict[tuple[str, MemberRole | None], str] = {
    (MemberVerb.ADD.value, MemberRole.NON_VOTER): MemberVerb.PROMOTE.value,
    (MemberVerb.REMOVE.value, MemberRole.NON_VOTER): MemberVerb.DISMISS.value,
    (MemberVerb.DISMISS.value, MemberRole.VOTER): MemberVerb.REMOVE.value,
}


def follow_changes(roles: Roles, entries: Iterable[tuple[bytes, int, int]]) -> Roles:
    """The roles after these log entries: the newest list counts, committed or not."""
    for body, _, _ in entries:
        change = decode_change(body)
        if change is not None:
            roles = roles.after(change)
    return roles


class MemberChanges:
    """What the leader was asked to change about the members.

    The next change is proposed only when the one before is applied: two at once can make two
    majorities that do not meet, and the engine's own check for that is never armed.
    """

    def __init__(self) -> None:
        self._wanted: list[MemberChange] = []
        self._in_flight: MemberChange | None = None
        self._is_told = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing was asked for that is not done."""
        return self._in_flight is None and not self._wanted

    def want(self, wish: MemberChange) -> None:
        """Ask for a change; asking again changes nothing."""
        if wish not in self._wanted and wish != self._in_flight and len(self._wanted) < WANTED_MAX:
            self._wanted.append(wish)

    def next(self) -> MemberChange | None:
        """The wish to fulfil now, if any."""
        if self._in_flight is not None or not self._wanted:
            return None
        return self._wanted.pop(0)

    def begin(self, change: MemberChange) -> None:
        """It is being proposed."""
        self._in_flight, self._is_told = change, False

    def over(self, change: MemberChange) -> None:
        """It was applied or denied."""
        if change == self._in_flight:
            self._in_flight = None

    def newly_appended(self, roles: Roles) -> MemberChange | None:
        """The change in flight, once, when the roles show it."""
        change = self._in_flight
        if change is None or self._is_told or roles.after(change) != roles:
            return None
        self._is_told = True
        return change

    def forget(self) -> None:
        """Another leader: whoever asked asks again."""
        self._wanted.clear()
        self._in_flight = None
