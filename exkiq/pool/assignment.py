"""A job as a pool gets it: claimed for this node, not yet started."""

from __future__ import annotations

import zlib
from typing import NamedTuple


# A tuple, not a dataclass: it goes to the child as a msgpack array as it is, and one is made
# for every job on both sides.
class Assignment(NamedTuple):
    """One claimed job.

    Shapes: payload is an encoded call; checkpoint is an encoded value, or None at first.
    Units:  attempt counts from 1; fence is the log index of the claim; enqueued_ms is wall
            time; timeout_ms is 0 for no limit.
    An isolated job has its process to itself.
    """

    id: str
    fence: int
    task: str
    payload: bytes
    attempt: int
    lost: int
    retries: int
    queue: str
    enqueued_ms: int
    timeout_ms: int
    checkpoint: bytes | None = None
    isolated: bool = False


def chance_of(job: Assignment) -> float:
    """A number in [0, 1) for the jitter of this attempt: spread over jobs, the same if asked
    again, and no source of chance is needed for it."""
    return zlib.crc32(f"{job.id}:{job.fence}".encode()) / 2**32
