"""What is asked of a node: how it is put, when silence is too long, and how it ends unanswered.

    Read         one question, one answer, from any node
    Errand       something for the one node that is asked; never sent twice
    ResultWait   asks again until the job has ended or its time is over
    Watch        is told every step until the job has ended
    Proposal     one operation for the log, the same bytes however often they are sent
    StatsAfter   counts, asked through the log

None of them touches a link; `exkiq.connection` carries them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from exkiq import errors
from exkiq.bridge import Waiter
from exkiq.errors import (
    EnqueueTimeout,
    ExkiqError,
    NoNodeError,
    NoQuorum,
    OutcomeUnknown,
    Unavailable,
)

# What any node may be asked, and again if need be.
READ_VERBS = frozenset(("job", "jobs", "ping", "progress", "queues", "stats", "status"))

# The answer where a job has not ended in time.
PENDING = ["pending"]

# Other nodes apply what one acknowledged within this time: an election and some more.
CATCH_UP_SECONDS = 3.0

# Silence after which another node is asked: over the longest pause of a healthy node, below
# what an election takes. Each time it doubles, so that an overloaded cluster is not flooded.
PATIENCE_SECONDS = 1.5
DOUBLINGS_MAX = 4

# A node holds a question for a result that long at most, so that a dead one is noticed.
POLL_SECONDS = 5.0

# A node says that often that it still watches, when nothing else is to be said.
BEAT_SECONDS = 5.0

# What a wait for a result may take beyond its own timeout to reach a node.
GRACE_SECONDS = 2.0

# How long it goes on while no node can be reached at all, and while none has answered.
REACH_SECONDS = 5.0
SILENT_SECONDS = 15.0

# Less than this, and less than the last answer took, is not worth another sending.
LAST_TRY_SECONDS = 0.3

# Between two questions where the answer was "not yet".
PAUSE_SECONDS = 0.05

# The node gives up a fifth of the time before we do, so that its reason arrives even when it or
# we are busy: "surely not done" is worth more to the caller than the last moment of waiting.
HEAD_START_SHARE = 0.2
HEAD_START_SECONDS_MIN, HEAD_START_SECONDS_MAX = 0.2, 1.0


class Request:
    """One question, until it is answered or its deadline is over.

    Shapes: `size` is what it adds to the bytes under way. `rids` are its sendings that may still
            be answered; `is_queued` while it waits to be sent (again). `is_doubtful` once a
            sending had no answer. `refusal` is the last definite "not now".
    """

    size = 100
    is_repeatable = True

    def __init__(self, waiter: Waiter, deadline: float, about: str) -> None:
        self.waiter = waiter
        self.deadline = deadline
        self.about = about
        self.rids: list[int] = []
        self.sendings = 0
        self.sent_at = 0.0
        self.refusals = 0
        self.refusal: Unavailable | None = None
        self.is_doubtful = False
        self.is_queued = False
        self.is_over = False

    def message(self, rid: int, now: float) -> list[Any]:
        raise NotImplementedError

    def is_late_for_another(self, now: float) -> bool:
        """Whether a sure "not done" would only become "nobody knows" by asking once more."""
        left, took = self.deadline - now, now - self.sent_at
        is_sure = not self.is_doubtful and not self.rids  # no other sending may have done it
        return is_sure and left < min(LAST_TRY_SECONDS, took)

    def patience(self, now: float) -> float:  # noqa: ARG002 - a poll's depends on what is left
        """Seconds of silence after a sending that mean trouble."""
        return PATIENCE_SECONDS * 2.0 ** min(max(0, self.sendings - 1), DOUBLINGS_MAX)

    def is_final(self, value: Any, now: float) -> bool:  # noqa: ARG002 - see the kinds below
        """Whether this answer ends it."""
        return True

    def is_expected(self, now: float) -> bool:  # noqa: ARG002
        """Whether "no such job" can only mean that this node has not caught up."""
        return False

    def expire(self, missing: str, now: float) -> tuple[Any, Exception | None]:  # noqa: ARG002
        """Its outcome at the deadline. `missing` says why no node could be asked."""
        if self.refusal is not None:
            return None, self.refusal
        return None, NoNodeError(f"{self.about}: {missing}")


class Read(Request):
    """A question about the state.

    `expected_until` is for a job enqueued from here: until then a node that does not know it
    yet is asked again.
    """

    def __init__(  # noqa: PLR0913, RUF100 (one parameter for each field)
        self,
        verb: str,
        args: Sequence[Any],
        waiter: Waiter,
        deadline: float,
        about: str,
        *,
        expected_until: float = 0.0,
    ) -> None:
        super().__init__(waiter, deadline, about)
        self._verb = verb
        self._args = args
        self._expected_until = expected_until

    def message(self, rid: int, now: float) -> list[Any]:  # noqa: ARG002
        return [rid, self._verb, *self._args]

    def is_expected(self, now: float) -> bool:
        return now < self._expected_until

    def is_final(self, value: Any, now: float) -> bool:
        return value is not None or not self.is_expected(now)


class Errand(Request):
    """What only one node may do, such as leaving the cluster: sent once, to one of them."""

    is_repeatable = False

    def __init__(
        self, verb: str, args: Sequence[Any], waiter: Waiter, deadline: float, about: str
    ) -> None:
        super().__init__(waiter, deadline, about)
        self._verb = verb
        self._args = args

    def message(self, rid: int, now: float) -> list[Any]:  # noqa: ARG002
        return [rid, self._verb, *self._args]

    def patience(self, now: float) -> float:  # noqa: ARG002
        return math.inf

    def expire(self, missing: str, now: float) -> tuple[Any, Exception | None]:
        if self.is_doubtful:
            return None, OutcomeUnknown(f"{self.about}: no answer; it may be done")
        return super().expire(missing, now)


def ask(  # noqa: PLR0913, RUF100 (the parameters of both)
    verb: str,
    args: Sequence[Any],
    waiter: Waiter,
    deadline: float,
    about: str,
    expected_until: float,
) -> Request:
    """A read, or an errand for what is not one."""
    if verb not in READ_VERBS:
        return Errand(verb, args, waiter, deadline, about)
    return Read(verb, args, waiter, deadline, about, expected_until=expected_until)


class ResultWait(Request):
    """Waits for the end of a job; ends with PENDING when `until` comes first."""

    def __init__(
        self, job_id: str, until: float, waiter: Waiter, now: float, *, expected_until: float = 0.0
    ) -> None:
        self._until = until
        super().__init__(waiter, self._bounded(now + REACH_SECONDS), f"job {job_id}")
        self._job_id = job_id
        self._expected_until = expected_until
        self._is_parked = False

    def _bounded(self, moment: float) -> float:
        return min(moment, self._until + GRACE_SECONDS)

    def park(self) -> None:
        """It is not its turn: the nodes are busy with others of its kind."""
        self._is_parked = True
        self.deadline = self._bounded(math.inf)

    def unpark(self, now: float) -> None:
        self._is_parked = False
        self.deadline = self._bounded(now + REACH_SECONDS)

    def _poll_seconds(self, now: float) -> float:
        return max(0.0, min(self._until - now, POLL_SECONDS))

    def message(self, rid: int, now: float) -> list[Any]:
        # as long as nodes answer now and then, it may take as long as it takes
        self.deadline = self._bounded(now + SILENT_SECONDS)
        return [rid, "result", self._job_id, math.ceil(self._poll_seconds(now) * 1000)]

    def patience(self, now: float) -> float:
        return self._poll_seconds(now) + PATIENCE_SECONDS

    def is_expected(self, now: float) -> bool:
        return now < self._expected_until

    def is_final(self, value: Any, now: float) -> bool:
        return value != PENDING or now >= self._until

    def expire(self, missing: str, now: float) -> tuple[Any, Exception | None]:
        if (self.sendings or self._is_parked) and now >= self._until:
            return PENDING, None
        return super().expire(missing, now)


class Stream(Protocol):
    """A waiter that is also told what comes before the end."""

    def push(self, value: Any) -> None: ...
    def resolve(self, value: Any, error: Exception | None) -> None: ...


# Where a job stands: with the same values there was no step between two looks.
PLACE = ("state", "fence", "attempt", "lost", "queue")


class Watch(Request):
    """Tells the steps of a job as a node pushes them, and ends with the last one.

    Which step was told last is known here: whoever takes over from a node is asked for what
    came after it, and what that one says of the present is passed on only where it is news.
    """

    def __init__(
        self, job_id: str, stream: Stream, now: float, *, expected_until: float = 0.0
    ) -> None:
        super().__init__(stream, now + REACH_SECONDS, f"job {job_id}")
        self._job_id = job_id
        self._stream = stream
        self._expected_until = expected_until
        self._last: Mapping[str, Any] | None = None

    def message(self, rid: int, now: float) -> list[Any]:
        self.deadline = now + SILENT_SECONDS
        seen = 0 if self._last is None else self._last["index"]
        return [rid, "watch", self._job_id, seen]

    def patience(self, now: float) -> float:  # noqa: ARG002
        return BEAT_SECONDS + PATIENCE_SECONDS

    def is_expected(self, now: float) -> bool:
        return now < self._expected_until

    def pushed(self, told: Mapping[str, Any] | None, now: float) -> None:
        """A step, or None where the node only says that it is there."""
        self.deadline = now + SILENT_SECONDS
        if told is not None:
            last, self._last = self._last, told
            if last is None or not _is_known(last, told):
                self._stream.push(told)


def _is_known(last: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
    """Whether the present state says nothing that the last step did not."""
    if not told["is_present"] or any(told[part] != last[part] for part in PLACE):
        return False
    # a step and the start that followed it may have come in the same entry of the log
    return bool(told["name"] != "started" or last["name"] == "started")


class Proposal(Request):
    """An operation. Sent again with the same pid and ids, it is still done once."""

    verb = "propose"

    def __init__(
        self, op: bytes, waiter: Waiter, deadline: float, about: str, *, is_enqueue: bool = False
    ) -> None:
        super().__init__(waiter, deadline, about)
        self._op = op
        self._is_enqueue = is_enqueue
        self.size = len(op)

    def message(self, rid: int, now: float) -> list[Any]:
        left = self.deadline - now
        head_start = min(max(left * HEAD_START_SHARE, HEAD_START_SECONDS_MIN), left / 2)
        left -= min(head_start, HEAD_START_SECONDS_MAX)
        return [rid, self.verb, self._op, max(0, int(left * 1000))]

    def expire(self, missing: str, now: float) -> tuple[Any, Exception | None]:
        if not self.is_doubtful:
            return super().expire(missing, now)
        kind = EnqueueTimeout if self._is_enqueue else OutcomeUnknown
        return None, kind(f"{self.about}: no answer in time; it may be done")


class StatsAfter(Proposal):
    """Counts once an operation that changes nothing went through the log, by the leader."""

    verb = "stats_after"

    def expire(self, missing: str, now: float) -> tuple[Any, Exception | None]:
        value, error = super().expire(missing, now)
        if isinstance(error, OutcomeUnknown):
            error = NoQuorum(f"{self.about}: no leader with a majority behind it")
        return value, error


def named_error(kind: str, text: str) -> ExkiqError:
    """The error that a node named; one we do not know is told as it came."""
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, ExkiqError) and found is not errors.JobFailed:
        return found(text)
    return ExkiqError(f"{kind}: {text}")
