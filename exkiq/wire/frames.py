"""Frames: four bytes of length, big-endian, then one msgpack value.

On a sealed link each frame is followed by its tag (see `seal`), so that a frame is encoded
once and sent to many links. The decoder believes nothing: a length over the limit is refused
before a byte of the body is kept, and whatever msgpack chokes on is the peer's fault.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TypeAlias

import msgpack

from exkiq.errors import LocalWireError, RemoteWireError
from exkiq.machine import limits
from exkiq.wire.seal import TAG_BYTES, Seal

Value: TypeAlias = "bool | int | float | str | bytes | list[Value] | dict[Value, Value] | None"

Bytes: TypeAlias = bytes | bytearray | memoryview

PREFIX_BYTES = 4
DEPTH_MAX = 32  # our deepest message is 6; readers may recurse over what arrives
ITEMS_MAX = 131_072  # of one array or map: msgpack reserves memory for what a header claims

# A request is a list of plain values, with bytes for whatever is large. An array of empty arrays
# takes sixty times its size in memory, and a client is trusted less than a node.
REQUEST_ITEMS_MAX = 4_096  # of one array or map
REQUEST_CONTAINERS_MAX = 64

_PREFIX = Struct(">I")
_CONTAINERS = frozenset((list, dict))


def encode_frame(value: object) -> bytes:
    """One value as a frame. Errors: LocalWireError when it cannot be one, a bug of ours."""
    try:
        body: bytes = msgpack.packb(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise LocalWireError(f"a message that msgpack cannot carry: {error}") from error
    if len(body) > limits.FRAME_BYTES_MAX:
        raise LocalWireError(
            f"a message of {len(body)} bytes, the limit is {limits.FRAME_BYTES_MAX}"
        )
    return _PREFIX.pack(len(body)) + body


def decode_body(body: Bytes) -> Value:
    """The value of one frame. Errors: RemoteWireError."""
    return _decoded(body, items_max=ITEMS_MAX)


def decode_request(body: Bytes) -> Value:
    """As `decode_body`, within the limits of what a client may ask. Errors: RemoteWireError."""
    count = _Count(REQUEST_CONTAINERS_MAX)
    return _decoded(body, items_max=REQUEST_ITEMS_MAX, list_hook=count, object_hook=count)


class _Count:
    """Called for each array and map while they are decoded."""

    __slots__ = ("_rest",)

    def __init__(self, rest: int) -> None:
        self._rest = rest

    def __call__(self, container: object) -> object:
        self._rest -= 1
        if self._rest < 0:
            raise ValueError("too many arrays and maps")
        return container


def _decoded(body: Bytes, *, items_max: int, **hooks: _Count) -> Value:
    try:
        value: Value = msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=False,
            max_array_len=items_max,
            max_map_len=items_max,
            max_ext_len=0,
            **hooks,
        )
    except (ValueError, TypeError, OverflowError, msgpack.exceptions.UnpackException) as error:
        raise RemoteWireError(f"a body that is not msgpack: {error!r:.200}") from error
    if type(value) in _CONTAINERS and _is_too_deep(value):
        raise RemoteWireError(f"a value nested deeper than {DEPTH_MAX}")
    return value


def frame_end(source: Bytes, start: int, available: int, bytes_max: int) -> int:
    """Where the body ends of the frame that begins at `start`; 0 while its length is not here.

    Errors: RemoteWireError for a length over `bytes_max`.
    """
    if available - start < PREFIX_BYTES:
        return 0
    (size,) = _PREFIX.unpack_from(source, start)
    if size > bytes_max:
        raise RemoteWireError(f"a frame of {size} bytes, the limit is {bytes_max}")
    return start + PREFIX_BYTES + int(size)


class FrameDecoder:
    """Cuts a stream of bytes into values.

    Duties: keep at most one unfinished frame; refuse lengths over `bytes_max` (it may be set
    anew at any time); check the tag of each frame when there is a seal.
    """

    __slots__ = ("_buffer", "_decode", "_seal", "bytes_max")

    def __init__(
        self,
        bytes_max: int = limits.FRAME_BYTES_MAX,
        seal: Seal | None = None,
        decode: Callable[[Bytes], Value] = decode_body,
    ) -> None:
        self.bytes_max = bytes_max
        self._seal = seal
        self._decode = decode
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Value]:
        """The values completed by `data`. Errors: RemoteWireError; of no use afterwards."""
        buffer = self._buffer
        if not buffer:
            values, used = self._cut(data)
            buffer += memoryview(data)[used:]
            return values
        buffer += data
        values, used = self._cut(buffer)
        del buffer[:used]
        return values

    def _cut(self, source: bytes | bytearray) -> tuple[list[Value], int]:
        values: list[Value] = []
        available, used = len(source), 0
        tag_bytes = TAG_BYTES if self._seal is not None else 0
        with memoryview(source) as view:
            while True:
                end = frame_end(source, used, available, self.bytes_max)
                if end == 0 or end + tag_bytes > available:
                    return values, used
                if self._seal is not None:
                    self._seal.check(view[used:end], view[end : end + tag_bytes])
                values.append(self._decode(view[used + PREFIX_BYTES : end]))
                used = end + tag_bytes


def _is_too_deep(value: Value) -> bool:
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)  # type: ignore[union-attr]
            if type(child) in _CONTAINERS
        ]
        if not level:
            return False
    return True
