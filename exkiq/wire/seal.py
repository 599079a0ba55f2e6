"""A tag on every frame of a link whose two sides share a secret.

The handshake proves who is there; the tags go on proving it, so that nobody between the two can
slip a frame in, repeat, reorder or drop one. The content is not hidden: that needs TLS.
"""

from __future__ import annotations

import hashlib
import hmac

from exkiq.errors import RemoteWireError

TAG_BYTES = 16
KEY_BYTES = 32


class Seal:
    """Tags or checks the frames of one direction of one link, in order."""

    __slots__ = ("_count", "_keyed")

    def __init__(self, key: bytes) -> None:
        self._keyed = hashlib.blake2b(key=key, digest_size=TAG_BYTES)
        self._count = 0

    def tag(self, frame: bytes | memoryview) -> bytes:
        """The tag of the next frame; `frame` with its length prefix."""
        hashed = self._keyed.copy()
        hashed.update(self._count.to_bytes(8, "big"))
        hashed.update(frame)
        self._count += 1
        return hashed.digest()

    def check(self, frame: bytes | memoryview, tag: bytes | memoryview) -> None:
        """Accept the next frame. Errors: RemoteWireError when its tag is another."""
        if not hmac.compare_digest(self.tag(frame), bytes(tag)):
            raise RemoteWireError("a frame whose tag is wrong")
