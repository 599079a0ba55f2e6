"""Membership entries in our own encoding.

The engine would pickle a node object into the log. Ours are msgpack behind the engine's type
byte, and the one place that decodes them is here.
"""

from __future__ import annotations

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
