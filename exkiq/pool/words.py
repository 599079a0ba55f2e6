"""What a node and its child say to each other: frames of one list, its first item the kind.

A socketpair carries them, as length-prefixed msgpack like every other frame of exkiq.
"""

from __future__ import annotations

from enum import IntEnum

# A frame of several rows is cut at this size, far below the limit of a frame. A single row is
# bounded by the limits on arguments and values.
BATCH_BYTES_MAX = 4 * 1024 * 1024


class Order(IntEnum):
    """From the node to its child."""

    START = 1  # [START, [assignment, ...]]
    STOPPING = 2  # [STOPPING]: from now on `is_stopping` is true in every job
    CANCEL = 3  # [CANCEL]: hand back the async jobs, and say CANCELLED when they are out
    END = 4  # [END]: leave


class Word(IntEnum):
    """From a child to its node. A batch says them in this order."""

    READY = 1  # [READY, [queue, ...]]
    BROKEN = 2  # [BROKEN, text]: APP cannot be loaded
    CHECKPOINTS = 3  # [CHECKPOINTS, [[id, fence, value], ...]]
    DONE = 4  # [DONE, ids, fences, values, run_ms]
    FAILED = 5  # [FAILED, [[id, fence, decision, error, run_ms], ...]]
    RETURNED = 6  # [RETURNED, [[id, fence], ...]]
    NOTES = 7  # [NOTES, [[id, text], ...]]: to be logged by the node
    OVERDUE = 8  # [OVERDUE, [failed row, ...]]: the job's thread cannot be stopped, replace me
    CANCELLED = 9  # [CANCELLED, []]
