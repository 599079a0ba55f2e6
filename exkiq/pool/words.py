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

    # [START, number, start_by_ms, [assignment, ...]]: set the mark to the number, then begin if it
    # is not later than that by the monotonic clock; else RETURNED at once
    START = 1
    STOPPING = 2  # [STOPPING]: from now on `is_stopping` is true in every job
    # [CANCEL] or [CANCEL, queues]: hand back the async jobs, or those of the queues; say CANCELLED
    # when none is left that could still be saved
    CANCEL = 3
    END = 4  # [END]: leave
    STOP_JOB = 5  # [STOP_JOB, id, fence]: it was cancelled
    COMMITTED = 6  # [COMMITTED, [id, ...]]: their success is in the log
    # [SAVE] or [SAVE, queues]: ask `on_shutdown` of each job that has one; it is then handed back
    SAVE = 7


class Word(IntEnum):
    """From a child to its node."""

    READY = 1  # [READY, [queue, ...], declarations]
    BROKEN = 2  # [BROKEN, text]: APP cannot be loaded
    CHECKPOINTS = 3  # [CHECKPOINTS, [[id, fence, value], ...]]
    DONE = 4  # [DONE, ids, fences, values, run_ms]
    FAILED = 5  # [FAILED, [[id, fence, decision, error, run_ms], ...]]
    RETURNED = 6  # [RETURNED, [[id, fence], ...]]
    NOTES = 7  # [NOTES, [[id, text, level], ...]]: to be logged by the node
    OVERDUE = 8  # [OVERDUE, [failed row, ...]]: the job's thread cannot be stopped, replace me
    CANCELLED = 9  # [CANCELLED, [None]]: see CANCEL
    PROGRESS = 10  # [PROGRESS, [[id, fence, value], ...]]: the last of each
    # [ABILITY, [[[task, ...], withheld], ...]]: what I cannot run now, and by group how many slots
    # are to stay empty; the last counts
    ABILITY = 11
    AWAITING = 12  # [AWAITING, [[id, fence], ...]]: say COMMITTED once their success is in the log


WORDS = {int(word): word for word in Word}

# A batch says its words in this order: a checkpoint counts before its job's end, and a job that
# comes back is not sent here again at once.
IN_ORDER = (
    Word.ABILITY,
    Word.CHECKPOINTS,
    Word.PROGRESS,
    Word.AWAITING,
    Word.DONE,
    Word.FAILED,
    Word.RETURNED,
    Word.NOTES,
    Word.OVERDUE,
    Word.CANCELLED,
)
