"""What is fuzzed: each target takes any bytes and raises only when a promise is broken.

    frames        the decoder, cut in pieces, with and without a seal
    handshake     both sides: noise never agrees to anything where there is a secret
    messages      the shapes of all messages, the engine's among them
    operations    entries of the log: `apply` never raises, and replicas agree
    snapshot      files and transfers with right checksums and any content
    journal       a file of the journal: what is read is what was written, or DataError
    announcement  what is heard by multicast DNS

`seeds` gives each its first inputs.
"""

from __future__ import annotations

import hashlib
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from zeroconf.asyncio import AsyncServiceInfo

from exkiq.discovery.mdns import SERVICE, make_tag, sightings_of
from exkiq.errors import DataError, RemoteWireError
from exkiq.machine import Machine, Spec, check_invariants, check_op, commands
from exkiq.machine.schema import SCHEMA
from exkiq.raft import high_water, snapshot_file
from exkiq.raft.journal import Journal
from exkiq.raft.messages import from_wire
from exkiq.wire.frames import FrameDecoder, decode_body, decode_request, encode_frame
from exkiq.wire.handshake import FRAME_BYTES_MAX, Agreed, Handshake, Side
from exkiq.wire.hello import Hello
from exkiq.wire.messages import Kind, check, check_answer, check_request
from exkiq.wire.seal import Seal

SECRET, NONCE, PID = b"s" * 32, b"n" * 32, b"p" * 12
NODE = Hello("member", "n1", "run", "life", "127.0.0.1:7000", "default", "id")
SPEC = Spec("m:t", "mail", 0, 5, 600_000, 3, 0)
NOW_MS, TERM = 1_800_000_000_000, 3


class Broken(Exception):
    """A promise was broken."""


def frames(data: bytes) -> None:
    """The first byte says how the rest is cut."""
    size = data[0] + 1 if data else 1
    for seal in (None, Seal(b"k" * 32)):
        decoder = FrameDecoder(4_096, seal)
        try:
            for start in range(1, len(data), size):
                if decoder.feed(data[start : start + size]) and seal is not None:
                    raise Broken("a frame was taken without its tag")
        except RemoteWireError:
            pass
        if len(decoder._buffer) > 4_096 + 4 + 16 + 256:
            raise Broken("the decoder keeps more than one frame")


def handshake(data: bytes) -> None:
    """The first byte says how the rest is cut, and who is asked."""
    size = data[0] // 2 + 1 if data else 1
    side = Side.DIALER if data and data[0] % 2 else Side.ACCEPTOR
    machine = Handshake(side, NODE, SECRET, NONCE)
    machine.certified = frozenset({"n2"}) if size % 3 else None
    machine.start()
    for start in range(1, len(data), size):
        step = machine.receive(data[start : start + size])
        if isinstance(step.result, Agreed):
            raise Broken("agreed without the secret")
        if SECRET in step.send or len(step.send) > FRAME_BYTES_MAX + 4:
            raise Broken("an answer that cannot be")
        if step.result is not None:
            return


def messages(data: bytes) -> None:
    """One body, as a message of every kind of sender."""
    for judge in (check, check_request, check_answer, _as_engine_message):
        with suppress(RemoteWireError):
            judge(decode_request(data) if judge is check_request else decode_body(data))


def _as_engine_message(value: object) -> None:
    from_wire(value)


def _machine() -> Machine:
    machine = Machine()
    ops = [
        commands.found(PID, "id"),
        commands.session_begin(b"q" * 12, "n1", "run", "h:1"),
        commands.enqueue(b"r" * 12, SPEC, ["a", "b"], [b"\x92\x90\x80"] * 2),
        commands.claim(b"t" * 12, [("n1", 1, ["a"])]),
        commands.enqueue(b"u" * 12, SPEC._replace(task="m:u"), ["c"], [b""]),
        commands.park(b"v" * 12, "m:u", ["c"]),
        commands.session_start(b"w" * 12, SPEC, "s", b"x"),
    ]
    machine.apply(1, commands.encode_entry(NOW_MS, TERM, ops))
    return machine


def operations(data: bytes) -> None:
    """An entry of any bytes, and one with the bytes as its operation, on two replicas."""
    check_op(data)
    entries = [data, commands.encode_entry(NOW_MS + 1, TERM, [data])]
    hashes = set()
    for _ in range(2):
        machine = _machine()
        for index, entry in enumerate(entries, 2):
            try:
                machine.apply(index, entry)
            except DataError as error:
                if machine.schema <= SCHEMA:
                    raise Broken("a node stops without need") from error
        hashes.add(machine.state_hash)
        if machine.totals.faults or check_invariants(machine):
            raise Broken("an operation that did half of what it should")
    if len(hashes) != 1:
        raise Broken("two replicas disagree")


def snapshot(data: bytes) -> None:
    """A snapshot with right checksums around any content."""
    for each in (data, _with_checksums(data)):
        with suppress(DataError):
            snapshot_file.decode(each, "a file")


def _with_checksums(rest: bytes) -> bytes:
    (head,) = struct.unpack_from(">I", rest.ljust(4, b"\0"))
    inner = rest[4 + min(head, len(rest)) :]
    rest += hashlib.sha256(inner).digest()
    return snapshot_file.MAGIC + hashlib.sha256(rest).digest() + rest


def journal(data: bytes) -> None:
    """A file of the journal."""
    with tempfile.TemporaryDirectory(dir=_memory_folder(), prefix="exkiq-fuzz-") as folder:
        path = Path(folder) / "journal"
        path.write_bytes(data)
        high_water.HighWaterMark(path, is_new=True).close()
        try:
            opened = Journal(path)
        except DataError:
            return
        try:
            for body, index, term in opened[:]:
                if (body, term) != (b"entry %d" % index, index // 4):
                    raise Broken(f"entry {index} is not what was written")
        finally:
            opened.close()


def _memory_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def announcement(data: bytes) -> None:
    """The text records of a service, with any address."""
    info = AsyncServiceInfo(SERVICE, f"a.{SERVICE}", port=7000, properties=data[4:])
    info.addresses = [data[:4].ljust(4, b"\0")]
    for sighting in sightings_of(info, SECRET):
        if sighting.cluster != "default" or sighting.name != "a":
            raise Broken("a sighting without the tag")


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (frames, handshake, messages, operations, snapshot, journal, announcement)
}

BYTES_MAX = {"frames": 4_096, "handshake": 2_048, "journal": 65_536}
BYTES_MAX_ELSE = 8_192


# ---- first inputs ------------------------------------------------------------------------------


def seeds(name: str) -> list[bytes]:
    """Well-formed inputs of a target: whatever is made of them reaches further than noise."""
    return _SEEDS[name]()


def _frame_seeds() -> list[bytes]:
    frame = encode_frame([1, {"a": [b"x", 1.5, None, True, -7]}])
    return [b"\xff" + frame, b"\x03" + frame + Seal(b"j" * 32).tag(frame), b"\x00" + frame * 3]


def _handshake_seeds() -> list[bytes]:
    dialer = Handshake(Side.DIALER, NODE, SECRET, b"d" * 32)
    acceptor = Handshake(Side.ACCEPTOR, NODE, SECRET, NONCE)
    hello = dialer.start()
    answer = acceptor.receive(hello).send
    proof = dialer.receive(answer).send
    refusal = encode_frame(["exkiq", 1, "refused", "why", b"x" * 32])
    return [b"\xfe" + hello + proof, b"\xff" + answer + proof, b"\xff" + answer + refusal]


def _message_seeds() -> list[bytes]:
    values: list[object] = [
        [int(Kind.DEMAND), 1, 1, {"": 1, "p": 2}, {"q": 1}, ["m:t"]],
        [int(Kind.PROGRESS), [["job", 1, b"x"]]],
        [int(Kind.WELCOME), "id", [["n1", "h:1", "life"]]],
        [int(Kind.HELLO), NODE.fields()],
        [7, "propose", b"x", 1000],
        [7, 1, "NoSuchJob", "x"],
        [0, "members", ["h:1"]],
        {"type": "request_vote", "term": 3, "last_log_index": 7, "last_log_term": 2},
        {"type": "next_node_idx", "next_node_idx": 3, "reset": False, "success": True}
        | {"term": 3, "seq": 9},
        {"type": "append_entries", "term": 3, "commit_index": 2, "seq": 9}
        | {"prevLogIdx": 1, "prevLogTerm": 1, "entries": [[b"\x00x", 2, 1]]},
        {"type": "append_entries", "term": 3, "commit_index": 2, "seq": 9}
        | {"serialized": [b"x", 0, True, b"12345678"]},
    ]
    return [encode_frame(value)[4:] for value in values]


def _operation_seeds() -> list[bytes]:
    error = ["ValueError", "m", "t"]
    return [
        commands.enqueue(PID, SPEC, ["x"], [b"\x92\x90\x80"]),
        commands.claim(PID, [("n1", 1, ["b"])]),
        commands.complete(PID, 1, ["a"], [4]),
        commands.fail(PID, 1, [["a", 4, ["failed"], error, 1]]),
        commands.hand_back(PID, 1, ["a"], [4], is_lost=True),
        commands.due(PID),
        commands.session_begin(PID, "n1", "run", "127.0.0.1:1"),
        commands.session_over(PID, "n1", 1, is_orderly=False),
        commands.checkpoint(PID, 1, "a", 4, b"x"),
        commands.found(PID, "other"),
        commands.address(PID, "n1", "127.0.0.1:1"),
        commands.pause(PID, "mail"),
        commands.clear(PID, "mail"),
        commands.declare(PID, ["mail"]),
        commands.cancel(PID, "b"),
        commands.cancel(PID, "a", running=True),
        commands.move(PID, "b", "log"),
        commands.park(PID, "m:t", ["b"]),
        commands.unpark(PID, "m:u", 10),
        commands.session_start(PID, SPEC, "t", b"x"),
        commands.session_post(PID, "s", "update", b"x"),
        commands.declare(PID, ["mail"], ["log"]),
        commands.schema(PID, 1),
        commands.retry(PID, ["a"], None),
        commands.encode_entry(NOW_MS, TERM, [commands.due(PID)]),
    ]


def _snapshot_seeds() -> list[bytes]:
    capture = _machine().capture()
    whole = snapshot_file.encode((b"x", 0, 0), (b"y", 1, TERM), capture, snapshot_file.no_pause)
    return [whole[40 : -hashlib.sha256().digest_size], whole]


def _journal_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory(dir=_memory_folder(), prefix="exkiq-fuzz-") as folder:
        path = Path(folder) / "journal"
        made = Journal(path)
        for index in range(4, 12):
            made.add(b"entry %d" % index, index, index // 4)
        made.setCurrentTerm(2, "n1")
        made.setRaftCommitIndex(9)
        made.commit()
        made.close()
        return [path.read_bytes()]


def _announcement_seeds() -> list[bytes]:
    texts = {"cluster": "default", "node": "a", "tag": make_tag("default", "a", 7000, SECRET)}
    info = AsyncServiceInfo(SERVICE, f"a.{SERVICE}", port=7000, properties=texts)
    return [b"\x7f\x00\x00\x01" + (info.text or b"")]


_SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "frames": _frame_seeds,
    "handshake": _handshake_seeds,
    "messages": _message_seeds,
    "operations": _operation_seeds,
    "snapshot": _snapshot_seeds,
    "journal": _journal_seeds,
    "announcement": _announcement_seeds,
}
