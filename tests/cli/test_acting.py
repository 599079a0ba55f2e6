"""What `pause`, `resume`, `retry`, `cancel` and `cluster` ask for, and how they end."""

from __future__ import annotations

import json

import pytest

from exkiq.errors import NoQuorum, NotRunning
from exkiq.machine.commands import Op
from tests.cli.pretend import MEMBERS, STATUS


def test_pause_and_resume_name_each_queue(node, run):
    """A queue would go on, or stay paused, and the operator not know."""
    node.answers |= {Op.PAUSE: [True, False], Op.RESUME: [True, False]}
    ran = run("pause", "emails", "slow")
    assert ran.code == 0
    assert ran.out == "emails: paused\nslow: was paused already\n"
    ran = run("resume", "emails", "slow")
    assert ran.out == "emails: resumed\nslow: was not paused\n"
    assert [asked for asked in node.asked if isinstance(asked[0], int)] == [
        (Op.PAUSE, "emails"),
        (Op.PAUSE, "slow"),
        (Op.RESUME, "emails"),
        (Op.RESUME, "slow"),
    ]


@pytest.mark.parametrize(
    ("arguments", "operation"),
    [
        (["a", "b"], (Op.RETRY, ["a", "b"], None)),
        (["--queue", "emails"], (Op.RETRY, None, "emails")),
        (["--all"], (Op.RETRY, None, None)),
    ],
)
def test_retry_takes_ids_a_queue_or_all(arguments, operation, node, run):
    """Other jobs than those named would run again."""
    node.answers[Op.RETRY] = 2
    ran = run("retry", *arguments)
    assert (ran.code, ran.out) == (0, "2 jobs run again\n")
    assert node.asked[1] == operation


def test_retry_of_a_job_that_has_not_failed(node, run):
    """A script would believe that the job runs again."""
    node.answers[Op.RETRY] = 1
    ran = run("retry", "a", "b", "b")
    assert (ran.code, ran.out) == (1, "1 job runs again\n")
    assert "1 of the 2 jobs" in ran.err


def test_cancel_says_what_became_of_each(node, run):
    """A running job would be believed to be cancelled."""
    node.answers[Op.CANCEL] = ["ok", "in_progress", "not_found", "ok"]
    ran = run("cancel", "a", "b", "c")
    assert (ran.code, ran.out) == (1, "a: cancelled\n")
    assert "b: runs already" in ran.err
    assert "c: ended already, or no such job" in ran.err
    assert run("cancel", "d").code == 0
    assert (Op.CANCEL, "d", False) in node.asked


def test_cancel_asks_a_running_job_to_stop_when_told_so(node, run):
    """A job that runs away could only be ended with its node."""
    node.answers[Op.CANCEL] = ["stopping", "ok"]
    ran = run("cancel", "--running", "a", "b")
    assert (ran.code, ran.out) == (0, "a: runs, and is asked to stop\nb: cancelled\n")
    assert (Op.CANCEL, "a", True) in node.asked


def test_remove_names_the_member(node, run):
    """Another member would be removed, or none and nobody told."""
    node.answers |= {"status": STATUS, "cluster_remove": None}
    ran = run("cluster", "remove", "n2")
    assert (ran.code, ran.out) == (0, "n2 is no member any more\n")
    assert ("cluster_remove", "n2", False) in node.asked
    ran = run("cluster", "remove", "n9")
    assert (ran.code, ran.out) == (1, "")
    assert "'n9'" in ran.err


def test_leave_goes_by_name(node, run):
    """A repeated question would let the next node leave as well."""
    node.answers |= {"status": STATUS, "cluster_remove": None}
    assert run("cluster", "leave").out == "n1 has left the cluster\n"
    assert ("cluster_remove", "n1", False) in node.asked


def test_a_removal_that_was_done_when_asked_again_is_done(node, run):
    """The member is gone, and the command would say that it failed."""
    node.answers |= {"status": STATUS, "cluster_remove": NotRunning("no member is named 'n2'")}
    assert run("cluster", "remove", "n2").code == 0


def test_a_removal_without_a_majority_fails(node, run):
    """An operator would start to reuse the machine."""
    node.answers |= {"status": STATUS, "cluster_remove": NoQuorum("no majority")}
    ran = run("cluster", "remove", "n2")
    assert (ran.code, ran.out) == (1, "")


def test_the_only_member_is_not_removed(node, run):
    """The operator would wait for something that cannot be, and learn nothing."""
    cluster = {**STATUS["cluster"], "members": MEMBERS[:1]}
    node.answers["status"] = {**STATUS, "cluster": cluster}
    for arguments in (("remove", "n1"), ("leave",)):
        ran = run("cluster", *arguments)
        assert (ran.code, ran.out) == (1, "")
        assert "stop it instead" in ran.err


def test_transfer_goes_to_a_member_by_name(node, run):
    """A question repeated for want of an answer would move leadership twice."""
    member = {**MEMBERS[1], "state": "alive", "applied": 5}
    ahead = {**member, "name": "n3", "applied": 7}
    lost = {**member, "name": "n4", "state": "lost", "applied": 9}
    no_voter = {**member, "name": "n6", "role": "non-voter", "applied": 9}
    members = [MEMBERS[0], member, ahead, lost, no_voter]
    cluster = {**STATUS["cluster"], "members": members}
    node.answers |= {"status": {**STATUS, "cluster": cluster}, "cluster_transfer": None}
    assert run("cluster", "transfer", "n2").out == "n2 leads\n"
    assert run("cluster", "transfer").out == "n3 leads\n"
    assert [asked for asked in node.asked if asked[0] == "cluster_transfer"] == [
        ("cluster_transfer", "n2"),
        ("cluster_transfer", "n3"),
    ]


def test_changes_of_members_as_json(node, run):
    """A script would have to read sentences."""
    alive = [{**member, "state": "alive"} for member in MEMBERS]
    cluster = {**STATUS["cluster"], "members": alive}
    node.answers |= {"status": {**STATUS, "cluster": cluster}}
    node.answers |= {"cluster_remove": None, "cluster_transfer": None}
    assert json.loads(run("cluster", "remove", "n2", "--json").out) == {"removed": "n2"}
    assert json.loads(run("cluster", "leave", "--json").out) == {"left": "n1"}
    assert json.loads(run("cluster", "transfer", "--json").out) == {"leader": "n2"}


def test_transfer_needs_somebody_else(node, run):
    """A cluster of one would wait for a leader that cannot be."""
    node.answers["status"] = STATUS  # n2 is lost
    ran = run("cluster", "transfer")
    assert (ran.code, ran.out) == (1, "")
    assert "no other member that votes is alive" in ran.err
