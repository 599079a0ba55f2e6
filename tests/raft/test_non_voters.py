"""Members that do not vote: they have everything, they count for nothing, they can be promoted."""

from __future__ import annotations

from pathlib import Path

import pytest

from exkiq.machine import Member, MemberChange, commands
from exkiq.raft.membership import Roles, decode_change, encode_change, follow_changes
from tests.raft.world import THREE, Answer, World, many, pid, three, world
from tests.raft.world import Member as Replicating


def founded(w: World, folder: Path | None = None) -> None:
    three(w, folder)
    rows = [(name, f"h:{name}", f"i-{name}") for name in THREE]
    answer = Answer()
    w.leader().replica.propose(commands.found(pid(999), "c1", rows), 5.0, answer.set)
    w.run_until(lambda: answer.is_there)


def admit(w: World, name: str, folder: Path | None = None) -> Replicating:
    """Have `name` follow as a non-voter, with everything applied."""
    leader = w.leader()
    leader.replica.change_members(MemberChange("admit", name, f"h:{name}", f"i-{name}"))
    w.run_until(lambda: name in leader.replica.non_voters)
    if folder is not None:
        (folder / name).mkdir(exist_ok=True)
    made = w.start(name, THREE, None if folder is None else folder / name)
    w.run_until(lambda: name in made.replica.machine.members and w.settled())
    return made


def change(w: World, verb: str, name: str) -> None:
    leader = w.leader()
    before = leader.replica.machine.members[name]
    leader.replica.change_members(MemberChange(verb, name, before.address, before.incarnation))
    w.run_until(lambda: leader.replica.machine.members.get(name) != before)


def test_a_non_voter_has_everything_and_counts_for_nothing() -> None:
    """With its answer counted, a job would be acknowledged that a majority does not have."""
    with world() as w:
        founded(w)
        leader = w.leader()
        made, other = admit(w, "n4"), admit(w, "n5")
        many(w, leader, range(5))
        w.run_until(w.settled)
        assert made.replica.machine.members["n4"].role == "non-voter"
        assert made.replica.voters == leader.replica.voters == set(THREE)
        for name in THREE:
            if name != leader.name:
                w.isolate(name)
        for name in (leader.name, "n4", "n5"):
            w.cut -= {(name, to) for to in (leader.name, "n4", "n5")}
        answer = w.enqueue(leader, 9, timeout=1.0)
        w.run(1.5)
        assert made.journal.last_index == other.journal.last_index == leader.journal.last_index
        assert answer.is_there
        assert type(answer.value).__name__ in {"NoQuorum", "OutcomeUnknown"}


@pytest.mark.parametrize("how", ["cut", "killed"])
def test_a_non_voter_never_campaigns(how: str) -> None:
    """It would lead a cluster whose voters are merely out of its sight."""
    with world() as w:
        founded(w)
        made = admit(w, "n4")
        for name in THREE:
            w.kill(name) if how == "killed" else w.isolate(name)
        term = made.replica.term
        w.run(5.0)
        assert (made.replica.term, made.replica.is_leader) == (term, False)
        asked = {m[1]["type"] for sender, _, m in w.sent if sender == "n4" and m[0] == 1}
        assert not asked & {"pre_vote", "request_vote"}


def test_who_knows_of_no_voter_does_not_elect_itself() -> None:
    """Half through its log a new member may read a list of voters that is empty but for a node
    that is gone; alone with it, it would begin a second history.
    """
    with world() as w:
        made = w.start("n4", ())
        w.run(5.0)
        assert (made.replica.is_leader, made.replica.term) == (False, 0)


def test_a_leader_s_call_does_not_make_a_non_voter_campaign() -> None:
    """It was a voter a moment ago, and the call was under way."""
    with world() as w:
        founded(w)
        leader = w.leader()
        made = admit(w, "n4")
        made.replica.receive(leader.name, [1, {"type": "timeout_now", "term": leader.replica.term}])
        w.run(2.0)
        assert w.leader() is leader


def test_a_promoted_member_counts_and_can_lead() -> None:
    with world() as w:
        founded(w)
        admit(w, "n4")
        change(w, "promote", "n4")
        w.run_until(w.settled)
        for name in THREE:
            assert w.members[name].replica.voters == {*THREE, "n4"}
        w.leader().replica.transfer_leadership("n4")
        w.run_until(lambda: w.members["n4"].replica.is_leader)
        many(w, w.members["n4"], range(3))


def test_a_demoted_member_follows_on_and_its_going_costs_nothing() -> None:
    """Its vote would still be waited for."""
    with world() as w:
        founded(w)
        leader = w.leader()
        name = next(name for name in THREE if name != leader.name)
        admit(w, "n4")
        change(w, "demote", name)
        many(w, leader, range(2))
        w.run_until(w.settled)
        assert leader.replica.voters == set(THREE) - {name}
        change(w, "promote", "n4")
        w.kill(name)
        w.kill("n4")
        many(w, leader, range(2))


def test_a_non_voter_far_behind_gets_a_snapshot_and_then_the_log() -> None:
    with world() as w:
        founded(w)
        leader = w.leader()
        many(w, leader, range(20))
        leader.replica._engine.forceLogCompaction()
        w.run(0.5)
        assert leader.journal.first_index > 2
        admit(w, "n4")
        many(w, leader, range(3))
        w.run_until(w.settled)


def test_roles_outlive_a_restart_and_a_snapshot(tmp_path: Path) -> None:
    """A non-voter that comes back as a voter would count twice in no majority at all."""
    with world() as w:
        founded(w, tmp_path)
        admit(w, "n4", tmp_path)
        for is_compacted in (False, True):
            if is_compacted:
                for member in w.members.values():
                    member.replica._engine.forceLogCompaction()
                w.run(0.5)
                assert (tmp_path / "n4" / "snapshot").is_file()
            for name in (*THREE, "n4"):
                w.kill(name)
            for name in (*THREE, "n4"):
                w.start(name, THREE, tmp_path / name)
            for member in w.members.values():
                assert member.replica.voters == set(THREE)
                assert member.replica.non_voters == {"n4"}
            many(w, w.leader(), range(2))
            w.run_until(w.settled)


def test_a_promotion_that_is_cut_off_the_log_is_undone() -> None:
    """Whoever kept it would count with another majority than everybody else."""
    with world() as w:
        founded(w)
        leader = w.leader()
        made = admit(w, "n4")
        for name in THREE:
            if name != leader.name:
                w.cut |= {(name, leader.name), (leader.name, name)}
                w.cut |= {(name, "n4"), ("n4", name)}
        member = leader.replica.machine.members["n4"]
        leader.replica.change_members(
            MemberChange("promote", "n4", member.address, member.incarnation)
        )
        w.run_until(lambda: "n4" in made.replica.voters and "n4" in leader.replica.voters)
        w.run(2.0)
        w.heal()
        many(w, w.leader(), range(2))
        w.run_until(w.settled)
        for each in w.members.values():
            assert (each.replica.voters, each.replica.non_voters) == (set(THREE), {"n4"})


def test_a_demotion_that_only_the_demoted_has_does_not_stop_a_cluster() -> None:
    """The one with the longest log could not lead, and nobody else would be elected."""
    with world() as w:
        founded(w)
        leader = w.leader()
        demoted, third = (name for name in THREE if name != leader.name)
        admit(w, "n4")
        change(w, "promote", "n4")
        w.run_until(w.settled)
        w.cut |= {(leader.name, third), (leader.name, "n4")}
        leader.replica.change_members(MemberChange("demote", demoted))
        w.run_until(lambda: demoted not in w.members[demoted].replica.voters)
        assert third in leader.replica.voters
        assert demoted in w.members[third].replica.voters
        w.kill(leader.name)
        w.heal()
        w.run_until(lambda: demoted not in w.members[third].replica.voters)
        w.start(leader.name, THREE)
        w.run_until(lambda: w.leader().name != demoted, 20.0)
        many(w, w.leader(), range(2))


# ---- pure ------------------------------------------------------------------------------------


def entries(*changes: MemberChange) -> list[tuple[bytes, int, int]]:
    return [(encode_change(each), number, 1) for number, each in enumerate(changes, 2)]


def test_roles_follow_the_log_and_go_back_with_it() -> None:
    roles = Roles(frozenset({"a"}))
    seen = [roles]
    changes = [MemberChange(verb, "b") for verb in ("admit", "promote", "demote", "dismiss")]
    for each in changes:
        seen.append(seen[-1].after(each))
    assert [each.role("b") for each in seen] == [None, "non-voter", "voter", "non-voter", None]
    assert follow_changes(roles, entries(*changes)) == roles
    for before, each, after in zip(seen, changes, seen[1:], strict=False):
        assert after.before(each) == before


@pytest.mark.parametrize(
    ("role", "wish", "exact"),
    [
        (None, "add", "add"),
        (None, "admit", "admit"),
        (None, "promote", None),
        (None, "remove", None),
        ("non-voter", "add", "promote"),
        ("non-voter", "admit", None),
        ("non-voter", "remove", "dismiss"),
        ("non-voter", "demote", None),
        ("voter", "add", None),
        ("voter", "admit", None),
        ("voter", "promote", None),
        ("voter", "dismiss", "remove"),
    ],
)
def test_a_wish_becomes_the_change_that_can_be_undone(
    role: str | None, wish: str, exact: str | None
) -> None:
    """An entry that says less than happened could not be cut off the log again."""
    members = [] if role is None else [Member("b", "h:1", "i", role)]
    found = Roles().of(members).exact(MemberChange(wish, "b"))
    assert (None if found is None else found.verb) == exact


def test_what_a_former_node_of_our_name_was_is_not_about_us() -> None:
    """Half through its log a new node would elect itself by a list of members of long ago."""
    ours = Roles(frozenset({"a"}), frozenset(), "b", "second")
    log = [
        MemberChange("admit", "b", "h:1", "first"),
        MemberChange("promote", "b", "h:1", "first"),
        MemberChange("remove", "a"),
    ]
    assert follow_changes(ours, entries(*log)).voters == set()
    theirs = Roles(frozenset({"a"}), frozenset(), "c", "x")
    assert follow_changes(theirs, entries(*log)).voters == {"b"}
    later = MemberChange("admit", "b", "h:2", "second")
    assert follow_changes(ours, entries(*log, later)).non_voters == {"b"}


def test_an_entry_is_what_it_was() -> None:
    for verb in ("add", "admit", "promote", "demote", "remove", "dismiss"):
        wanted = MemberChange(verb, "n", "h:1", "i")
        assert decode_change(encode_change(wanted)) == wanted
