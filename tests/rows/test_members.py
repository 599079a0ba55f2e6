"""Membership for life: nodes beyond five voters, places that are taken, addresses that change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import exkiq
from exkiq import errors
from exkiq.raft import unused_folder
from tests.cluster.harness import free_ports, until
from tests.rows.jobs import Hold, Plain, ledger
from tests.rows.nodes import Group, make_node

FIVE = ("m1", "m2", "m3", "m4", "m5")


@pytest.fixture(scope="module")
def sextet(surroundings: Path) -> Iterator[Group]:
    """Five voters that run nothing but m4, and a sixth that joined them; all on disk."""
    each = {name: {"concurrency": 0} for name in ("m1", "m2", "m3", "m5")}
    group = Group(
        FIVE, cluster="rows-six", folder=surroundings, each=each, concurrency=2, drain_timeout=0.2
    ).start()
    group.ports["m6"] = free_ports(1)[0]
    group._options["bootstrap_expect"] = 1
    group.bring_up("m6")
    yield group
    group.stop()


def roles(group: Group, name: str = "m1") -> dict[str, str]:
    members: list[dict[str, Any]] = group.nodes[name].status()["cluster"]["members"]
    return {member["name"]: member["role"] for member in members}


def test_EX_22_the_sixth_follows_and_works_and_does_not_vote(sextet: Group, tmp_path: Path) -> None:
    """It was refused, and its machine stood idle."""
    sextet.use()
    until(sextet.agrees, 5.0, "six members everywhere")
    found = roles(sextet, "m6")
    assert sorted(found.values()) == ["follower"] * 4 + ["leader", "non-voter"]
    assert found["m6"] == "non-voter"
    assert roles(sextet) == found
    with sextet.client_of("m6") as client:
        exkiq.client.use(client)
        gate = tmp_path / "gate"
        jobs = Hold.perform_bulk([(str(gate),)] * 4)
        until(lambda: [job.status().by for job in jobs].count("m6") == 2, 5.0, "two on m6")
        gate.touch()
        assert [job.result(timeout=10) for job in jobs]
    sextet.use()
    with pytest.raises(errors.Refused, match="m6 does not vote"):
        sextet.client.request("cluster_transfer", "m6")


def test_EX_22_a_removed_voter_hands_back_its_jobs_and_the_sixth_votes(
    sextet: Group, tmp_path: Path
) -> None:
    """Its jobs would wait until it counts as lost, and four votes would be left of five."""
    sextet.use()
    gate = tmp_path / "gate"
    jobs = Hold.perform_bulk([(str(gate),)] * 4)
    until(lambda: [job.status().state for job in jobs] == ["running"] * 4, 5.0, "all run")
    assert _lost(sextet) == 0
    gone = sextet.nodes["m4"]
    with sextet.client_of("m1") as client:
        client.request("cluster_remove", "m4", False, timeout=20.0)
    until(lambda: roles(sextet) == roles(sextet, "m6"), 5.0, "one view")
    until(lambda: roles(sextet)["m6"] in ("follower", "leader"), 5.0, "the sixth votes")
    gate.touch()
    assert [job.result(timeout=10) for job in jobs]
    assert _lost(sextet) == 0
    starts = [row[1] for row in ledger() if row[1] in {job.id for job in jobs}]
    assert {starts.count(job.id) for job in jobs} == {1, 2}
    until(lambda: _says_why(gone), 5.0, "its end")
    del sextet.nodes["m4"], sextet.ports["m4"]
    gone.stop()


def _lost(group: Group) -> int:
    lost: int = group.client.request("status")["stats"]["lost_total"]
    return lost


def _says_why(node: exkiq.Node) -> bool:
    try:
        node.status()
    except errors.NotRunning as error:
        return "told to leave" in str(error)
    return False


def test_EX_22_a_lost_voter_is_removed_and_a_lost_majority_is_not_made(sextet: Group) -> None:
    """A member that never comes back would count for ever; one too many removed stops all."""
    sextet.take_down("m5")
    until(lambda: sextet.nodes["m1"].leader, 5.0, "a leader")
    with sextet.client_of("m1") as client:
        until(lambda: _state(sextet, "m5") == "lost", 5.0, "that it is seen")
        with pytest.raises(errors.Refused, match="m5 is lost, so it cannot lead"):
            client.request("cluster_transfer", "m5")
        client.request("cluster_remove", "m5", False, timeout=10.0)
        assert "m5" not in roles(sextet)
        with pytest.raises(errors.UnsupportedOperation, match="Start a lost voter again"):
            client.request("cluster_remove", "m3", True)
    del sextet.ports["m5"]


def _state(group: Group, name: str) -> str:
    members = group.nodes["m1"].status()["cluster"]["members"]
    state: str = next(member["state"] for member in members if member["name"] == name)
    return state


def test_C_02_a_member_comes_back_at_another_address(sextet: Group) -> None:
    """The others would dial where nobody is, and it could not be found after their restart."""
    sextet.take_down("m3")
    sextet.ports["m3"] = port = free_ports(1)[0]
    node = sextet.bring_up("m3")
    place = f"127.0.0.1:{port}"
    assert node.address == place
    for name in ("m1", "m2", "m6"):
        until(lambda name=name: _address(sextet, name) == place, 5.0, "the new address")
        until(lambda name=name: place in _told(sextet, name), 5.0, "that clients are told")
    with sextet.client_of("m3") as client:
        assert {member["name"] for member in client.request("status")["cluster"]["members"]} == {
            "m1", "m2", "m3", "m6",
        }  # fmt: skip


def _told(group: Group, name: str) -> list[str]:
    return group.nodes[name]._participant().server._addresses


def _address(group: Group, name: str) -> str:
    members = group.nodes[name].status()["cluster"]["members"]
    address: str = next(member["address"] for member in members if member["name"] == "m3")
    return address


def test_C_04_an_unused_island_joins_the_cluster_it_meets(surroundings: Path) -> None:
    """Two clusters of one name would stand beside each other until somebody deletes a folder."""
    here, there = (f"127.0.0.1:{port}" for port in free_ports(2))
    options = {"cluster": "rows-island", "concurrency": 0, "drain_timeout": 0}
    folder = surroundings / "island"
    used = make_node("b1", bind=there, data_dir=folder / "b1", **options)
    with used, exkiq.Client(f"exkiq://{there}") as client:
        client.propose(exkiq.machine.commands.declare(b"x" * 12, ["kept"]), "a queue")
        exkiq.client.use(client)
        job = Plain.set(queue="nowhere").perform_async(1)
        exkiq.client.use(None)
    island = make_node("b2", bind=here, data_dir=folder / "b2", peers=[there], **options)
    with island:
        assert island.members == ["b2"]
        with make_node("b1", bind=there, data_dir=folder / "b1", **options) as used:
            until(lambda: used.members == ["b1", "b2"], 10.0, "one cluster")
            until(lambda: island.members == ["b1", "b2"], 10.0, "that the island knows")
            with exkiq.Client(f"exkiq://{here}") as client:
                assert client.job(job.id).status().state == "queued"
            kept = [path for path in folder.iterdir() if ".unused-" in path.name]
            assert [(path / "journal").is_file() for path in kept] == [True]


def test_C_04_what_cannot_be_moved_aside_is_not_given_up(tmp_path: Path) -> None:
    """A node would stop for good half-way, or write over what it had put aside before."""
    folder = tmp_path / "b2"
    folder.mkdir()
    aside = unused_folder(folder, "c1")
    assert aside == tmp_path / "b2.unused-c1"
    aside.mkdir()
    assert unused_folder(folder, "c1") is None
    assert unused_folder(Path("/"), "c1") is None
    assert unused_folder(None, "c1") is None
