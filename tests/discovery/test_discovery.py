"""The shell: three nodes with pretended links settle, on disk before on the wire."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from exkiq.clock import SystemClock
from exkiq.discovery import Discovery, Facts, Member, Membership, MemoryFoundingStore, Search
from exkiq.discovery.founding import LOOK_MS


@dataclass
class Hello:
    name: str
    address: str
    incarnation: str
    cluster_id: str


@dataclass
class PretendedLink:
    peer: Hello
    near: PretendedMesh
    far: PretendedMesh

    def send(self, message: list[Any]) -> bool:
        loop = asyncio.get_running_loop()
        loop.call_soon(self.far.receive, self.near.name, message)
        return True


@dataclass
class PretendedMesh:
    name: str
    hub: dict[str, PretendedMesh]
    links: dict[str, PretendedLink] = field(default_factory=dict)
    sighted: list[str] = field(default_factory=list)
    announced: int = 0
    discovery: Discovery | None = None

    @property
    def hello(self) -> Hello:
        cluster_id = self.discovery.cluster_id if self.discovery else ""
        return Hello(self.name, f"127.0.0.1:{self.name}", "1", cluster_id)

    def sight(self, address: str) -> None:
        self.sighted.append(address)
        far = next((m for m in self.hub.values() if m.hello.address == address), None)
        if far is None or far is self or far.name in self.links:
            return
        for near, other in ((self, far), (far, self)):
            link = near.links[other.name] = PretendedLink(other.hello, near, other)
            assert near.discovery is not None
            near.discovery.link_up(link)

    def forget(self, address: str) -> None:
        self.sighted.remove(address)

    def announce(self) -> None:
        self.announced += 1
        for link in self.links.values():
            back = link.far.links[self.name]
            back.peer = self.hello
            assert link.far.discovery is not None
            link.far.discovery.link_changed(back)

    def receive(self, name: str, message: list[Any]) -> None:
        assert self.discovery is not None
        if name in self.links:
            self.discovery.message(self.links[name], message)


def search(name: str, expect: int, peers: tuple[str, ...]) -> Search:
    return Search(
        own=Member(name, f"127.0.0.1:{name}", "1"),
        expect=expect,
        join_wait=0.05,
        peers=peers,
        mdns=False,
    )


def make(
    names: str, expect: int, hub: dict[str, PretendedMesh], store: Any = None
) -> list[Discovery]:
    nodes = []
    for name in names:
        mesh = hub[name] = PretendedMesh(name, hub)
        mesh.discovery = Discovery(
            search(name, expect, tuple(f"127.0.0.1:{other}" for other in names if other != name)),
            mesh=mesh,
            store=store or MemoryFoundingStore(),
            clock=SystemClock(),
            new_id=lambda name=name: f"id-of-{name}",
        )
        nodes.append(mesh.discovery)
    return nodes


async def settle(nodes: list[Discovery]) -> list[Membership]:
    async with asyncio.timeout(5):
        found = await asyncio.gather(*(node.settle() for node in nodes))
    for node in nodes:
        await node.stop()
        await node.stop()
    return found


def test_three_settle_in_one_cluster() -> None:
    """Broken: the pure parts decide and nobody carries it out."""
    hub: dict[str, PretendedMesh] = {}

    async def scenario() -> list[Membership]:
        return await settle(make("123", 3, hub))

    found = asyncio.run(scenario())
    assert {"id-of-1"} == {membership.cluster_id for membership in found}
    assert [membership.is_founder for membership in found] == [True, False, False]
    assert tuple(member.name for member in found[2].members) == ("1", "2", "3")
    assert [mesh.announced for mesh in hub.values()] == [1, 1, 1], "hellos must tell the news"


def test_alone_settles_at_once() -> None:
    """Broken: a node without peers or mDNS waits for nobody."""

    async def scenario() -> tuple[list[Membership], float]:
        started = asyncio.get_running_loop().time()
        found = await settle(make("1", 1, {}))
        return found, asyncio.get_running_loop().time() - started

    found, took = asyncio.run(scenario())
    assert found[0].is_founder
    assert took < 0.1


def test_who_names_peers_and_no_patience_gives_them_time_all_the_same() -> None:
    """Broken: `--peer` with `--join-wait 0` silently founds a second cluster beside the first."""
    own = Member("n", "127.0.0.1:1", "1")
    assert Search(own=own, join_wait=0, peers=("127.0.0.1:2",)).look_ms == LOOK_MS
    assert Search(own=own, join_wait=3, peers=("127.0.0.1:2",)).look_ms == 3000
    assert Search(own=own, join_wait=0, expect=3, peers=("127.0.0.1:2",)).look_ms == 0
    assert Search(own=own, join_wait=3, mdns=False).look_ms == 0
    assert Search(own=own, join_wait=0).look_ms == 0


def test_a_cluster_of_its_own_beside_named_peers_is_loud(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken: an operator with a wrong `--peer` believes that the node has joined."""
    monkeypatch.setattr("exkiq.discovery.discovery.LOOK_MS", 10)
    asyncio.run(settle(make("12", 1, {})[:1]))
    assert "this node has a cluster of its own: no cluster answered at 127.0.0.1:2" in caplog.text


def test_a_used_node_starts_with_what_it_saved() -> None:
    """Broken: a restarted node waits for others before it starts its own cluster's Raft."""
    members = (Member("1", "127.0.0.1:1", "1"), Member("2", "10.0.0.2:5", "1"))
    store = MemoryFoundingStore(Facts("old", members, "2"))
    hub: dict[str, PretendedMesh] = {}

    async def scenario() -> list[Membership]:
        return await settle(make("1", 1, hub, store))

    assert [Membership("old", members, is_founder=False)] == asyncio.run(scenario())
    assert hub["1"].sighted == ["10.0.0.2:5"], "it looks for its members where they were"


def test_a_disk_that_refuses_stops_the_node_before_it_speaks() -> None:
    """Broken: a cluster is founded that its founder will not remember."""

    class FullDisk(MemoryFoundingStore):
        def save(self, facts: Facts) -> None:
            raise OSError(28, "No space left on device")

    hub: dict[str, PretendedMesh] = {}

    async def scenario() -> None:
        with pytest.raises(OSError, match="No space"):
            await settle(make("1", 1, hub, FullDisk()))

    asyncio.run(scenario())
    assert hub["1"].announced == 0
    assert hub["1"].hello.cluster_id == ""
