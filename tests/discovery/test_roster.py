"""Which addresses are dialled, and who is fresh."""

from __future__ import annotations

from exkiq.discovery.effects import Forget, Sight
from exkiq.discovery.facts import Member
from exkiq.discovery.roster import ADDRESSES_OF_A_NAME_MAX, SIGHTINGS_MAX, Peer, Roster
from exkiq.discovery.sighting import Sighting, is_near
from exkiq.discovery.static import static_sightings


def roster() -> Roster:
    return Roster(Member("me", "127.0.0.1:1", "1"), "default")


def seen(name: str, port: int, cluster: str = "default") -> Sighting:
    return Sighting(name, f"127.0.0.1:{port}", cluster)


def test_a_sighting_is_dialled() -> None:
    """Broken: nodes that announce themselves are never linked; a second word wakes the dialler."""
    r = roster()
    assert [Sight("127.0.0.1:5")] == r.sighted(seen("a", 5))
    assert [Sight("127.0.0.1:5")] == r.sighted(seen("a", 5))
    assert r.addresses == ("127.0.0.1:5",)


def test_ourselves_and_other_clusters_are_not_dialled() -> None:
    """Broken: a node dials itself, or the nodes of every cluster on the network."""
    r = roster()
    for sighting in (seen("me", 1), seen("me", 9), seen("x", 1), seen("a", 5, "other")):
        assert r.sighted(sighting) == []


def test_a_flood_is_bounded_and_moves_no_peer() -> None:
    """Broken: invented nodes fill the memory, or push out the address of a linked one."""
    r = roster()
    r.pin(["10.0.0.1:1"])
    r.sighted(seen("real", 5))
    r.link_up(Peer(Member("real", "127.0.0.1:5", "1"), ""))
    forgotten = [
        effect
        for port in range(100, 2_000)
        for effect in r.sighted(seen(f"x{port}", port))
        if isinstance(effect, Forget)
    ]
    assert len(r.addresses) == SIGHTINGS_MAX
    assert {"10.0.0.1:1", "127.0.0.1:5"} <= set(r.addresses)
    assert forgotten[0] == Forget("127.0.0.1:100"), "the oldest goes first"


def test_one_name_has_few_addresses() -> None:
    """Broken: somebody who knows a name makes the cluster dial whatever he likes."""
    r = roster()
    r.sighted(seen("real", 5))
    r.link_up(Peer(Member("real", "127.0.0.1:5", "1"), ""))
    for port in range(100, 200):
        r.sighted(seen("real", port))
    assert len(r.addresses) == ADDRESSES_OF_A_NAME_MAX
    assert "127.0.0.1:5" in r.addresses


def test_no_room_means_no_more() -> None:
    """Broken: a full roster of pinned addresses raises, or forgets one of them."""
    r = roster()
    r.pin(f"10.0.0.1:{port}" for port in range(1, SIGHTINGS_MAX + 1))
    assert r.sighted(seen("a", 5)) == []
    assert len(r.addresses) == SIGHTINGS_MAX


def test_fresh_and_founded() -> None:
    """Broken: a founded node is asked to help found, or a fresh one to take somebody in."""
    r = roster()
    for name, cluster_id in (("b", ""), ("a", ""), ("z", "x")):
        r.link_up(Peer(Member(name, f"h:{name}", "1"), cluster_id))
    assert [peer.name for peer in r.fresh()] == ["a", "b"]
    assert [peer.name for peer in r.founded()] == ["z"]
    r.note_founded("a", "x")
    assert [peer.name for peer in r.founded()] == ["a", "z"]
    r.link_down("b")
    r.link_down("b")
    assert r.fresh() == []
    assert r.smaller_fresh("z") is None


def test_static_peers_are_sighted_once_each() -> None:
    """Broken: a peer named twice is dialled twice."""
    sightings = static_sightings(["h:1", "g:2", "h:1"], "default")
    assert (Sighting("", "h:1", "default"), Sighting("", "g:2", "default")) == sightings


def test_only_near_hosts() -> None:
    """Broken: an announcement makes the cluster connect to a machine on the internet."""
    near = ("127.0.0.1", "::1", "10.1.2.3", "192.168.0.9", "169.254.1.1", "fe80::1", "fe80::1%eth0")
    assert [host for host in near if is_near(host)] == list(near)
    anywhere = "0.0.0.0"  # noqa: S104
    far = (anywhere, "8.8.8.8", "2001:4860:4860::8888", "::", "224.0.0.251", "example.org", "")
    assert [host for host in far if is_near(host)] == []
