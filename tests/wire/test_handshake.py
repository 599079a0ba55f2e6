"""The handshake, two machines and a pretend wire between them."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from itertools import count

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exkiq.errors import ClusterMismatch, LocalWireError, RemoteWireError
from exkiq.wire import handshake as handshake_module
from exkiq.wire.frames import FrameDecoder, encode_frame
from exkiq.wire.handshake import FRAME_BYTES_MAX, Agreed, Declined, Handshake, Side
from exkiq.wire.hello import TEXT_BYTES_MAX, Hello

SECRET = b"correct horse battery staple"
A = Hello("member", "a", "run-a", "life-a", "10.0.0.1:7000")
B = Hello("member", "b", "run-b", "life-b", "10.0.0.2:7000")
CLIENT = Hello("client", "c", cluster="")

_nonces = count()


def nonce() -> bytes:
    return next(_nonces).to_bytes(32, "big")


def dialer(hello: Hello = A, secret: bytes | None = SECRET) -> Handshake:
    return Handshake(Side.DIALER, hello, secret, nonce())


def acceptor(hello: Hello = B, secret: bytes | None = SECRET) -> Handshake:
    return Handshake(Side.ACCEPTOR, hello, secret, nonce())


@dataclass
class Talk:
    """What came of two machines that talked until they fell silent."""

    dialer: Agreed | Declined | None
    acceptor: Agreed | Declined | None
    wire: list[bytes]


def talk(one: Handshake, other: Handshake) -> Talk:
    result = Talk(None, None, [])
    data = one.start()
    while data:
        result.wire.append(data)
        step = other.receive(data)
        result.acceptor = result.acceptor or step.result
        result.wire.append(step.send)
        if result.dialer is not None or not step.send:
            break
        step = one.receive(step.send)
        result.dialer = result.dialer or step.result
        data = step.send
    return result


def declined(result: Agreed | Declined | None, text: str) -> None:
    assert isinstance(result, Declined)
    assert isinstance(result.error, ClusterMismatch)
    assert text in str(result.error)


@pytest.mark.parametrize("secret", [SECRET, None], ids=["secret", "none"])
def test_both_sides_learn_who_the_other_is(secret):
    """Nobody could ever link."""
    result = talk(dialer(secret=secret), acceptor(secret=secret))

    assert isinstance(result.dialer, Agreed)
    assert isinstance(result.acceptor, Agreed)
    assert (result.dialer.peer, result.acceptor.peer) == (B, A)


def test_the_seals_of_both_sides_fit():
    """Every frame after the handshake would be refused, or none checked."""
    result = talk(dialer(), acceptor())
    frame = encode_frame([1])

    for sender, receiver in ((result.dialer, result.acceptor), (result.acceptor, result.dialer)):
        sealed = frame + sender.outgoing.tag(frame)
        assert FrameDecoder(seal=receiver.incoming).feed(sealed) == [[1]]
    assert result.dialer.outgoing.tag(frame) != result.dialer.incoming.tag(frame)


def test_without_a_secret_nothing_is_sealed():
    """A link on loopback would pay for tags that prove nothing."""
    result = talk(dialer(secret=None), acceptor(secret=None))

    assert result.dialer.outgoing is None
    assert result.acceptor.incoming is None


@pytest.mark.parametrize(
    ("ours", "theirs", "text"),
    [
        (b"other", SECRET, "the secrets differ"),
        (None, SECRET, "a secret is set here, none is set there"),
        (SECRET, None, "no secret is set here, one is set there"),
    ],
)
def test_another_secret_is_refused_on_both_sides_and_said(ours, theirs, text):
    """A stranger would become a member, or the operator would not learn why it does not."""
    result = talk(dialer(secret=ours), acceptor(secret=theirs))

    declined(result.acceptor, text)
    declined(result.dialer, f"refused by the other side: {text}")


def test_an_acceptor_that_cannot_prove_the_secret_is_refused():
    """A host that took over an address would be believed."""
    one, fake = dialer(), acceptor(secret=b"guessed")
    hello = fake.receive(one.start()).send
    step = one.receive(hello)
    assert step.result is None

    step = one.receive(encode_frame(["exkiq", 1, "proof", b"x" * 32]))

    declined(step.result, "the secrets differ")


def test_another_cluster_name_is_refused_on_both_sides_and_said():
    """Two clusters on one network would mix."""
    result = talk(dialer(), acceptor(replace(B, cluster="staging")))

    declined(result.acceptor, "cluster 'staging' here, 'default' there")
    declined(result.dialer, "cluster 'staging' here, 'default' there")
    assert result.acceptor.peer is None


def test_another_cluster_id_is_refused_on_both_sides_after_the_proof():
    """Two founded clusters of one name would merge, or nobody would be told who was met."""
    ours, theirs = replace(A, cluster_id="id-a"), replace(B, cluster_id="id-b")
    result = talk(dialer(ours), acceptor(theirs))

    declined(result.acceptor, "id id-b here, id-a there")
    declined(result.dialer, "id id-b here, id-a there")
    assert (theirs, ours) == (result.dialer.peer, result.acceptor.peer)


def test_a_refusal_by_cluster_id_without_the_proof_names_nobody():
    """A stranger without the secret could make a node believe that it met another cluster."""
    one, other = dialer(replace(A, cluster_id="id-a")), acceptor(replace(B, cluster_id="id-b"))
    one.receive(other.receive(one.start()).send)

    step = one.receive(encode_frame(["exkiq", 1, "refused", "id id-b here, id-a there", b"x" * 32]))

    assert step.result.peer is None


@pytest.mark.parametrize(("ours", "theirs"), [("", "id"), ("id", ""), ("id", "id"), ("", "")])
def test_a_fresh_node_and_a_founded_one_may_talk(ours, theirs):
    """Nobody could join."""
    result = talk(dialer(replace(A, cluster_id=ours)), acceptor(replace(B, cluster_id=theirs)))

    assert isinstance(result.dialer, Agreed)
    assert isinstance(result.acceptor, Agreed)


def test_a_client_may_leave_the_cluster_open_but_not_name_another():
    """A client with nothing but an address could not connect."""
    assert isinstance(talk(dialer(CLIENT), acceptor()).acceptor, Agreed)
    declined(talk(dialer(replace(CLIENT, cluster="x")), acceptor()).acceptor, "there")


def test_a_node_cannot_leave_the_cluster_open():
    """A node would join whatever answers."""
    declined(talk(dialer(replace(A, cluster="")), acceptor()).acceptor, "cluster 'default' here")


def test_another_version_is_refused_and_said(monkeypatch):
    """A rolling upgrade would fail with a riddle."""
    one = dialer()
    monkeypatch.setattr(handshake_module, "PROTOCOL_VERSION", 2)
    step = acceptor().receive(one.start())

    declined(step.result, "protocol version 2 here, 1 there")
    assert b"protocol version 2 here, 1 there" in step.send


def test_a_proof_reflected_is_refused():
    """Whoever sends our own frames back to us would pass for a member."""
    one = dialer()
    step = one.receive(one.start())
    assert isinstance(step.result, Declined)
    assert "reflected" in str(step.result.error)

    # With a nonce of its own, but our proof.
    one, fake = dialer(), acceptor()
    proof = one.receive(fake.receive(one.start()).send).send
    declined(one.receive(proof).result, "the secrets differ")


def test_a_proof_replayed_is_refused():
    """Whoever once listened would pass for a member ever after."""
    recorded = talk(dialer(), acceptor()).wire
    again = acceptor()
    step = again.receive(recorded[0])
    assert step.result is None

    step = again.receive(recorded[2])

    declined(step.result, "the secrets differ")


def test_a_hello_changed_on_the_way_is_refused():
    """Somebody on the way could rename a node."""
    one, other = dialer(), acceptor()
    changed = other.receive(one.start()).send.replace(b"10.0.0.2", b"10.0.0.9")
    proof = one.receive(changed).send

    declined(other.receive(proof).result, "the secrets differ")


def test_the_dialer_proves_first_and_a_stranger_gets_nothing_made_with_the_secret():
    """A stranger could collect material to guess the secret from."""
    other = acceptor()
    one = dialer(secret=b"guess")
    first = other.receive(one.start())
    second = other.receive(one.receive(first.send).send)

    assert b"proof" not in first.send + second.send
    *_, proof = msgpack.unpackb(second.send[4:])
    assert proof == b""


@pytest.mark.parametrize("theirs", [SECRET, b"another secret that is wrong", None])
def test_the_secret_is_never_on_the_wire(theirs):
    """Whoever listens would have it, plain or hashed."""
    result = talk(dialer(), acceptor(secret=theirs))
    wire = b"".join(result.wire)

    for leak in (SECRET, hashlib.sha256(SECRET).digest(), hashlib.md5(SECRET).digest()):  # noqa: S324
        assert leak not in wire
        assert leak.hex().encode() not in wire
    assert SECRET.decode() not in str(result)


def test_a_proof_is_what_the_documentation_says():
    """Another implementation of the protocol would not fit."""
    result = talk(dialer(), acceptor())
    transcript = hashlib.sha256(result.wire[0] + result.wire[1]).digest()
    expected = hmac.digest(SECRET, b"exkiq proof of the dialer" + transcript, "sha256")

    assert ["exkiq", 1, "proof", expected] == msgpack.unpackb(result.wire[2][4:])


@pytest.mark.parametrize("secret", [SECRET, None])
def test_a_handshake_fed_byte_by_byte(secret):
    """A slow network would break every handshake."""
    one, other = dialer(secret=secret), acceptor(secret=secret)

    def slowly(machine: Handshake, data: bytes):
        for position in range(len(data)):
            step = machine.receive(data[position : position + 1])
            if position < len(data) - 1:
                assert (step.send, step.result) == (b"", None)
        return step

    hello = slowly(other, one.start()).send
    last = slowly(other, slowly(one, hello).send)
    assert isinstance(last.result, Agreed)
    assert isinstance(slowly(one, last.send).result, Agreed)


def test_what_follows_the_last_frame_belongs_to_the_link():
    """The first message of a fast peer would be lost."""
    one, other = dialer(), acceptor()
    proof = one.receive(other.receive(one.start()).send).send
    last = other.receive(proof)

    step = one.receive(last.send + b"more")

    assert isinstance(step.result, Agreed)
    assert step.result.rest == b"more"


def is_hung_up(machine: Handshake, data: bytes) -> bool:
    step = machine.receive(data)
    assert step.send == b""
    return isinstance(step.result, Declined) and isinstance(step.result.error, RemoteWireError)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00\x04\x01",
        b"\x7f\xff\xff\xff",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        encode_frame(None),
        encode_frame([]),
        encode_frame(["exkiq", "1", "hello"]),
        encode_frame(["redis", 1, "hello", {}, b""]),
        encode_frame(["exkiq", 1, ["hello"], {}, b""]),
        encode_frame(["exkiq", 1, "howdy", {}, b""]),
        encode_frame(["exkiq", 1, "hello", {}, b"n" * 32]),
        encode_frame(["exkiq", 1, "hello", A.fields(), b"short"]),
        encode_frame(["exkiq", 1, "hello", A.fields(), "n" * 32]),
        encode_frame(["exkiq", 1, "hello", A.fields()]),
        encode_frame(["exkiq", 1, "hello", A.fields() | {"name": ""}, b"n" * 32]),
        encode_frame(["exkiq", 1, "hello", A.fields() | {"name": 1}, b"n" * 32]),
        encode_frame(["exkiq", 1, "hello", A.fields() | {"name": "x\n1 INFO all well"}, b"n" * 32]),
        encode_frame(["exkiq", 1, "hello", A.fields() | {"name": "x" * 129}, b"n" * 32]),
        encode_frame(["exkiq", 1, "hello", A.fields() | {"role": "readonly"}, b"n" * 32]),
        encode_frame(["exkiq", 1, "proof", b"x" * 32]),
        encode_frame(["exkiq", 1, "refused", b"x", b""]),
        encode_frame(["exkiq", 1, "hello", A.fields(), b"n" * 32]) + b"x",
    ],
    ids=lambda data: repr(data)[:40],
)
def test_a_stranger_who_is_no_node_is_hung_up_on_without_a_word(data):
    """Noise would cost an answer, or raise."""
    assert is_hung_up(acceptor(), data)


@given(st.binary(max_size=1100))
def test_random_bytes_agree_to_nothing(data):
    """Noise would raise, or worse, agree."""
    for machine in (dialer(), acceptor(secret=None)):
        step = machine.receive(len(data).to_bytes(4, "big") + data)
        assert not isinstance(step.result, Agreed)


def test_a_second_hello_is_out_of_turn():
    """The identity could be changed after the proof was made."""
    other = acceptor()
    hello = dialer().start()
    other.receive(hello)
    assert is_hung_up(other, dialer().start())


def test_a_client_is_not_taken_for_a_node():
    """A mesh would link to somebody who is no node."""
    one = dialer()
    fake = Handshake(Side.DIALER, CLIENT, SECRET, nonce())
    assert is_hung_up(one, fake.start())


def test_a_refusal_cannot_forge_a_log_line():
    """A stranger could write what it likes into the log."""
    step = dialer().receive(
        encode_frame(["exkiq", 1, "refused", "x\n1 INFO \x1b[2J" + "y" * 500, b""])
    )

    text = str(step.result.error)
    assert text.isprintable()
    assert len(text) < 300


def test_the_longest_hello_fits_and_a_longer_one_is_our_fault():
    """A node with long names could not link, and would not learn why."""
    texts = {field: "x" * size for field, size in TEXT_BYTES_MAX.items()} | {"role": "member"}
    longest = Hello.from_fields(texts | {"schema": 2**31})
    frame = Handshake(Side.DIALER, longest, SECRET, nonce()).start()
    assert len(frame) <= FRAME_BYTES_MAX
    assert talk(dialer(longest), acceptor(replace(B, cluster="x" * 128))).acceptor.peer == longest

    with pytest.raises(LocalWireError, match="too long"):
        dialer(replace(longest, address="x" * 600))


def test_a_nonce_of_the_wrong_size_and_an_empty_secret_are_our_fault():
    """A short nonce would make proofs guessable; an empty secret protects nothing."""
    with pytest.raises(LocalWireError):
        Handshake(Side.DIALER, A, SECRET, b"short")
    with pytest.raises(LocalWireError):
        Handshake(Side.DIALER, A, b"", nonce())


def test_a_run_is_known_by_name_life_and_process():
    """A node that was started again would be taken for the process that died."""
    assert Hello("member", "a", "r", "i").is_same_run(Hello("fresh", "a", "r", "i", "x:1"))
    assert not Hello("member", "a", "r", "i").is_same_run(Hello("member", "a", "r2", "i"))
