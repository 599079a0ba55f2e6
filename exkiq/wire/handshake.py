"""The handshake as a pure machine: bytes in, bytes and a result out.

    dialer                                   acceptor
      | -- hello, nonce ----------------------> |
      | <---------------------- hello, nonce -- |
      | -- proof -----------------------------> |   the dialer proves first: a stranger who
      | <------------------------------ proof - |   calls gets nothing made with the secret

A proof is HMAC-SHA-256, keyed with the secret, over the direction and a hash of the first two
frames as they were on the wire, so over both nonces and both hellos. Without a secret both
proofs are empty. Instead of its next frame either side may send a refusal that says why; a
refusal of one founded cluster by another carries the acceptor's proof, so that the dialer knows
whom it met.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import Enum

from exkiq.errors import ClusterMismatch, ExkiqError, LocalWireError, RemoteWireError
from exkiq.wire.frames import PREFIX_BYTES, Value, decode_body, encode_frame, frame_end
from exkiq.wire.hello import PROTOCOL_VERSION, Hello
from exkiq.wire.seal import Seal
from exkiq.wire.shared_secrets import secrets_in

FRAME_BYTES_MAX = 1024  # nobody is known yet
NONCE_BYTES = 32
REFUSAL_CHARS_MAX = 200
MAGIC = "exkiq"


class Side(Enum):
    """Who opened the connection."""

    DIALER = b"dialer"
    ACCEPTOR = b"acceptor"


class _Word(Enum):
    HELLO = "hello"
    PROOF = "proof"
    REFUSED = "refused"


_WORDS = frozenset(word.value for word in _Word)


@dataclass(frozen=True, slots=True)
class Agreed:
    """Both sides are who they say. `rest` are bytes that already belong to the link."""

    peer: Hello
    rest: bytes
    outgoing: Seal | None
    incoming: Seal | None


@dataclass(frozen=True, slots=True)
class Declined:
    """No link. `peer` only if it proved the secret: then it is of another founded cluster."""

    error: ExkiqError
    peer: Hello | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What to send now, and the result once there is one."""

    send: bytes
    result: Agreed | Declined | None = None


class Handshake:
    """One side of one handshake.

    Duties: say who we are; learn who the other is; prove the secret and have it proved; refuse
    with a reason that never contains the secret. Reads nothing but its four frames.
    """

    def __init__(self, side: Side, hello: Hello, secret: bytes | None, nonce: bytes) -> None:
        if len(nonce) != NONCE_BYTES:
            raise LocalWireError(f"a nonce has {NONCE_BYTES} bytes")
        secrets = secrets_in(secret)
        if secret is not None and not (secrets and all(secrets)):
            raise LocalWireError("an empty secret protects nothing; without one, pass None")
        self.peer: Hello | None = None  # claimed, not proved, until the result is there
        self.certified: frozenset[str] | None = None  # by the peer's certificate; None: no TLS
        self._side = side
        self._own = hello
        # A dialler proves the first; an acceptor goes on with the one that was proved to it.
        self._secrets: tuple[bytes | None, ...] = secrets or (None,)
        self._secret = self._secrets[0]
        self._nonce = nonce
        self._buffer = bytearray()
        self._transcript = hashlib.sha256()
        self._proved: Hello | None = None
        self._hello_frame = _frame(_Word.HELLO, hello.fields(), nonce)
        if len(self._hello_frame) > FRAME_BYTES_MAX + PREFIX_BYTES:
            raise LocalWireError("our own hello is too long for a handshake")

    def start(self) -> bytes:
        """What to send once connected."""
        if self._side is Side.ACCEPTOR:
            return b""
        self._transcript.update(self._hello_frame)
        return self._hello_frame

    def receive(self, data: bytes) -> Step:
        """Bytes came. Not to be called again once there was a result."""
        self._buffer += data
        try:
            frame = self._take_frame()
            if frame is None:
                return Step(b"")
            step = self._answer(frame)
        except ClusterMismatch as error:
            return self._decline(error, refusal(str(error)))
        except RemoteWireError as error:
            return self._decline(error, b"")
        if step.result is None and self._buffer:
            return self._decline(RemoteWireError("a handshake that speaks out of turn"), b"")
        return step

    def _take_frame(self) -> bytes | None:
        end = frame_end(self._buffer, 0, len(self._buffer), FRAME_BYTES_MAX)
        if end == 0 or end > len(self._buffer):
            return None
        frame = bytes(self._buffer[:end])
        del self._buffer[:end]
        return frame

    def _answer(self, frame: bytes) -> Step:
        word, items = _read(frame)
        if word is _Word.REFUSED:
            return self._was_refused(items)
        if word is _Word.HELLO and self.peer is None:
            return self._on_hello(frame, items)
        if word is _Word.PROOF and self.peer is not None:
            return self._on_proof(self.peer, items)
        raise RemoteWireError(f"a handshake with {word.value} out of turn")

    def _on_hello(self, frame: bytes, items: list[Value]) -> Step:
        fields, nonce = _exactly(items, 2)
        if not isinstance(nonce, bytes) or len(nonce) != NONCE_BYTES:
            raise RemoteWireError("a handshake without a nonce")
        if nonce == self._nonce:
            raise RemoteWireError("a handshake that is our own, reflected")
        self.peer = peer = Hello.from_fields(fields)
        self._check_peer(peer)
        self._transcript.update(frame)
        if self._side is Side.DIALER:
            return Step(_frame(_Word.PROOF, self._proof(Side.DIALER, self._secret)))
        self._transcript.update(self._hello_frame)
        return Step(self._hello_frame)

    def _check_peer(self, peer: Hello) -> None:
        if self._side is Side.DIALER and not peer.is_node:
            raise RemoteWireError("a client where a node was dialled")
        if peer.is_node and self.certified is not None and peer.name not in self.certified:
            shown = ", ".join(sorted(self.certified)) or "nobody"
            raise ClusterMismatch(
                f"node {peer.name} shows a certificate for {shown}"[:REFUSAL_CHARS_MAX]
            )
        if any(not side.is_node and not side.cluster for side in (self._own, peer)):
            return
        if self._own.cluster != peer.cluster:
            raise ClusterMismatch(f"cluster {self._own.cluster!r} here, {peer.cluster!r} there")

    def _on_proof(self, peer: Hello, items: list[Value]) -> Step:
        (proof,) = _exactly(items, 1)
        self._check_proof(proof)
        self._proved = peer
        if self._side is Side.DIALER:
            self._check_cluster_id(peer)
            return self._agree(peer, b"")
        own_proof = self._proof(Side.ACCEPTOR, self._secret)
        try:
            self._check_cluster_id(peer)
        except ClusterMismatch as error:
            return self._decline(error, _frame(_Word.REFUSED, str(error), own_proof))
        return self._agree(peer, _frame(_Word.PROOF, own_proof))

    def _check_cluster_id(self, peer: Hello) -> None:
        if self._own.is_of_other_cluster(peer):
            raise ClusterMismatch(
                f"two clusters named {self._own.cluster!r}: "
                f"id {self._own.cluster_id} here, {peer.cluster_id} there"
            )

    def _check_proof(self, proof: Value) -> None:
        if not isinstance(proof, bytes):
            raise RemoteWireError("a proof that is not bytes")
        if self._secret is None:
            if proof:
                raise ClusterMismatch("no secret is set here, one is set there")
            return
        if not proof:
            raise ClusterMismatch("a secret is set here, none is set there")
        if not self._is_proof(proof):
            raise ClusterMismatch("the secrets differ")

    def _is_proof(self, proof: bytes) -> bool:
        is_dialer = self._side is Side.DIALER
        other = Side.ACCEPTOR if is_dialer else Side.DIALER
        for secret in self._secrets[:1] if is_dialer else self._secrets:
            if hmac.compare_digest(self._proof(other, secret), proof):
                self._secret = secret
                return True
        return False

    def _was_refused(self, items: list[Value]) -> Step:
        text, proof = _exactly(items, 2)
        if not isinstance(text, str) or not isinstance(proof, bytes):
            raise RemoteWireError("a refusal without a reason")
        if self.peer is not None and self._own.is_of_other_cluster(self.peer):
            self._proved = self.peer if self._is_proof(proof) else None
        reason = "".join(letter if letter.isprintable() else "?" for letter in text)
        error = ClusterMismatch(f"refused by the other side: {reason[:REFUSAL_CHARS_MAX]}")
        return self._decline(error, b"")

    def _proof(self, side: Side, secret: bytes | None) -> bytes:
        return self._keyed(b"exkiq proof of the " + side.value, secret)

    def _keyed(self, purpose: bytes, secret: bytes | None) -> bytes:
        """HMAC over the purpose and both hellos; empty without a secret."""
        if secret is None:
            return b""
        return hmac.digest(secret, purpose + self._transcript.digest(), "sha256")

    def _seal(self, side: Side) -> Seal | None:
        key = self._keyed(b"exkiq frames of the " + side.value, self._secret)
        return Seal(key) if key else None

    def _agree(self, peer: Hello, send: bytes) -> Step:
        dialer, acceptor = self._seal(Side.DIALER), self._seal(Side.ACCEPTOR)
        is_dialer = self._side is Side.DIALER
        outgoing, incoming = (dialer, acceptor) if is_dialer else (acceptor, dialer)
        return Step(send, Agreed(peer, bytes(self._buffer), outgoing, incoming))

    def _decline(self, error: ExkiqError, send: bytes) -> Step:
        return Step(send, Declined(error, self._proved))


def refusal(reason: str) -> bytes:
    """What a side sends that will not even begin."""
    return _frame(_Word.REFUSED, reason, b"")


def _frame(word: _Word, *items: object) -> bytes:
    return encode_frame([MAGIC, PROTOCOL_VERSION, word.value, *items])


def _read(frame: bytes) -> tuple[_Word, list[Value]]:
    value = decode_body(frame[PREFIX_BYTES:])
    if not isinstance(value, list) or len(value) < 3 or value[0] != MAGIC:
        raise RemoteWireError("no handshake of exkiq")
    version, word = value[1], value[2]
    if type(version) is not int:
        raise RemoteWireError("a handshake without a version")
    if version != PROTOCOL_VERSION:
        raise ClusterMismatch(f"protocol version {PROTOCOL_VERSION} here, {version} there")
    if not isinstance(word, str) or word not in _WORDS:
        raise RemoteWireError("a handshake with an unknown word")
    return _Word(word), value[3:]


def _exactly(items: list[Value], count: int) -> list[Value]:
    if len(items) != count:
        raise RemoteWireError(f"a handshake with {len(items)} items where {count} belong")
    return items
