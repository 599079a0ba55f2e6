"""What a node answers its clients at once, from what is applied here."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, TypeAlias

from exkiq.clock import Clock
from exkiq.errors import ExkiqError, UnsupportedOperation
from exkiq.machine import State
from exkiq.queues.protocol import House
from exkiq.queues.views import Map, job_map, jobs_map, queues_map, stats_map

PROGRESS_JOBS_MAX = 100
"""Jobs whose progress a status shows: what people look at; each is up to 4 KiB."""

Args: TypeAlias = list[Any]
Read: TypeAlias = Callable[[Args], object]

_STATES = frozenset(State)


class Reads:
    """The questions about the state, by their verbs.

    `progress` gives what a running job said last, encoded, by its id.
    """

    def __init__(
        self,
        house: House,
        status: Callable[[], dict[str, Any]],
        progress: Callable[[str], bytes | None],
        clock: Clock,
    ) -> None:
        self._house = house
        self._status = status
        self._progress = progress
        self._clock = clock
        self.by_verb: dict[str, Read] = {
            "job": self._job,
            "jobs": self._jobs,
            "status": self._tell_status,
            "stats": self._stats,
            "queues": self._queues,
            "progress": self._tell_progress,
            "ping": _ping,
        }

    def _job(self, args: Args) -> object:
        match args:
            case [str(job_id)]:
                record = self._house.machine.jobs.get(job_id)
                return None if record is None else self._with_progress(job_map(record))
        raise odd("job", args)

    def _jobs(self, args: Args) -> object:
        match args:
            case [str() | None as queue, str() | None as state, int(limit), int(offset)] if (
                (state is None or state in _STATES) and limit >= 0 and offset >= 0
            ):
                chosen = None if state is None else State(state)
                page = jobs_map(self._house.machine, queue, chosen, limit=limit, offset=offset)
                return [self._with_progress(told) for told in page]
        raise odd("jobs", args)

    def _with_progress(self, told: Map) -> Map:
        if told["state"] != State.RUNNING:
            return told
        return told | {"progress": self._progress(str(told["id"]))}

    def _tell_progress(self, args: Args) -> object:
        match args:
            case [str(job_id)]:
                return self._progress(job_id)
        raise odd("progress", args)

    def _tell_status(self, _: Args) -> object:
        return self._status() | {"progress": self._progress_of_all()}

    def _progress_of_all(self) -> dict[str, bytes]:
        """Of those running jobs that said how far they are."""
        sessions = self._house.machine.sessions.values()
        said = ((id_, self._progress(id_)) for each in sessions for id_ in each.running)
        return dict(islice(((id_, value) for id_, value in said if value), PROGRESS_JOBS_MAX))

    def _stats(self, _: Args) -> object:
        return stats_map(self._house.machine)

    def _queues(self, _: Args) -> object:
        return queues_map(self._house.machine, self._clock.now_ms())


def odd(verb: str, args: Args) -> ExkiqError:
    """The error for arguments that a verb does not take."""
    return UnsupportedOperation(f"{verb} does not take these {len(args)} arguments")


def _ping(_: Args) -> object:
    return "pong"
