"""Changes of members: their entries in our own encoding, one at a time.

The engine would pickle a node object into the log. Ours are msgpack behind the engine's type
byte, and the one place that decodes them is here.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgpack

from exkiq.errors import RemoteWireError
from exkiq.machine import MemberChange

MEMBERSHIP = 2


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
    if verb not in ("add", "remove") or not all(isinstance(text, str) for text in texts):
        raise RemoteWireError("a membership entry that is not ours")
    return MemberChange(verb, name, address, incarnation)


def follow_changes(names: Iterable[str], entries: Iterable[tuple[bytes, int, int]]) -> set[str]:
    """The members after these log entries: the newest list counts, committed or not."""
    members = set(names)
    for body, _, _ in entries:
        change = decode_change(body)
        if change is not None and change.verb == "add":
            members.add(change.name)
        elif change is not None:
            members.discard(change.name)
    return members


class MemberChanges:
    """What the leader was asked to change about the members.

    The next change is proposed only when the one before is applied: two at once can make two
    majorities that do not meet, and the engine's own check for that is never armed.
    """

    def __init__(self) -> None:
        self._wanted: list[MemberChange] = []
        self._in_flight: MemberChange | None = None
        self._is_told = False

    def want(self, change: MemberChange) -> None:
        """Ask for a change; asking again changes nothing."""
        if change not in self._wanted and change != self._in_flight:
            self._wanted.append(change)

    def next(self) -> MemberChange | None:
        """The change to propose now, if any; it counts as in flight."""
        if self._in_flight is not None or not self._wanted:
            return None
        self._in_flight, self._is_told = self._wanted.pop(0), False
        return self._in_flight

    def over(self, change: MemberChange) -> None:
        """It was applied, denied, or there was nothing to do."""
        if change == self._in_flight:
            self._in_flight = None

    def newly_appended(self, voters: frozenset[str]) -> MemberChange | None:
        """The change in flight, once, when the list of voters shows it."""
        change = self._in_flight
        if change is None or self._is_told or not is_done(change, voters):
            return None
        self._is_told = True
        return change

    def forget(self) -> None:
        """Another leader: whoever asked asks again."""
        self._wanted.clear()
        self._in_flight = None


def is_done(change: MemberChange, voters: frozenset[str]) -> bool:
    """Whether the voters are as the change wants them."""
    return (change.name in voters) == (change.verb == "add")
