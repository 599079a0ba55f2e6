"""Somebody on the way who listens, keeps, changes and sends again: nothing of it is accepted."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exkiq.errors import ClusterMismatch, RemoteWireError
from exkiq.wire.frames import FrameDecoder, encode_frame
from exkiq.wire.handshake import Agreed, Declined, Handshake, Side
from exkiq.wire.hello import TEXT_BYTES_MAX, Hello
from exkiq.wire.seal import TAG_BYTES

SECRET = b"correct horse battery staple, 32"
OLD, NEW = b"o" * 32, b"n" * 32
A = Hello("member", "a", "run-a", "life-a", "10.0.0.1:7000", cluster_id="id")
B = Hello("member", "b", "run-b", "life-b", "10.0.0.2:7000", cluster_id="id")
CLIENT = Hello("client", "c", "run-c")

_nonces = count()


def machine(side: Side, hello: Hello, secret: bytes | None = SECRET) -> Handshake:
    return Handshake(side, hello, secret, next(_nonces).to_bytes(32, "big"))


class Session:
    """A session between two nodes, and what each of them put on the wire, frame by frame."""

    def __init__(self, one: Hello = A, other: Hello = B, *, secrets=(SECRET, SECRET)) -> None:
        dialer = machine(Side.DIALER, one, secrets[0])
        acceptor = machine(Side.ACCEPTOR, other, secrets[1])
        hello = dialer.start()
        answer = acceptor.receive(hello).send
        proof = dialer.receive(answer).send
        last = acceptor.receive(proof)
        first = dialer.receive(last.send).result
        assert isinstance(first, Agreed)
        assert isinstance(last.result, Agreed)
        self.dialer, self.acceptor = first, last.result
        self.handshake_there, self.handshake_back = [hello, proof], [answer, last.send]
        self.there = [self._sealed(self.dialer, number) for number in range(5)]
        self.back = [self._sealed(self.acceptor, number) for number in range(5)]

    def _sealed(self, side: Agreed, number: int) -> bytes:
        frame = encode_frame([number + 1, "frame", number])
        return frame + side.outgoing.tag(frame)


def accepted(side: Agreed, frames: list[bytes]) -> int:
    """How many of the frames a link hands on before it closes."""
    decoder = FrameDecoder(seal=side.incoming)
    taken = 0
    try:
        for frame in frames:
            taken += len(decoder.feed(frame))
    except RemoteWireError:
        pass
    return taken


def is_agreed(side: Handshake, frames: list[bytes]) -> bool:
    """Whether one side ends up with a link, given only what was recorded."""
    side.start()
    for frame in frames:
        result = side.receive(frame).result
        if result is not None:
            return isinstance(result, Agreed)
    return False


def test_an_honest_session_is_accepted_whole():
    """All that follows would pass if nothing were ever accepted."""
    session = Session()
    assert accepted(session.acceptor, session.there) == 5
    assert accepted(session.dialer, session.back) == 5


def test_a_recorded_session_replayed_whole_is_refused_in_its_handshake():
    """Whoever once listened could enqueue every job again, or vote again."""
    session = Session()
    there, back = session.handshake_there, session.handshake_back
    assert not is_agreed(machine(Side.ACCEPTOR, B), there)
    assert not is_agreed(machine(Side.ACCEPTOR, B), [*there, *session.there])
    assert not is_agreed(machine(Side.DIALER, A), back)
    assert not is_agreed(machine(Side.DIALER, A), [*back, *session.back])


def test_a_recorded_session_reflected_is_refused_in_its_handshake():
    """A node could be made to talk to itself, and believe that it is a majority."""
    session = Session()
    assert not is_agreed(machine(Side.ACCEPTOR, A), session.handshake_back)
    assert not is_agreed(machine(Side.DIALER, B), session.handshake_there)
    live = machine(Side.DIALER, A)
    assert isinstance(live.receive(live.start()).result, Declined)


@pytest.mark.parametrize("repeated", range(5))
def test_a_frame_repeated_closes_the_link(repeated):
    """A command could be done twice."""
    session = Session()
    frames = [*session.there[: repeated + 1], session.there[repeated], *session.there]
    assert accepted(session.acceptor, frames) == repeated + 1


@pytest.mark.parametrize("left_out", range(4))
def test_a_frame_left_out_closes_the_link(left_out):
    """Messages could be chosen by somebody on the way."""
    session = Session()
    frames = session.there[:left_out] + session.there[left_out + 1 :]
    assert accepted(session.acceptor, frames) == left_out


def test_frames_in_another_order_close_the_link():
    """The same with their order."""
    session = Session()
    one, two, *rest = session.there
    assert accepted(session.acceptor, [two, one, *rest]) == 0


def test_frames_of_the_other_direction_are_refused():
    """What a node said could be said to it."""
    session = Session()
    assert accepted(session.acceptor, session.back) == 0
    assert accepted(session.dialer, session.there) == 0


def test_frames_of_another_link_of_the_same_two_are_refused():
    """What was sent before a reconnect could be sent again after it."""
    old = Session()
    for frames in (old.there, old.back):
        assert accepted(Session().acceptor, frames) == 0
        assert accepted(Session().dialer, frames) == 0
    new = Session()
    assert accepted(new.acceptor, [*new.there[:2], *old.there[2:]]) == 2


def test_a_tag_says_nothing_about_the_next_frame():
    """A stranger could continue where a node stopped."""
    for known in (0, 4):
        session = Session()
        forged = encode_frame([9, "more"]) + session.there[known][-TAG_BYTES:]
        assert accepted(session.acceptor, [*session.there, forged]) == 5


def test_the_proof_covers_everything_both_sides_said():
    """Somebody on the way could change a name, a life, an address, a cluster or a role."""
    for field in TEXT_BYTES_MAX:
        changed = "fresh" if field == "role" else "x"
        other = replace(B, **{field: changed, "cluster": "default"})
        if other == B:
            other = replace(B, cluster_id="")
        dialer, acceptor = machine(Side.DIALER, A), machine(Side.ACCEPTOR, B)
        acceptor.receive(dialer.start())
        liar = Handshake(Side.ACCEPTOR, other, SECRET, acceptor._nonce)
        step = dialer.receive(liar.receive(dialer._hello_frame).send)
        proved = acceptor.receive(step.send).result
        assert isinstance(proved, Declined), field
        assert isinstance(proved.error, ClusterMismatch)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_handshake_never_agrees(data):
    """One mutated handshake in millions would let a stranger in."""
    session = Session()
    frames = list(session.handshake_there)
    which = data.draw(st.integers(0, 1))
    frame = bytearray(frames[which])
    where = data.draw(st.integers(0, len(frame) - 1))
    frame[where] ^= data.draw(st.integers(1, 255))
    frames[which] = bytes(frame)
    acceptor = machine(Side.ACCEPTOR, B)
    acceptor._nonce = b""  # not even if our nonce were one that was used before
    assert not is_agreed(acceptor, frames)


# ---- two secrets, while one takes the other's place --------------------------------------------


@pytest.mark.parametrize(
    ("dials", "accepts"),
    [
        (OLD, OLD + b"\n" + NEW),
        (OLD + b"\n" + NEW, OLD),
        (OLD + b"\n" + NEW, NEW + b"\n" + OLD),
        (NEW + b"\n" + OLD, OLD + b"\n" + NEW),
        (NEW, NEW + b"\n" + OLD),
        (NEW + b"\n" + OLD, NEW),
        (OLD + b"\n" + NEW + b"\n", OLD + b"\r\n" + NEW),
    ],
)
def test_at_each_step_of_a_rotation_nodes_link(dials, accepts):
    """A secret could only be changed by stopping the whole cluster."""
    session = Session(secrets=(dials, accepts))
    assert accepted(session.acceptor, session.there) == 5
    assert accepted(session.dialer, session.back) == 5


@pytest.mark.parametrize(
    ("dials", "accepts"), [(OLD, NEW), (OLD + b"\n" + NEW, NEW), (b"x" * 32, OLD + b"\n" + NEW)]
)
def test_a_secret_that_the_other_side_has_not_is_refused(dials, accepts):
    """Accepting several could accept any."""
    dialer, acceptor = machine(Side.DIALER, A, dials), machine(Side.ACCEPTOR, B, accepts)
    proof = dialer.receive(acceptor.receive(dialer.start()).send).send
    result = acceptor.receive(proof).result
    assert isinstance(result, Declined)
    assert "the secrets differ" in str(result.error)


# ---- what a certificate proves -----------------------------------------------------------------


@pytest.mark.parametrize("side", Side)
def test_a_node_must_have_the_name_of_its_certificate(side):
    """With any certificate of the CA one could be every member."""
    hello = {Side.DIALER: B, Side.ACCEPTOR: A}[side]
    for names, is_right in (({"c"}, False), (set(), False), ({"c", hello.name}, True)):
        ours, theirs = machine(side, replace(hello, name="me")), Side.ACCEPTOR
        ours.certified = frozenset(names)
        if side is Side.ACCEPTOR:
            step = ours.receive(machine(Side.DIALER, hello).start())
        else:
            step = ours.receive(machine(theirs, hello).receive(ours.start()).send)
        assert (step.result is None) == is_right
        assert is_right or b"shows a certificate for" in step.send


def test_a_client_needs_no_name():
    """Every program that enqueues would need a certificate of its own."""
    acceptor = machine(Side.ACCEPTOR, A)
    acceptor.certified = frozenset({"client client"})
    assert acceptor.receive(machine(Side.DIALER, CLIENT).start()).result is None


def test_noise_of_any_size_agrees_to_nothing():
    """Random handshakes by the thousand; seeds are fixed, so that a failure can be repeated."""
    chance = random.Random(5)
    words = [b"hello", b"proof", b"refused"]
    for _ in range(2_000):
        body = encode_frame(
            ["exkiq", 1, chance.choice(words).decode(), chance.randbytes(chance.randrange(64))]
        )
        noise = chance.choice([body, chance.randbytes(chance.randrange(1, 1100))])
        for side in Side:
            assert not isinstance(machine(side, A).receive(noise).result, Agreed)
