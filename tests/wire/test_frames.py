"""Frames: whatever a stranger sends, the decoder gives values or says RemoteWireError."""

from __future__ import annotations

import contextlib
import os
import struct
import tracemalloc

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exkiq.errors import LocalWireError, RemoteWireError
from exkiq.machine import limits
from exkiq.wire.frames import DEPTH_MAX, ITEMS_MAX, FrameDecoder, decode_request, encode_frame
from exkiq.wire.seal import KEY_BYTES, TAG_BYTES, Seal

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


def nested(depth: int) -> object:
    value: object = None
    for _ in range(depth):
        value = [value]
    return value


@settings(max_examples=50)
@given(st.lists(VALUES, max_size=4), st.data())
def test_frames_cut_anywhere_give_the_same_values(values, data):
    """A frame that spans two reads would be lost or doubled."""
    stream = b"".join(map(encode_frame, values))
    cut = data.draw(st.integers(0, len(stream)))
    decoder = FrameDecoder()

    assert values == decoder.feed(stream[:cut]) + decoder.feed(stream[cut:])


def test_a_stream_fed_byte_by_byte():
    """A slow sender would not be understood."""
    values = [[1, "a"], {"b": b"c" * 300}, None]
    decoder = FrameDecoder()
    got = []

    for byte in b"".join(map(encode_frame, values)):
        got += decoder.feed(bytes([byte]))

    assert values == got


def test_nothing_is_left_behind_after_whole_frames():
    """The buffer would grow with every frame."""
    decoder = FrameDecoder()
    frame = encode_frame([1, b"x" * 1000])
    half = len(frame) // 2

    decoder.feed(frame[:half])
    decoder.feed(frame[half:] + frame)

    assert len(decoder._buffer) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\xff" + b"x",
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", limits.FRAME_BYTES_MAX + 1),
    ],
    ids=["2 GiB", "4 GiB", "http", "one too many"],
)
def test_a_length_over_the_limit_is_refused_at_once(data):
    """A stranger could make us wait for, and hold, two gigabytes."""
    with pytest.raises(RemoteWireError, match="limit"):
        FrameDecoder().feed(data)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x92\x01",
        b"\x01\x01",
        b"\xa1\xff",
        b"\x81\x90\x01",
        b"\xd4\x05a",
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\x7f\xff\xff\xff",
        b"\xdd" + struct.pack(">I", ITEMS_MAX + 1) + b"\xc0" * (ITEMS_MAX + 1),
    ],
    ids=[
        "empty",
        "never used",
        "cut short",
        "two values",
        "bad UTF-8",
        "list as key",
        "extension",
        "timestamp",
        "array of 4 billion",
        "text of 2 GiB",
        "too many items",
    ],
)
def test_a_body_that_is_not_plain_msgpack_is_the_peers_fault(body):
    """An odd frame would raise something nobody catches."""
    with pytest.raises(RemoteWireError):
        FrameDecoder().feed(struct.pack(">I", len(body)) + body)


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_else(data):
    """Noise on a port would stop a node."""
    decoder = FrameDecoder(bytes_max=100)
    try:
        decoder.feed(data)
        decoder.feed(struct.pack(">I", len(data) % 100) + data)
    except RemoteWireError:
        pass


def test_every_byte_of_a_frame_flipped_never_raises_anything_else():
    """A broken switch on the way would stop a node."""
    frame = encode_frame([1, {"entries": [[b"abc", 1, 2]], "term": 7, "ok": True}, [[["x"]]]])
    for position in range(len(frame)):
        for flip in (0x01, 0x80, 0xFF):
            broken = bytearray(frame)
            broken[position] ^= flip
            with contextlib.suppress(RemoteWireError):
                FrameDecoder(bytes_max=1000).feed(bytes(broken))


@pytest.mark.parametrize("depth", [DEPTH_MAX + 1, 500, 1024, 1025, 100_000])
def test_a_depth_bomb_is_refused(depth):
    """Code that recurses over a message would run out of stack."""
    body = b"\x91" * depth + b"\xc0"
    with pytest.raises(RemoteWireError):
        FrameDecoder().feed(struct.pack(">I", len(body)) + body)


def test_a_depth_bomb_of_maps_is_refused():
    """Maps nest too."""
    body = b"\x81\xa1k" * (DEPTH_MAX + 1) + b"\xc0"
    with pytest.raises(RemoteWireError, match="deeper"):
        FrameDecoder().feed(struct.pack(">I", len(body)) + body)


def bomb(total: int) -> bytes:
    """As many empty arrays as fit, in arrays that are not too long."""
    inner = b"\xdc\x10\x00" + b"\x90" * 4_096
    return b"\xdd" + struct.pack(">I", total // len(inner)) + inner * (total // len(inner))


@pytest.mark.parametrize(
    "body",
    [
        bomb(4_000_000),
        b"\xdc\x10\x01" + b"\xc0" * 4_097,
        b"\xde\x10\x01" + b"\xa2xy\xc0" * 4_097,
        b"\xdc\x00\x41" + b"\x80" * 65,
        b"\xdd\x00\x02\x00\x00" + b"\xa2xy" * 131_072,
    ],
    ids=["arrays", "items", "keys", "maps", "texts"],
)
def test_a_request_cannot_grow_in_memory(body):
    """A client's frame of 16 MiB would take a gigabyte of the node that decodes it."""
    frame = struct.pack(">I", len(body)) + body
    decoder = FrameDecoder(decode=decode_request)
    tracemalloc.start()
    try:
        with pytest.raises(RemoteWireError):
            decoder.feed(frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(frame) + 2_000_000


def test_a_request_as_clients_send_it_passes():
    """The limits would bite where they should not."""
    for request in ([1, "ping"], [2, "propose", b"x" * 2_000_000, 1000], [3, "jobs", None, {}, []]):
        assert FrameDecoder(decode=decode_request).feed(encode_frame(request)) == [request]


def test_the_deepest_allowed_value_passes():
    """The limit would bite one level too early."""
    assert [nested(DEPTH_MAX)] == FrameDecoder().feed(encode_frame(nested(DEPTH_MAX)))


def test_the_limit_can_be_changed_on_the_way():
    """After the handshake nothing larger than a hello could be sent."""
    decoder = FrameDecoder(bytes_max=10)
    frame = encode_frame(b"x" * 100)
    with pytest.raises(RemoteWireError):
        decoder.feed(frame)
    decoder = FrameDecoder(bytes_max=10)
    decoder.bytes_max = 1000

    assert decoder.feed(frame) == [b"x" * 100]


@pytest.mark.parametrize(
    "value", [{1, 2}, object(), 2**64, "\ud800"], ids=["set", "object", "int", "surrogate"]
)
def test_a_bad_message_of_ours_is_a_local_error(value):
    """Our own bug would be blamed on the peer."""
    with pytest.raises(LocalWireError):
        encode_frame([1, value])


def test_a_message_over_the_limit_of_a_frame_is_a_local_error(monkeypatch):
    """The peer would hang up on us for a frame we should not have sent."""
    monkeypatch.setattr(limits, "FRAME_BYTES_MAX", 100)

    assert len(encode_frame(b"x" * 98)) == 104
    with pytest.raises(LocalWireError, match="101 bytes, the limit is 100"):
        encode_frame(b"x" * 99)


def test_the_bytes_of_a_frame():
    """Nodes of two versions would not understand each other."""
    assert encode_frame([13, "a"]) == b"\x00\x00\x00\x04\x92\x0d\xa1a"
    assert msgpack.packb([13, "a"]) == encode_frame([13, "a"])[4:]


# ---- sealed ----------------------------------------------------------------------------------


def sealed(frames: list[bytes], key: bytes = b"k" * KEY_BYTES) -> list[bytes]:
    seal = Seal(key)
    return [frame + seal.tag(frame) for frame in frames]


def test_sealed_frames_cut_anywhere():
    """A tag that arrives after its frame would be read as the next length."""
    stream = b"".join(sealed([encode_frame([1, "a"]), encode_frame([2, "b"])]))
    for cut in range(len(stream) + 1):
        decoder = FrameDecoder(seal=Seal(b"k" * KEY_BYTES))
        assert decoder.feed(stream[:cut]) + decoder.feed(stream[cut:]) == [[1, "a"], [2, "b"]]


@pytest.mark.parametrize(
    "tamper",
    [
        lambda one, two: two + one,
        lambda one, two: two,
        lambda one, two: one + one,
        lambda one, two: one[:-1] + bytes([one[-1] ^ 1]) + two,
        lambda one, two: one[:5] + bytes([one[5] ^ 1]) + one[6:],
        lambda one, two: one[:-TAG_BYTES] + two + bytes(TAG_BYTES),
    ],
    ids=["swapped", "dropped", "repeated", "tag changed", "body changed", "tag left out"],
)
def test_a_sealed_link_takes_no_tampered_frame(tamper):
    """Somebody on the way could slip a command into an authenticated link."""
    one, two = sealed([encode_frame([1, "a"]), encode_frame([2, "b"])])
    with pytest.raises(RemoteWireError):
        FrameDecoder(seal=Seal(b"k" * KEY_BYTES)).feed(tamper(one, two))


def test_another_key_opens_nothing():
    """The tag would not depend on the secret."""
    (frame,) = sealed([encode_frame([1])], key=os.urandom(KEY_BYTES))
    with pytest.raises(RemoteWireError, match="tag"):
        FrameDecoder(seal=Seal(b"k" * KEY_BYTES)).feed(frame)
