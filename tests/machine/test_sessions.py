"""Sessions, members, terms, and the cluster's id."""

from __future__ import annotations

import pytest

from exkiq.machine import (
    Machine,
    Member,
    MemberChange,
    Refused,
    commands,
    encode_snapshot,
    limits,
)
from tests.machine.driver import MAIL, Driver


def test_a_session_begins_once_for_a_run():
    """A repeated begin must not give back what the run is working on."""
    driver = Driver()
    session = driver.begin("n1", "run1")
    assert session == driver.machine.index
    assert driver.applied.begun == [("n1", session)]
    driver.add("a")
    driver.take(session, "a")
    assert driver.session_begin("n1", "run1", "elsewhere:2") == session
    assert driver.applied.begun == driver.applied.over == []
    assert driver.machine.sessions["n1"].address == "elsewhere:2"
    assert driver.count("running") == [1]


def test_another_run_ends_the_earlier_one_first():
    """HG-06: a restarted node gives back at once what its earlier run was running."""
    driver = Driver()
    old = driver.begin("n1", "run1")
    driver.add("a", "b")
    fence = driver.take(old, "a")
    new = driver.begin("n1", "run2")
    assert new > old
    assert driver.applied.over == [("n1", old)]
    assert driver.applied.begun == [("n1", new)]
    assert driver.waiting() == ["a", "b"]
    assert (driver.job("a").lost, driver.job("a").failures) == (1, 0)
    assert driver.complete(old, ["a"], [fence]) == 0
    assert driver.count("stale_completions", "lost_total") == [1, 1]


def test_sessions_of_one_entry_have_different_numbers():
    """A report names its session by number alone."""
    driver = Driver()
    ops = [commands.session_begin(driver.pid(), node, "r", "x:1") for node in ("n1", "n2", "n3")]
    numbers = driver.entry(*ops)
    assert numbers == [1, 2, 3]
    assert driver.begin("n4") == 4
    driver.add("a")
    driver.add("b")
    driver.add("c")
    assert driver.begin("n5") == driver.machine.index


@pytest.mark.parametrize(("is_orderly", "lost"), [(True, 0), (False, 1)])
def test_a_session_that_is_over_gives_its_jobs_back(is_orderly, lost):
    """EX-23: counted as lost, unless the node said goodbye."""
    driver = Driver()
    session = driver.begin()
    driver.add("a", "b")
    driver.take(session, "a")
    assert driver.session_over("n1", session, is_orderly=is_orderly) == 1
    assert driver.applied.over == [("n1", session)]
    assert driver.job("a").lost == lost
    assert driver.waiting() == ["a", "b"]
    assert driver.machine.sessions == driver.machine.sessions_by_id == {}
    assert driver.session_over("n1", session, is_orderly=is_orderly) == 0
    assert driver.applied.over == []


def test_jobs_lost_too_often_fail_with_their_session():
    """A job that kills its nodes must not do so for ever."""
    driver = Driver()
    driver.add("killer", "good", spec=MAIL._replace(max_lost=0))
    session = driver.begin()
    driver.take(session, "killer")
    driver.session_over("n1", session, is_orderly=False)
    assert list(driver.machine.failed) == ["killer"]
    assert [record.id for record in driver.applied.ended] == ["killer"]
    assert driver.waiting() == ["good"]


def test_another_number_does_not_end_the_session():
    """A late word about an earlier life of the node."""
    driver = Driver()
    old = driver.begin("n1", "run1")
    new = driver.begin("n1", "run2")
    assert driver.session_over("n1", old, is_orderly=False) == 0
    assert driver.machine.sessions["n1"].id == new


def test_the_number_of_sessions_is_bounded(monkeypatch):
    """Names that change at every start must not pile up."""
    monkeypatch.setattr(limits, "SESSIONS_MAX", 1)
    driver = Driver()
    driver.begin("n1")
    assert isinstance(driver.session_begin("n2", "r", "x:1"), Refused)
    assert driver.begin("n1", "again") > 0


def test_words_of_a_former_leader_are_refused():
    """H14: only the leader of the present term hands out, promotes and declares over."""
    driver = Driver()
    session = driver.begin()
    driver.add("a")
    driver.term = 5
    driver.add("b")
    driver.term = 4
    for refused in (
        driver.claim([("n1", session, ["a"])]),
        driver.due(),
        driver.session_over("n1", session, is_orderly=True),
    ):
        assert isinstance(refused, Refused)
        assert "stale_term" in refused.text
    assert driver.machine.term == 5
    assert driver.add("c") == [1, []]
    driver.term = 5
    assert driver.claim([("n1", session, ["a"])]) == 1


def test_members_come_and_go():
    """The list of members is changed by committed changes alone."""
    driver = Driver()
    machine = driver.machine
    machine.apply_member(1, MemberChange("add", "n1", "a:1", "i1"))
    machine.apply_member(2, MemberChange("add", "n2", "b:1", "i2"))
    machine.apply_member(3, MemberChange("remove", "n1"))
    machine.apply_member(3, MemberChange("remove", "n2"))
    machine.apply_member(4, MemberChange("unheard", "n2"))
    assert machine.members == {"n2": Member("n2", "b:1", "i2")}
    assert machine.index == 4
    driver.begin("n2")
    assert driver.address("n2", "c:9") is True
    assert driver.address("n2", "c:9") is False
    assert machine.members["n2"] == Member("n2", "c:9", "i2")
    assert machine.sessions["n2"].address == "c:9"
    assert isinstance(driver.address("n1", "c:9"), Refused)


def test_a_cluster_is_founded_once():
    """Two founders must be noticed."""
    driver = Driver()
    assert driver.found("one", [("n1", "a:1", "i1")]) is True
    assert driver.found("one", [("n2", "a:2", "i2")]) is False
    assert driver.found("two").kind == "ClusterMismatch"
    assert driver.machine.cluster_id == "one"
    assert driver.machine.members == {"n1": Member("n1", "a:1", "i1")}


def test_a_vote_comes_and_goes_and_the_address_stays():
    """A node that moved while it was promoted would be dialled where nobody is."""
    driver = Driver()
    machine = driver.machine
    machine.apply_member(1, MemberChange("admit", "n1", "a:1", "i1"))
    assert machine.members["n1"] == Member("n1", "a:1", "i1", "non-voter")
    machine.members["n1"] = Member("n1", "b:2", "i1", "non-voter")  # as ADDRESS does
    machine.apply_member(2, MemberChange("promote", "n1", "a:1", "i1"))
    assert machine.members["n1"] == Member("n1", "b:2", "i1", "voter")
    machine.apply_member(3, MemberChange("demote", "n1", "a:1", "i1"))
    assert machine.members["n1"] == Member("n1", "b:2", "i1", "non-voter")
    again = Machine.restore(encode_snapshot(machine.capture()))
    assert again.members == machine.members
    machine.apply_member(4, MemberChange("dismiss", "n1"))
    assert machine.members == {}
