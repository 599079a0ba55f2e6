"""The cluster's secret, or two of them while one takes the other's place.

A secret is bytes. Text of several lines holds one secret a line: the first is spoken with, each
is accepted. A node is restarted with `old` and `new`, once all are with `new` and `old`, and
once all are with `new` alone; at no moment do two nodes refuse each other.
"""

from __future__ import annotations

SECRETS_MAX = 4  # each costs one HMAC for whoever knocks


def secrets_in(secret: bytes | None) -> tuple[bytes, ...]:
    """The one to speak with, then the others that are accepted; () for none."""
    if secret is None:
        return ()
    lines = secret.splitlines()
    is_text = all(line.isascii() and line.decode().isprintable() for line in lines)
    # random bytes may hold a newline, and are one secret all the same
    return tuple(lines) if is_text else (secret,)
