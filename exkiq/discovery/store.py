"""Where the facts of a founding are kept: a small file, or memory.

The file is magic, CRC-32 of the rest, msgpack. It is never changed in place: a new one is
written beside it, synced, renamed, and the folder synced, so there is always one whole file.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import msgpack

from exkiq.discovery.facts import Facts, Promise, members_of, rows_of
from exkiq.durable import sync_folder
from exkiq.errors import DataError

FILE_NAME = "founding.msgpack"
MAGIC = b"exkiq founding 1"
CRC_BYTES = 4
FILE_BYTES_MAX = 1_048_576  # many times the longest list of members; more is not ours


class MemoryFoundingStore:
    """Keeps the facts as long as the process lives."""

    def __init__(self, facts: Facts | None = None) -> None:
        self._facts = Facts() if facts is None else facts

    def load(self) -> Facts:
        return self._facts

    def save(self, facts: Facts) -> None:
        self._facts = facts


class FileFoundingStore:
    """Keeps the facts in `folder`, which must exist, in the file `founding.msgpack`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / FILE_NAME

    def load(self) -> Facts:
        """The facts saved last; empty ones when there is no file.

        Errors: DataError for a file that is damaged: guessing could make a second cluster.
        """
        try:
            with self._path.open("rb") as file:
                data = file.read(FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            return Facts()
        facts = _decode(data)
        if facts is None:
            raise DataError(
                f"{self._path} is damaged; if this node never was in a cluster, delete the file"
            )
        return facts

    def save(self, facts: Facts) -> None:
        """Return once `facts` would survive a power cut. Errors: OSError."""
        fresh = self._path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        # not following a link that somebody laid there
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_encode(facts))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        sync_folder(self._folder)


def _encode(facts: Facts) -> bytes:
    promise = facts.promise
    body: bytes = msgpack.packb(
        {
            "cluster_id": facts.cluster_id,
            "members": rows_of(facts.members),
            "founder": facts.founder,
            "promise": promise and [promise.founder, promise.cluster_id, rows_of(promise.members)],
        }
    )
    return MAGIC + zlib.crc32(body).to_bytes(CRC_BYTES, "big") + body


def _decode(data: bytes) -> Facts | None:
    start = len(MAGIC) + CRC_BYTES
    body = data[start:]
    if data[:start] != MAGIC + zlib.crc32(body).to_bytes(CRC_BYTES, "big"):
        return None
    try:
        return _facts_of(msgpack.unpackb(body))
    except (ValueError, msgpack.UnpackException):
        return None


def _facts_of(fields: object) -> Facts | None:
    match fields:
        case {
            "cluster_id": str(cluster_id),
            "members": rows,
            "founder": str(founder),
            "promise": promise_fields,
        }:
            members, promise = members_of(rows), _promise_of(promise_fields)
            if members is None or (promise_fields is not None and promise is None):
                return None
            return Facts(cluster_id, members, founder, promise)
    return None


def _promise_of(fields: object) -> Promise | None:
    match fields:
        case [str(founder), str(cluster_id), rows]:
            members = members_of(rows)
            return None if members is None else Promise(founder, cluster_id, members)
    return None
