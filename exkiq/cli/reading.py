"""`status`, `stats`, `queues`, `jobs`: what is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from exkiq.cli import show
from exkiq.cli.reach import AsJson, Cluster, Reached, Timeout, Url, reached
from exkiq.errors import NoSuchJob
from exkiq.wire.codec import decode_call

QUEUE_COLUMNS = ("queued", "running", "scheduled", "retry", "failed")
JOBS_SHOWN = 50
JOBS_SHOWN_MAX = 1_000  # more is a dump; page through it with --offset


def status(
    url: Url = None, cluster: Cluster = None, timeout: Timeout = 5.0, as_json: AsJson = False
) -> None:
    """Show the cluster, its members, the log and the queues, as one node sees them."""
    with reached(url, cluster, timeout) as node:
        answer = node.ask("status")
    if as_json:
        show.as_json(answer)
        return
    _show_cluster(answer)
    _show_queues(answer["queues"])
    _show_counts(answer["stats"])


def _show_cluster(answer: Mapping[str, Any]) -> None:
    cluster, raft = answer["cluster"], answer["raft"]
    show.facts(
        {
            "cluster": f"{cluster['name']} ({cluster['id']})",
            "leader": cluster["leader"] or "none",
            "term": cluster["term"],
            "commit index": raft["commit_index"],
            "log length": raft["log_length"],
            "state hash": raft["state_hash"],
            "asked": answer["node"],
        }
    )
    show.table(
        "members",
        ("name", "address", "role", "state", "#applied"),
        [
            (each["name"], each["address"], each["role"], each["state"], each["applied"])
            for each in cluster["members"]
        ],
    )


def stats(
    url: Url = None, cluster: Cluster = None, timeout: Timeout = 5.0, as_json: AsJson = False
) -> None:
    """Show how many jobs are in each state, and the totals since the cluster was founded."""
    with reached(url, cluster, timeout) as node:
        answer = node.ask("stats")
    if as_json:
        show.as_json(answer)
    else:
        _show_counts(answer)


def _show_counts(counts: Mapping[str, Any]) -> None:
    show.table("jobs", ("what", "#count"), list(counts.items()))


def queues(
    url: Url = None, cluster: Cluster = None, timeout: Timeout = 5.0, as_json: AsJson = False
) -> None:
    """Show each queue: its jobs by state, whether it is paused, how long its oldest waits."""
    with reached(url, cluster, timeout) as node:
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


def jobs(
    job: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Show this one job, its errors included.")
    ] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", metavar="Q", help="Only jobs of this queue.")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            metavar="STATE",
            help="Only jobs in this state: scheduled, queued, running, retry, succeeded, failed "
            "or cancelled.",
        ),
    ] = None,
    limit: Annotated[
        int,
        typer.Option("--limit", metavar="N", min=1, max=JOBS_SHOWN_MAX, help="At most so many."),
    ] = JOBS_SHOWN,
    offset: Annotated[
        int, typer.Option("--offset", metavar="N", min=0, help="Leave out the first so many.")
    ] = 0,
    url: Url = None,
    cluster: Cluster = None,
    timeout: Timeout = 5.0,
    as_json: AsJson = False,
) -> None:
    """List jobs, or show one job in full."""
    with reached(url, cluster, timeout) as node:
        if job is not None:
            _one_job(node, job, is_json=as_json)
            return
        answer = node.ask("jobs", queue, state, limit, offset)
    if as_json:
        show.as_json([_readable(each) for each in answer])
    else:
        _show_jobs(answer)


def _show_jobs(answer: list[Mapping[str, Any]]) -> None:
    show.table(
        "",
        ("id", "state", "queue", "task", "arguments", "#attempt", "node", "since (UTC)", "error"),
        [
            (
                each["id"],
                each["state"],
                each["queue"],
                each["task"],
                _call_text(each["args"]),
                each["attempt"],
                each["by"],
                show.moment(_since(each)),
                _error_text(each["error"]),
            )
            for each in answer
        ],
    )


def _one_job(node: Reached, job: str, *, is_json: bool) -> None:
    answer = node.ask("job", job)
    if answer is None:
        raise NoSuchJob(f"no job has the id {job}, or its record is gone")
    if is_json:
        show.as_json(_readable(answer))
        return
    shown = {name: value for name, value in answer.items() if name not in ("args", "errors")}
    shown["arguments"] = _call_text(answer["args"])
    shown["error"] = _error_text(answer["error"])
    for name in ("enqueued_at", "run_at", "started_at", "completed_at"):
        shown[name] = show.moment(shown[name])
    show.facts(shown)
    for number, error in enumerate(answer["errors"], 1):
        show.line(f"\nerror {number}: {_error_text(error)}\n{error[2]}")


def _readable(answer: Mapping[str, Any]) -> dict[str, Any]:
    """A job for JSON: its arguments as they were given, not as they were packed."""
    arguments, keywords = decode_call(answer["args"])
    return {**answer, "args": arguments, "kwargs": keywords}


def _call_text(payload: bytes) -> str:
    arguments, keywords = decode_call(payload)
    shown = [repr(value) for value in arguments]
    return ", ".join([*shown, *(f"{name}={value!r}" for name, value in keywords.items())])


def _error_text(error: list[str] | None) -> str | None:
    return None if error is None else f"{error[0]}: {error[1]}"


def _since(job: Mapping[str, Any]) -> int | None:
    """When the job came into its state, as far as its times tell."""
    if job["state"] in ("scheduled", "retry"):
        at_ms = job["run_at"]
    else:
        at_ms = job["completed_at"] or job["started_at"] or job["enqueued_at"]
    return at_ms if isinstance(at_ms, int) else None
