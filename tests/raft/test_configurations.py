"""Who may elect whom while lists of voters differ: two majorities must always meet."""

from __future__ import annotations

from pathlib import Path

from exkiq.machine import Machine, MemberChange
from exkiq.raft import Journal
from exkiq.raft.membership import encode_change
from exkiq.raft.snapshot_file import no_pause, write
from tests.raft.test_non_voters import admit, change, founded
from tests.raft.world import THREE, World, world


def split(w: World, *parts: tuple[str, ...]) -> None:
    """Members have links to those of their own part and to nobody else."""
    together = {(one, other) for part in parts for one in part for other in part}
    w.cut = {(one, other) for one in w.members for other in w.members} - together
    for one, other in w.cut:
        w.members[one].replica.peer_down(other)


def join(w: World) -> None:
    """All links are up again."""
    cut, w.cut = w.cut, set()
    for one, other in cut:
        w.members[one].replica.peer_up(other)


def test_who_is_demoted_and_does_not_know_it_elects_nobody_by_its_own_vote() -> None:
    """Its list has two voters: with its own vote one of them would do, while the other one goes
    on with a voter that it never heard of. Both halves would confirm jobs.
    """
    with world() as w:
        founded(w)
        leader = w.leader()
        demoted, third = (name for name in THREE if name != leader.name)
        admit(w, "n4")
        its = w.members[demoted].replica
        w.filter = lambda _, to, message: (
            None if to == demoted and demoted not in its.voters else message
        )
        change(w, "demote", demoted)
        w.filter = None
        assert (demoted in its.voters, its.machine.members[demoted].role) == (False, "voter")
        split(w, (leader.name, "n4"), (demoted, third))
        newest = leader.journal.last_index
        leader.replica.change_members(MemberChange("promote", "n4"))
        w.run(5.0)
        assert leader.replica.machine.members["n4"].role == "voter"
        answers = [w.enqueue(w.members[name], 1, timeout=2.0) for name in (leader.name, demoted)]
        w.run(3.0)
        assert its.commit_index <= newest
        assert type(answers[0].value).__name__ not in {"NoQuorum", "OutcomeUnknown"}
        assert type(answers[1].value).__name__ in {"NoQuorum", "OutcomeUnknown"}
        join(w)
        w.run_until(w.settled)
        assert not [error for member in w.members.values() for error in member.failures]


def test_a_new_node_elects_nobody_by_the_name_of_a_former_one() -> None:
    """A voter that was replaced meanwhile counts on a voter that is no more: of its list the new
    node has the name, and no log that would make it refuse.
    """
    with world() as w:
        founded(w)
        leader = w.leader()
        replaced, lost = (name for name in THREE if name != leader.name)
        admit(w, "n4")
        split(w, (leader.name, lost, "n4"), (replaced,))
        for verb, name in (("promote", "n4"), ("remove", replaced)):
            change(w, verb, name)
        w.kill(lost)
        change(w, "remove", lost)
        leader.replica.change_members(MemberChange("admit", lost, "h:new", "i-new"))
        w.run_until(lambda: lost in leader.replica.machine.members)
        w.cut |= {(one, other) for one in (leader.name, "n4") for other in (replaced, lost)}
        w.start(lost, (leader.name, "n4"))
        split(w, (leader.name, "n4"), (replaced, lost))
        w.run(5.0)
        assert not w.members[replaced].replica.is_leader
        assert leader.replica.is_leader
        join(w)
        w.run_until(lambda: w.members[lost].replica.machine.index == leader.replica.applied_index)


def test_a_change_in_a_log_that_a_snapshot_replaces_does_not_count(tmp_path: Path) -> None:
    """A crash between the two leaves both: the node would go on with a member that is in no log."""
    noop = b"\x01"
    journal = Journal(tmp_path / "journal")
    for index, term in ((1, 0), (2, 1), (3, 3)):
        journal.add(noop, index, term)
    journal.add(encode_change(MemberChange("admit", "n4", "h:1", "i")), 4, 3)
    journal.setCurrentTerm(4, None)
    journal.close()
    write(tmp_path / "snapshot", (noop, 2, 1), (noop, 3, 4), Machine().capture(), no_pause)
    with world() as w:
        made = w.start("n1", THREE, tmp_path)
        w.run(0.1)
        assert made.journal.last_index == 3
        assert (made.replica.voters, made.replica.non_voters) == (set(THREE), set())


def test_a_change_waits_for_one_of_an_earlier_turn_that_was_forgotten() -> None:
    """Whoever leads again in the same turn takes its own change for one of another leader: two
    at once can make two majorities that do not meet.
    """
    with world() as w:
        w.start("n1", ("n1",))
        leader = w.leader().replica
        for name in ("n2", "n3"):
            leader.change_members(MemberChange("admit", name))
        w.run(0.5)
        assert leader.non_voters == {"n2", "n3"}
        leader.change_members(MemberChange("promote", "n2"))
        newer = {"type": "next_node_idx", "next_node_idx": 1, "reset": False, "success": False}
        leader.receive("n2", [1, {**newer, "term": leader.term + 1, "seq": 0}])
        w.run_until(lambda: "n2" in leader.voters)
        assert leader.is_leader
        leader.change_members(MemberChange("promote", "n3"))
        w.run(0.2)
        assert leader.voters == {"n1", "n2"}
