"""The one table of a job's life: which step leads from where to where.

    scheduled --promote--> queued --claim--> running --succeed--> succeeded
                             ^                 |  |  '--fail----> failed --revive--> queued
                             |                 |  '--try_later--> retry --claim--> running
                             '----give_back----'
    scheduled, queued, retry --cancel--> cancelled <--stop-- running

A due retry keeps its state until it is claimed, so it takes part in no step when due. A job
that is moved to another queue, or put aside, keeps its state too. A running job that was
cancelled takes the step `stop` when its attempt ends in any way but success.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from exkiq.machine.record import State


class Step(StrEnum):
    """Everything that can happen to a job."""

    ENQUEUE = "enqueue"
    SCHEDULE = "schedule"
    PROMOTE = "promote"
    CLAIM = "claim"
    SUCCEED = "succeed"
    FAIL = "fail"
    TRY_LATER = "try_later"
    GIVE_BACK = "give_back"
    CANCEL = "cancel"
    STOP = "stop"
    REVIVE = "revive"


class Way(NamedTuple):
    """The states a step starts from, none for a new job, and the one it leads to."""

    sources: frozenset[State]
    target: State


def _way(target: State, *sources: State) -> Way:
    return Way(frozenset(sources), target)


WAYS = MappingProxyType(
    {
        Step.ENQUEUE: _way(State.QUEUED),
        Step.SCHEDULE: _way(State.SCHEDULED),
        Step.PROMOTE: _way(State.QUEUED, State.SCHEDULED),
        Step.CLAIM: _way(State.RUNNING, State.QUEUED, State.RETRY),
        Step.SUCCEED: _way(State.SUCCEEDED, State.RUNNING),
        Step.FAIL: _way(State.FAILED, State.RUNNING),
        Step.TRY_LATER: _way(State.RETRY, State.RUNNING),
        Step.GIVE_BACK: _way(State.QUEUED, State.RUNNING),
        Step.CANCEL: _way(State.CANCELLED, State.SCHEDULED, State.QUEUED, State.RETRY),
        Step.STOP: _way(State.CANCELLED, State.RUNNING),
        Step.REVIVE: _way(State.QUEUED, State.FAILED),
    }
)

ENDED = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
"""States in which a job stays, unless a person retries a failed one."""
