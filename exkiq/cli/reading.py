"""`status`, `stats`, `queues`, `jobs`: what is there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from exkiq.cli import show
from exkiq.cli.reach import AsJson, Node, Way, asks_a_node
from exkiq.errors import ConfigError, NoSuchJob
from exkiq.inspect import AttemptError, JobStatus, decoded
from exkiq.machine import State
from exkiq.queue_handle import Pages

QUEUE_COLUMNS = ("queued", "running", "scheduled", "retry", "failed")
TOTAL_COLUMNS = {
    "#enqueued": "enqueued_total",
    "#succeeded": "succeeded_total",
    "#failed": "failed_total",
    "#retried": "retried_total",
    "#cancelled": "cancelled_total",
    "#lost": "lost_total",
}
RATE_COLUMNS = {"#last minute": "per_second_1m", "#last 5 minutes": "per_second_5m"}
TIME_COLUMNS = {
    "#count": "count",
    "#mean": "mean_ms",
    "#p50": "p50_ms",
    "#p95": "p95_ms",
    "#max": "max_ms",
}
FRESH_MS = 500  # some heartbeats; an election has not begun yet
JOBS_SHOWN = 50
JOBS_SHOWN_MAX = 10_000  # more is a dump; page through it with --offset
PAGE_JOBS_MAX = 100  # of one answer: far below what fits a frame, unless arguments are large


@asks_a_node
def status(way: Way, as_json: AsJson = False) -> None:
    """Show the cluster, its members and its queues.

    As the node that is asked sees them, also without a majority.
    """
    with way.node() as node:
        answer = node.ask("status")
    said = {job: decoded(value) for job, value in answer.get("progress", {}).items()}
    if as_json:
        show.as_json(answer | {"progress": said})
        return
    _show_cluster(answer)
    show_members(answer["cluster"]["members"])
    _show_queues(answer["queues"])
    _show_counts(answer["stats"])
    if said:
        show.table("progress", ("job", "says"), list(said.items()), whole=("job",))


def _show_cluster(answer: Mapping[str, Any]) -> None:
    cluster, raft = answer["cluster"], answer["raft"]
    show.facts(
        {
            "cluster": f"{cluster['name']} ({cluster['id'] or 'not founded or joined yet'})",
            "leader": cluster["leader"] or "none",
            "term": cluster["term"],
            "as of": _age(raft["age_ms"]),
            "commit index": raft["commit_index"],
            "log length": raft["log_length"],
            "state hash": raft["state_hash"],
            "asked": answer["node"],
        }
    )


def _age(age_ms: int | None) -> str:
    if age_ms is None:
        return "no leader heard yet"
    return "now" if age_ms < FRESH_MS else f"{age_ms / 1000:.1f} s ago, no leader heard since"


def show_members(members: Sequence[Mapping[str, Any]]) -> None:
    """Who belongs to the cluster, and how far each has come in the log."""
    columns = ("name", "address", "role", "state", "applied")
    show.table(
        "members",
        (*columns[:-1], "#applied"),
        [[each[name] for name in columns] for each in members],
    )


@asks_a_node
def stats(way: Way, as_json: AsJson = False) -> None:
    """Show how many jobs are in each state, and what queues have done.

    Waiting is from when a job could start until it did, running that of each attempt; half of
    the jobs took up to p50, all but one in twenty up to p95.
    """
    with way.node() as node:
        counts, queues = node.ask("stats"), node.ask("queues")
    if as_json:
        show.as_json(counts | {"queues": queues})
        return
    _show_counts(counts)
    for title, columns in (("totals", TOTAL_COLUMNS), ("ended per second", RATE_COLUMNS)):
        show.table(title, ("queue", *columns), _figures(queues, columns))
    for which, title in (("waited", "waiting, in ms"), ("ran", "running, in ms")):
        times = {name: queue.get(which, {}) for name, queue in queues.items()}
        show.table(title, ("queue", *TIME_COLUMNS), _figures(times, TIME_COLUMNS))


def _figures(
    queues: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str]
) -> list[tuple[object, ...]]:
    """A row for each queue, with these of its figures; a node of an older version has fewer."""
    return [
        (name, *(queue.get(key) for key in columns.values()))
        for name, queue in sorted(queues.items())
    ]


def _show_counts(counts: Mapping[str, Any]) -> None:
    show.table("jobs", ("what", "#count"), list(counts.items()))


@asks_a_node
def queues(way: Way, as_json: AsJson = False) -> None:
    """Show each queue with its jobs by state."""
    with way.node() as node:
        answer = node.ask("queues")
    if as_json:
        show.as_json(answer)
    else:
        _show_queues(answer)


def _show_queues(answer: Mapping[str, Mapping[str, Any]]) -> None:
    show.table(
        "queues",
        ("queue", *(f"#{state}" for state in QUEUE_COLUMNS), "paused", "#waiting ms"),
        [
            (name, *(queue[state] for state in QUEUE_COLUMNS), queue["paused"], queue["latency_ms"])
            for name, queue in sorted(answer.items())
        ],
    )


@asks_a_node
def jobs(
    way: Way,
    job: Annotated[str | None, typer.Argument(metavar="ID", hidden=True)] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", metavar="Q", help="Only jobs of this queue.")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state", metavar="STATE", help=f"Only jobs in this state: {', '.join(State)}."
        ),
    ] = None,
    limit: Annotated[
        int,
        typer.Option("--limit", metavar="N", min=1, max=JOBS_SHOWN_MAX, help="At most so many."),
    ] = JOBS_SHOWN,
    offset: Annotated[
        int, typer.Option("--offset", metavar="N", min=0, help="Leave out the first so many.")
    ] = 0,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="FIELD=VALUE",
            help="Only jobs whose field has this whole value, as `--json` names it; repeatable.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, or show the one job ID in full, its errors included."""
    if state is not None and state not in list(State):
        raise ConfigError(f"--state: {state!r} is not one of {', '.join(State)}")
    is_chosen = _chooser(where) if where else None
    with way.node() as node:
        if job is None:
            found = _listed(node, queue, state, limit, offset, is_chosen)
            _show_jobs(found, is_json=as_json)
        else:
            _show_job(_found(node, job), is_json=as_json)


def _listed(  # noqa: PLR0913, RUF100 (one parameter for each option)
    node: Node,
    queue: str | None,
    state: str | None,
    limit: int,
    offset: int,
    is_chosen: Callable[[JobStatus], bool] | None,
) -> list[JobStatus]:
    # of chosen jobs the first ones are left out here: a node counts all of them
    left_out = offset if is_chosen else 0
    pages = Pages(
        state,
        limit + left_out,
        is_chosen,
        offset=offset - left_out,
        page_max=PAGE_JOBS_MAX,
    )
    while pages.want:
        pages.add(node.ask(*pages.question(queue)))
    return pages.found[left_out:]


def _chooser(where: Sequence[str]) -> Callable[[JobStatus], bool]:
    """Whether a job has these values, each compared as the text that a person would type."""
    wanted = dict(each.partition("=")[::2] for each in where)
    names = [field.name for field in dataclasses.fields(JobStatus)]
    for each in where:
        name = each.partition("=")[0]
        if "=" not in each or name not in names:
            raise ConfigError(
                f"--where: {each!r} is not FIELD=VALUE with one of {', '.join(names)}"
            )
    return lambda job: all(_typed(job, name) == value for name, value in wanted.items())


def _typed(job: JobStatus, name: str) -> str:
    value = getattr(job, name)
    if name == "args":
        return ", ".join(map(repr, value))
    if name == "error":
        return _error_text(value) or ""
    return "" if value is None else str(value)


def _found(node: Node, job: str) -> JobStatus:
    answer = node.ask("job", job)
    if answer is None:
        raise NoSuchJob(f"no job has the id {job}, or its record is gone")
    return JobStatus.of(answer)


def _show_jobs(found: list[JobStatus], *, is_json: bool) -> None:
    if is_json:
        show.as_json([dataclasses.asdict(each) for each in found])
        return
    columns = NARROW_JOB_COLUMNS if show.is_narrow() else tuple(JOB_COLUMNS)
    rows = [[JOB_COLUMNS[name](each) for name in columns] for each in found]
    show.table("", columns, rows, whole=("id", "state", "since (UTC)"))


def _show_job(found: JobStatus, *, is_json: bool) -> None:
    if is_json:
        show.as_json(dataclasses.asdict(found))
        return
    facts = dataclasses.asdict(found)
    del facts["kwargs"], facts["errors"]
    facts |= {"args": _call_text(found), "error": _error_text(found.error)}
    for name, value in facts.items():
        facts[name] = show.moment(value) if isinstance(value, datetime) else value
    show.facts(facts)
    for number, error in enumerate(found.errors, 1):
        show.line(f"\nerror {number}: {_error_text(error)}\n{error.traceback}")


def _call_text(job: JobStatus) -> str:
    keywords = (f"{name}={value!r}" for name, value in job.kwargs.items())
    return ", ".join([*map(repr, job.args), *keywords])


def _error_text(error: AttemptError | None) -> str | None:
    return None if error is None else f"{error.type}: {error.message}"


def _since(job: JobStatus) -> datetime | None:
    """When the job came into its state, as far as its times tell."""
    if job.state in (State.SCHEDULED, State.RETRY):
        return job.run_at
    return job.completed_at or job.started_at or job.enqueued_at


JOB_COLUMNS: dict[str, Callable[[JobStatus], object]] = {
    "id": lambda job: job.id,
    "state": lambda job: job.state,
    "queue": lambda job: job.queue,
    "task": lambda job: job.task,
    "arguments": _call_text,
    "#attempt": lambda job: job.attempt,
    "node": lambda job: job.by,
    "since (UTC)": lambda job: show.moment(_since(job)),
    "error": lambda job: _error_text(job.error),
    "progress": lambda job: job.progress,
}
NARROW_JOB_COLUMNS = ("id", "state", "queue", "task", "error")  # the rest: by id, or as JSON
