"""Session jobs: long-lived jobs whose state is replicated, changed by one step after the other.

A session job has an id, a state (bytes that mean nothing here) and a mailbox of what is yet to
be done. Only the head of the mailbox is a job: a step, made when its turn comes, with the state
as its checkpoint. So a session job has one step at a time, in the order in which they were
posted, and everything that can happen to a job can happen to a step: it is retried, handed
back, lost, moved, cancelled.

| the step ended as     | the state is             | then                                        |
|-----------------------|--------------------------|---------------------------------------------|
| succeeded             | what it gave             | the next step; after a finish: it is gone   |
| failed, cancelled     | as it was                | the next step; after a start: it is gone    |

When it is gone, what still waits is cancelled and says why: each has a job's id already, on
which somebody waits.

A step's id is made of the pid of the operation that asked for it. So whoever asks again, after
an outcome that nobody knows, is told of the step that is there, as long as the ids of ended
jobs stay taken; and the steps of a later session job of the same id have other ids.

A step that waits counts as a job towards the limit of jobs: its room is kept, since there is
nobody who could be told that it is refused when it has its turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exkiq.machine import limits, retention
from exkiq.machine.checks import Rejected
from exkiq.machine.commands import Post
from exkiq.machine.outcomes import Refused
from exkiq.machine.record import Record, Spec, State
from exkiq.machine.transitions import WAYS, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exkiq.machine.outcomes import Answer, Applied
    from exkiq.machine.requests import SessionPost, SessionStart
    from exkiq.machine.store import Store

START = "start"


class Turn(NamedTuple):
    """One step, waiting or under way; `verb` is start or a `Post`."""

    verb: str
    payload: bytes
    step_id: str


class SessionJob(NamedTuple):
    """One session job; a value, so that a capture holds all of them by their references.

    Shapes: `state` is what the last step gave, None at first. `step` is the one that is a job
            now, None while nothing is to be done; `mailbox` are those behind it.
    """

    spec: Spec
    state: bytes | None = None
    step: Turn | None = None
    mailbox: tuple[Turn, ...] = ()


def start(store: Store, request: SessionStart, _: Applied) -> Answer:
    """Make a session job and its first step; gives the step's id."""
    session_id, spec = request.id, request.spec
    if _is_asked_again(store, request.step_id):
        return request.step_id
    if session_id in store.session_jobs:
        raise Rejected(f"a session job {session_id!r} exists", "JobAlreadyExists")
    if len(store.session_jobs) >= limits.SESSION_JOBS_MAX:
        raise Rejected(f"the cluster holds {limits.SESSION_JOBS_MAX} session jobs, its limit")
    _check_room(store)
    if store.queue(spec.queue) is None:
        raise Rejected(f"the cluster has {limits.QUEUES_MAX} queues, its limit")
    store.session_jobs[session_id] = SessionJob(store.intern(spec))
    _post(store, session_id, Turn(START, request.payload, request.step_id))
    return request.step_id


def post(store: Store, request: SessionPost, _: Applied) -> Answer:
    """Put a step into the mailbox, or have it done now; gives the step's id."""
    if _is_asked_again(store, request.step_id):
        return request.step_id
    job = store.session_jobs.get(request.id)
    if job is None:
        raise Rejected(f"no session job {request.id!r}", "NoSuchJob")
    if len(job.mailbox) >= limits.SESSION_MAILBOX_MAX:
        text = f"session job {request.id!r} has {limits.SESSION_MAILBOX_MAX} steps waiting"
        raise Rejected(f"{text}, its limit")
    waiting_bytes = sum(len(each.payload) for each in job.mailbox)
    if waiting_bytes + len(request.payload) > limits.SESSION_MAILBOX_BYTES_MAX:
        text = f"session job {request.id!r} has {waiting_bytes} bytes of steps waiting"
        raise Rejected(f"{text}, its limit is {limits.SESSION_MAILBOX_BYTES_MAX}")
    _check_room(store)
    _post(store, request.id, Turn(str(request.verb), request.payload, request.step_id))
    return request.step_id


def _is_asked_again(store: Store, step_id: str) -> bool:
    steps, stones = store.session_steps, store.tombstones.stones
    return step_id in steps or step_id in store.jobs or step_id in stones


def _check_room(store: Store) -> None:
    if not store.has_room(1):
        raise Rejected(f"the cluster holds {limits.JOBS_MAX} jobs, its limit")


def _post(store: Store, session_id: str, turn: Turn) -> None:
    job = store.session_jobs[session_id]
    store.session_steps[turn.step_id] = session_id
    store.session_jobs[session_id] = job._replace(mailbox=(*job.mailbox, turn))
    if job.step is None:
        _go_on(store, session_id, job.state)


def _go_on(store: Store, session_id: str, state: bytes | None) -> None:
    """Take a state, and make a job of the next step, if one waits."""
    spec, _, _, mailbox = store.session_jobs[session_id]
    step = mailbox[0] if mailbox else None
    store.session_jobs[session_id] = SessionJob(spec, state, step, mailbox[1:])
    if step is not None:
        record = _make(store, spec, step)
        record.checkpoint = state
        store.to_tail(record, WAYS[Step.ENQUEUE].target)


def _make(store: Store, spec: Spec, turn: Turn) -> Record:
    """The record of a step, which stands nowhere yet."""
    spec = store.intern(spec._replace(task=f"{spec.task}.on_{turn.verb}"))
    now_ms = store.now_ms
    record = Record(turn.step_id, spec, turn.payload, State.QUEUED, now_ms, now_ms)
    store.jobs.add((record,))
    store.queues[spec.queue].enqueued_total += 1
    store.totals.enqueued_total += 1
    return record


def completed(store: Store, records: Iterable[Record], applied: Applied) -> None:
    """Jobs have succeeded; those that are steps bring a state and make room for the next."""
    for record in [record for record in records if record.id in store.session_steps]:
        session_id = store.session_steps.pop(record.id)
        job = store.session_jobs[session_id]
        if job.step is not None and job.step.verb == Post.FINISH:
            _remove(store, session_id, applied)
        elif isinstance(record.result, Refused):
            # A value that could not be kept is no state; its handler sees to it before.
            _go_on(store, session_id, job.state)
        else:
            _go_on(store, session_id, record.result)


def ended(store: Store, record: Record, applied: Applied) -> None:
    """A job has ended without success; if it is a step the state stays and the next goes on."""
    session_id = store.session_steps.pop(record.id, None)
    if session_id is None:
        return
    job = store.session_jobs[session_id]
    if job.step is not None and job.step.verb == START:
        _remove(store, session_id, applied)
    else:
        _go_on(store, session_id, job.state)


def _remove(store: Store, session_id: str, applied: Applied) -> None:
    """Forget a session job; steps that still wait are cancelled, each saying why."""
    job = store.session_jobs.pop(session_id)
    for turn in job.mailbox:
        del store.session_steps[turn.step_id]
    for turn in job.mailbox:
        record = _make(store, job.spec, turn)
        text = f"session job {session_id!r} ended before this step"
        record.errors = (("NoSuchJob", text, "", store.now_ms),)
        retention.end_cancelled(store, record, applied)


# ---- snapshots -------------------------------------------------------------------------------

Row = tuple[str, Spec, bytes | None, Turn | None, tuple[Turn, ...]]
"""Id, spec, state, step and mailbox of a session job."""


def row_of(session_id: str, job: SessionJob) -> Row:
    """A session job as plain values."""
    return session_id, *job


def thaw_rows(store: Store, rows: Iterable[Sequence[object]]) -> None:
    """Fill a store from what `row_of` gave, in the order of the starts, after a journey as msgpack.

    Errors: ValueError or TypeError for what it did not give.
    """
    for session_id, spec, state, step, mailbox in rows:
        job = SessionJob(
            store.intern(Spec(*spec)),  # type: ignore[misc]
            state,  # type: ignore[arg-type]
            None if step is None else Turn(*step),  # type: ignore[misc]
            tuple(Turn(*turn) for turn in mailbox),  # type: ignore[attr-defined]
        )
        store.session_jobs[session_id] = job  # type: ignore[index]
        store.session_steps.update(_steps_of(session_id, job))  # type: ignore[arg-type]


def _steps_of(session_id: str, job: SessionJob) -> Iterator[tuple[str, str]]:
    for turn in (*([] if job.step is None else [job.step]), *job.mailbox):
        yield turn.step_id, session_id


# ---- what must hold --------------------------------------------------------------------------


def faults(store: Store) -> Iterator[str]:
    """Name every rule that the session jobs break; O(steps)."""
    steps: dict[str, str] = {}
    for session_id, job in store.session_jobs.items():
        steps.update(_steps_of(session_id, job))
        if job.step is None and job.mailbox:
            yield f"session job {session_id} has steps waiting and none under way"
        if len(job.mailbox) > limits.SESSION_MAILBOX_MAX:
            yield f"session job {session_id} has {len(job.mailbox)} steps waiting"
        if job.state is not None and len(job.state) > limits.CHECKPOINT_BYTES_MAX:
            yield f"session job {session_id} has a state of {len(job.state)} bytes"
        yield from _faults_of_steps(store, session_id, job)
    if steps != store.session_steps:
        yield f"the steps of all session jobs are {steps}, not {store.session_steps}"
    if len(store.session_jobs) > limits.SESSION_JOBS_MAX:
        yield f"{len(store.session_jobs)} session jobs are over {limits.SESSION_JOBS_MAX}"


def _faults_of_steps(store: Store, session_id: str, job: SessionJob) -> Iterator[str]:
    if job.step is not None:
        record = store.jobs.get(job.step.step_id)
        if record is None or record.completed_ms:
            yield f"the step of session job {session_id} is {record!r}"
    for turn in job.mailbox:
        if turn.step_id in store.jobs:
            yield f"step {turn.step_id} waits in a mailbox and is a job"
