"""The outcomes of many jobs, awaited together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from exkiq import client as clients
from exkiq.errors import (
    JobError,
    NoSuchJob,
    Refused,
    ResultTooLarge,
    SerializationError,
)
from exkiq.inspect import Outcome
from exkiq.job import Job, value_of
from exkiq.machine import State
from exkiq.options import check_wait
from exkiq.requests import PENDING

if TYPE_CHECKING:
    from exkiq.asked import Asked


def result_many(jobs: Iterable[Job | str], timeout: float | None = 5.0) -> list[Outcome | None]:
    """Wait for the final outcomes of these jobs, one time limit for all of them.

    Shapes: one for each job, in their order: its outcome, or None where it has not ended; ask
            again for those. What is given as a job may be its id; one that nobody knows (any
            more) has an outcome without a state.
    Units:  timeout in seconds, 0 or more; 0 asks once, None waits on.
    Errors: none for how a job ended; NoNodeError; TypeError for one job, ValueError for what is
            none, or a bad timeout.
    Source: Honeydew's `yield_many`.
    """
    asked = _handles(jobs)
    left = _countdown(asked, check_wait(timeout))
    found: list[Outcome | None] = [None] * len(asked)
    for client, places in _by_client(asked):
        answers = client.wait_results([asked[at].waited for at in places], left())
        for at, answer in zip(places, answers, strict=True):
            found[at] = _outcome(asked[at], answer)
    return found


async def aresult_many(
    jobs: Iterable[Job | str], timeout: float | None = 5.0
) -> list[Outcome | None]:
    """As `result_many`, without blocking the loop."""
    asked = _handles(jobs)
    left = _countdown(asked, check_wait(timeout))
    found: list[Outcome | None] = [None] * len(asked)
    for client, places in _by_client(asked):
        answers = await client.await_results([asked[at].waited for at in places], left())
        for at, answer in zip(places, answers, strict=True):
            found[at] = _outcome(asked[at], answer)
    return found


def _handles(jobs: Iterable[Job | str]) -> list[Job]:
    if isinstance(jobs, str) or not isinstance(jobs, Iterable):
        raise TypeError(f"jobs must be several, such as a list of them, not {jobs!r}")
    return [job if isinstance(job, Job) else clients.job(job) for job in jobs]


def _countdown(jobs: Sequence[Job], timeout: float | None) -> Callable[[], float | None]:
    return jobs[0].client.countdown(timeout) if jobs else lambda: timeout


def _by_client(jobs: Sequence[Job]) -> list[tuple[Asked, list[int]]]:
    """Whom to ask, and for which of these jobs."""
    places: dict[int, tuple[Asked, list[int]]] = {}
    for position, job in enumerate(jobs):
        places.setdefault(id(job.client), (job.client, []))[1].append(position)
    return list(places.values())


def _outcome(job: Job, answer: Any) -> Outcome | None:
    """What an answer to `result` says. Errors: that of a cluster which does not answer."""
    if answer == PENDING:
        return None
    if isinstance(answer, NoSuchJob):
        return Outcome(None, None, answer)
    if isinstance(answer, ResultTooLarge | SerializationError):
        return Outcome(State.SUCCEEDED, None, answer)
    if isinstance(answer, Exception):
        raise answer
    try:
        value = value_of(job.id, answer)
    except (JobError, Refused) as error:
        return Outcome(State(answer[0]), None, error)
    return Outcome(State.SUCCEEDED, value, None)
