"""Every bound of the replicated state, each with its reason.

Read these as `limits.NAME`, so that a test can make one small.
"""

from __future__ import annotations

from exkiq.machine.record import State

KIB = 1024
MIB = 1024 * KIB
SECOND_MS = 1_000
DAY_MS = 86_400_000

# What travels.

ARGUMENTS_BYTES_MAX = MIB
"""Encoded arguments of a job: every replica holds them; larger things belong in a store."""

OP_BYTES_MAX = 2 * MIB
"""One operation: a job of the largest size with room for its names."""

ENTRY_BYTES_MAX = MIB
"""Operations gathered into one log entry: about 10 ms of disk and network, so that the next
entry does not wait long. A single larger operation travels alone."""

FRAME_BYTES_MAX = 16 * MIB
"""One frame on a link: what one peer may make another hold in memory."""

# Names and texts.

ID_CHARS_MAX = 128
"""A job's id: a UUID, a URL or a key of the user's; it is held by several tables."""

SESSION_ID_CHARS_MAX = 100
"""A session job's id: with a slash and a pid behind it, it is the id of a step's job."""

SESSION_TASK_CHARS_MAX = 489
"""The task of a session job: with the name of a step behind it, it is the task of a job."""

QUEUE_NAME_BYTES_MAX = 255
"""A queue's name: the same as a file name, and as RabbitMQ's."""

NAME_CHARS_MAX = 255
"""Names of nodes, addresses, run ids, cluster ids: the longest host name."""

TASK_CHARS_MAX = 500
"""The import path of a task, "module:qualname"."""

ERROR_TYPE_CHARS_MAX = 255
"""The type name of an error."""

ERROR_MESSAGE_CHARS_MAX = 10_000
"""The message of an error: some carry a whole response."""

TRACEBACK_BYTES_MAX = 8 * KIB
"""The traceback of an error: about 80 lines, the last ones are kept."""

ERRORS_MAX = 10
"""Failed attempts remembered by one job: the default budget and some more."""

RESERVED_QUEUE_NAMES = frozenset((*(state.value for state in State), "unknown_task", "queues"))
"""A flat count map has queues, states and some more side by side."""

# What one operation may do, so that no apply stalls the node.

BULK_JOBS_MAX = 1_000
"""Jobs of one enqueue: about 2 ms of apply."""

DUE_MOVES_MAX = 5_000
"""Timers of one kind handled by one DUE: about 5 ms; the next DUE goes on."""

PARKED_AT_ONCE_MAX = 1_000
"""Jobs of one PARK or UNPARK: as a bulk; the leader goes on in its next entry."""

CLEAR_JOBS_MAX = 100_000
"""Jobs removed by one CLEAR: about 0.1 s; whoever got this number asks again."""

# What the state holds.

JOBS_MAX = 10_000_000
"""Records in all: about 6 GB; a full cluster refuses jobs rather than dying of memory."""

QUEUES_MAX = 10_000
"""Queues: one for each tenant of a large user; each is a row in every statistic."""

SESSIONS_MAX = 1_000
"""Nodes that run jobs at the same time."""

SESSION_JOBS_MAX = 10_000
"""Session jobs: with states of the largest size 2.5 GB, and all are in every snapshot."""

SESSION_MAILBOX_MAX = 100
"""Steps of one session job that wait: whoever posts more is far ahead of it."""

SESSION_MAILBOX_BYTES_MAX = 4 * MIB
"""Their arguments together: a few of the largest."""

MEMBERS_MAX = 1_000
"""Members a cluster begins with: more than anyone founds at once."""

PRIORITY_MAX = 1_000
"""Priorities lie between minus this and this: each one in use is a lane of its queue."""

RETRIES_MAX = 10_000
"""The retry budget of a job: years at any sane delay."""

LOST_MAX = 1_000
"""The largest `max_lost`."""

RESULT_BYTES_MAX = 256 * KIB
"""A kept result: as arguments, smaller because most of them are never read."""

CHECKPOINT_BYTES_MAX = 256 * KIB
"""A checkpoint: as a result."""

RESULTS_BYTES_MAX = 256 * MIB
"""All kept results together; over it those nearest to their end go first."""

RESULT_OVERHEAD_BYTES = 400
"""What a kept result costs beside its bytes: record, id and timer, measured."""

ENDED_ARGUMENTS_BYTES_MAX = 4 * KIB
"""Arguments kept with a succeeded or cancelled job, for lists; larger ones are dropped."""

SUCCEEDED_JOBS_MAX = 1_000
"""Last succeeded jobs that can be listed."""

CANCELLED_JOBS_MAX = 1_000
"""Last cancelled jobs that can be listed."""

FAILED_JOBS_MAX = 10_000
"""The failed set: more than a person looks through."""

FAILED_AGE_MS_MAX = 180 * DAY_MS
"""The failed set: what nobody retried in half a year."""

FAILED_BYTES_MAX = 1024 * MIB
"""Arguments held by the failed set: ten thousand of the largest would be 10 GB."""

TOMBSTONE_MS = 60 * SECOND_MS
"""How long an id stays taken after its job ended: far longer than any repeated request."""

TOMBSTONES_MAX = 1_000_000
"""Ids of ended jobs: 60 s at 16,000 jobs a second, about 150 MB; then the oldest go sooner."""

REMEMBERED_MAX = 10_000
"""Answers to operations that are not idempotent: far more than are under way at once."""

SPECS_CACHED_MAX = 10_000
"""Kinds of jobs that share one object; a cache, not state."""

# Time.

TIME_MS_MAX = 253_402_300_799_999
"""The end of the year 9999, where calendars of most languages end."""

DELAY_MS_MAX = 100 * 366 * DAY_MS
"""A delay: a hundred years."""

RESULT_TTL_MS_MAX = 366 * DAY_MS
"""The lifetime of a result: a year."""

TIMEOUT_MS_MAX = 366 * DAY_MS
"""The longest run of a job: a year."""

RUN_MS_MAX = 100 * 366 * DAY_MS
"""A reported run time, so that their sum stays within 64 bits."""

INT_MAX = 2**63 - 1
"""The largest int that every msgpack implementation carries."""
