"""What `status`, `stats`, `queues`, `jobs` and `cluster members` show."""

from __future__ import annotations

import json

from exkiq.cli import show
from exkiq.errors import NoSuchJob
from tests.cli.pretend import MEMBERS, QUEUE, STATUS, job_map


def words(text: str) -> str:
    return " ".join(text.split())


def test_status_shows_members_log_and_queues(node, run):
    """An operator could not see who leads, who is lost, and what waits."""
    node.answers["status"] = STATUS
    ran = run("status")
    assert (ran.code, ran.err) == (0, "")
    text = words(ran.out)
    for fact in (
        "cluster default (c0ffee)",
        "leader n1",
        "term 3",
        "as of 4.2 s ago, no leader heard since",
        "commit index 9",
        "log length 4",
        "n1 127.0.0.1:1 leader alive 9",
        "n2 127.0.0.1:2 follower lost -",
        "emails 1 2 3 4 5 yes 1,234",
        "succeeded 12,345",
    ):
        assert fact in text, fact


def test_status_as_json_is_what_the_node_said(node, run):
    """A program would have to guess at other names than the documented ones."""
    node.answers["status"] = STATUS
    assert json.loads(run("status", "--json").out) == STATUS


def test_stats_queues_and_members(node, run):
    """Tables or JSON would leave something out."""
    node.answers |= {"stats": STATUS["stats"], "queues": {"emails": QUEUE}, "status": STATUS}
    text = words(run("stats").out)
    assert "succeeded 12,345" in text
    assert "emails 61 62 63 64 65 66" in text
    assert "emails 1.25 0.50" in text
    assert "emails 71 72 73 74 75" in text
    assert "emails 81 82 83 84 85" in text
    told = json.loads(run("stats", "--json").out)
    assert told == {**STATUS["stats"], "queues": {"emails": QUEUE}}
    assert "emails 1 2 3 4 5 yes 1,234" in words(run("queues").out)
    assert json.loads(run("queues", "--json").out) == {"emails": QUEUE}
    assert "n2 127.0.0.1:2 follower lost" in words(run("cluster", "members").out)
    assert json.loads(run("cluster", "members", "--json").out) == MEMBERS


def test_numbers_stay_whole_on_a_narrow_terminal(node, run, monkeypatch):
    """On 80 columns heads and figures would be broken into pieces, a few letters a line."""
    monkeypatch.setattr(show, "PIPE_COLUMNS", 80)
    name = "a-queue-with-a-long-name"
    queue = {**QUEUE, "enqueued_total": 1_234_567, "succeeded_total": 1_234_567}
    node.answers |= {"stats": STATUS["stats"], "queues": {name: queue}}
    text = run("stats").out
    for whole in ("enqueued", "succeeded", "cancelled", "1,234,567", "last 5 minutes", name[:9]):
        assert whole in text, whole
    assert "waiting ms" in run("queues").out
    assert max(map(len, text.splitlines())) <= 80


def test_jobs_are_listed_with_arguments_and_error(node, run):
    """Someone would see that jobs failed, and not which, nor why."""
    node.answers["jobs"] = [[job_map()]]
    ran = run("jobs", "--queue", "default", "--state", "failed", "--limit", "7", "--offset", "3")
    assert node.asked[1] == ("jobs", "default", "failed", 7, 3)
    text = words(ran.out)
    assert "job-1 failed default" in text
    assert "'http://example.org', depth=2" in text
    assert "ValueError: not a safe address" in text
    assert "2023-11-14 22:13:22" in text


def test_long_lists_come_in_pages(node, run):
    """A list of large jobs would be over the bytes of one frame and never come."""
    node.answers["jobs"] = [[job_map()] * 100, [job_map()] * 100, [job_map()] * 5]
    ran = run("jobs", "--limit", "250", "--json")
    assert len(json.loads(ran.out)) == 205
    assert [asked[3:] for asked in node.asked[1:4]] == [(100, 0), (100, 100), (50, 200)]


def test_one_job_in_full(node, run):
    """The traceback of a failed attempt could not be read anywhere."""
    node.answers["job"] = job_map()
    text = run("jobs", "job-1").out
    assert "error 2: ValueError: not a safe address" in text
    assert "Traceback ..." in text
    assert "completed_at  2023-11-14 22:13:22" in text
    told = json.loads(run("jobs", "job-1", "--json").out)
    assert told["args"] == ["http://example.org"]
    assert told["kwargs"] == {"depth": 2}
    assert told["completed_at"] == "2023-11-14T22:13:22+00:00"
    assert told["error"] == ["ValueError", "not a safe address", job_map()["error"][2]]


def test_a_job_that_is_not_there(node, run):
    """An empty page would pass for a job without facts."""
    node.answers["job"] = None
    ran = run("jobs", "nope")
    assert (ran.code, ran.out) == (1, "")
    assert "nope" in ran.err
    node.answers["job"] = NoSuchJob("no job nope")
    assert run("jobs", "nope").code == 1


def test_markup_and_escapes_of_jobs_are_text(node, run):
    """Arguments or errors of jobs could hide or colour what the operator sees."""
    node.answers["jobs"] = [[job_map(error=["E", "[red]\x1b[2Jevil[/red]", ""], queue="[b]q")]]
    text = run("jobs").out
    assert "[b]q" in text
    assert "[red]" in text
    assert "\x1b" not in text


def test_bytes_in_arguments_have_a_place_in_json(node, run):
    """One job with bytes would make the whole list unreadable for programs."""
    from exkiq.wire.codec import encode_call

    node.answers["jobs"] = [[job_map(args=encode_call((b"\xff",), {}))]]
    told = json.loads(run("jobs", "--json").out)
    assert told[0]["args"] == [{"base64": "/w=="}]


def test_what_running_jobs_say_is_shown(node, run):
    """Nobody could see how far a long job is."""
    from exkiq.wire.codec import encode_value

    said = {"job-1": encode_value({"done": 3, "of": 4})}
    node.answers |= {"status": {**STATUS, "progress": said}}
    assert "job-1 {'done': 3, 'of': 4}" in words(run("status").out)
    told = json.loads(run("status", "--json").out)
    assert told["progress"] == {"job-1": {"done": 3, "of": 4}}
    node.answers["job"] = job_map(state="running", progress=encode_value("half"))
    assert "progress half" in words(run("jobs", "job-1").out)
    node.answers["jobs"] = [[job_map(state="running", progress=encode_value("half"))]]
    assert json.loads(run("jobs", "--json").out)[0]["progress"] == "half"


def test_jobs_are_chosen_by_whole_fields(node, run):
    """An operator would look through thousands for those of one node or one argument."""
    from exkiq.wire.codec import encode_call

    page = [
        job_map(id="1", by="n1"),
        job_map(id="2", by="n2", args=encode_call(("x", 1), {})),
        job_map(id="3", by="n2", attempt=1),
    ]

    def chosen(*arguments):
        node.answers["jobs"] = [list(page)]
        return [job["id"] for job in json.loads(run("jobs", "--json", *arguments).out)]

    assert chosen("--where", "by=n2") == ["2", "3"]
    assert chosen("--where", "by=n2", "--offset", "1", "--limit", "5") == ["3"]
    assert chosen("--where", "by=n2", "--where", "attempt=1") == ["3"]
    assert chosen("--where", "by=n") == []
    assert chosen("--where", "args='x', 1") == ["2"]
    assert chosen("--where", "error=ValueError: not a safe address") == ["1", "2", "3"]
    for wrong in ("by", "node=n2", "=n2"):
        ran = run("jobs", "--where", wrong)
        assert (ran.code, ran.out) == (2, "")
        assert "--where" in ran.err
        assert "by" in ran.err
