"""Two nodes find each other on loopback; what strangers announce is worth nothing."""

from __future__ import annotations

import asyncio
import logging

import pytest
from zeroconf import ServiceStateChange
from zeroconf.asyncio import AsyncServiceInfo

from exkiq.discovery.mdns import SERVICE, Announced, Mdns, make_tag, sightings_of
from exkiq.discovery.sighting import Sighting

SECRET = b"a secret"


def announced(name: str, address: str, cluster: str = "default") -> Announced:
    return Announced(
        cluster=cluster, name=name, incarnation="1", address=address, protocol_version=1
    )


def info(host: str = "127.0.0.1", port: int = 7000, **texts: str | bytes) -> AsyncServiceInfo:
    said: dict[str, str | bytes] = {
        "cluster": "default",
        "node": "a",
        "tag": make_tag("default", "a", 7000, None),
    }
    return AsyncServiceInfo(
        SERVICE,
        f"a.{SERVICE}",
        port=port,
        server="a.local.",
        parsed_addresses=[host],
        properties=said | texts,
    )


class Seen:
    """Collects sightings and tells when both nodes have been seen."""

    def __init__(self) -> None:
        self.sightings: set[Sighting] = set()
        self.both = asyncio.Event()

    def __call__(self, sighting: Sighting) -> None:
        self.sightings.add(sighting)
        if {"mdns-a", "mdns-b"} <= {seen.name for seen in self.sightings}:
            self.both.set()


def test_two_nodes_find_each_other() -> None:
    """Broken: mDNS on loopback, or it takes longer than a node waits before it founds alone."""

    async def scenario() -> tuple[Seen, Seen, float]:
        loop = asyncio.get_running_loop()
        first, second = Seen(), Seen()
        nodes = [
            Mdns(
                announced(name, f"127.0.0.1:{port}"),
                interfaces=["127.0.0.1"],
                secret=SECRET,
                on_sighting=seen,
            )
            for seen, name, port in ((first, "mdns-a", 7001), (second, "mdns-b", 7002))
        ]
        started = loop.time()
        try:
            for node in nodes:
                assert await node.start()
            async with asyncio.timeout(3):
                await first.both.wait()
                await second.both.wait()
            took = loop.time() - started
        finally:
            for node in nodes:
                await node.stop()
                await node.stop()
        return first, second, took

    first, second, took = asyncio.run(scenario())
    a = Sighting("mdns-a", "127.0.0.1:7001", "default")
    b = Sighting("mdns-b", "127.0.0.1:7002", "default")
    assert {a, b} <= first.sightings
    assert {a, b} <= second.sightings
    assert took < 2


def test_no_multicast_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Broken: a node does not start where there is no multicast."""

    async def scenario() -> bool:
        # a documentation address, which no interface of this machine has
        node = Mdns(
            announced("a", "127.0.0.1:7001"),
            interfaces=["198.51.100.7"],
            secret=None,
            on_sighting=lambda _: None,
        )
        return await node.start()

    with caplog.at_level(logging.WARNING, "exkiq"):
        assert asyncio.run(scenario()) is False
    assert "mDNS is off" in caplog.text


def test_a_good_announcement() -> None:
    """Broken: nothing is ever found."""
    assert [Sighting("a", "127.0.0.1:7000", "default")] == sightings_of(info(), None)


@pytest.mark.parametrize(
    "bad",
    [
        info(port=7001),
        info(port=0),
        info(host="8.8.8.8"),
        info(tag="0" * 32),
        info(tag="\u00e4"),
        info(tag=b"\xff"),
        info(node="b"),
        info(cluster="other"),
        info(node=""),
        info(node="a\n"),
        info(node=b"a" * 230),
    ],
)
def test_bad_announcements_are_worth_nothing(bad: AsyncServiceInfo) -> None:
    """Broken: a stranger's packet raises in the loop, or sends the cluster dialling."""
    assert sightings_of(bad, None) == []


def test_another_secret_is_another_cluster() -> None:
    """Broken: nodes dial whoever uses the same names, only to be refused for ever."""
    tagged = info(tag=make_tag("default", "a", 7000, SECRET))
    assert sightings_of(tagged, SECRET)
    assert sightings_of(tagged, b"another") == []
    assert sightings_of(tagged, None) == []


def test_a_goodbye_is_nothing_to_hear() -> None:
    """Broken: anybody on the network can make a cluster forget, or doubt, its members."""
    seen: list[Sighting] = []
    mdns = Mdns(
        announced("b", "127.0.0.1:7001"),
        interfaces=["127.0.0.1"],
        secret=None,
        on_sighting=seen.append,
    )

    class Cache:
        cache = None

    mdns._heard(Cache(), SERVICE, f"a.{SERVICE}", ServiceStateChange.Removed)  # type: ignore[arg-type]
    assert seen == []


def test_while_a_secret_is_replaced_both_are_heard() -> None:
    """Broken: half-way through a rotation the nodes do not find each other."""
    old, new = b"o" * 32, b"n" * 32
    tagged = info(tag=make_tag("default", "a", 7000, old))
    assert sightings_of(tagged, new + b"\n" + old)
    assert sightings_of(tagged, new) == []
    mdns = Mdns(
        announced("a", "127.0.0.1:7000"),
        interfaces=["127.0.0.1"],
        secret=old + b"\n" + new,
        on_sighting=lambda _: None,
    )
    assert sightings_of(mdns._service_info(), old)
    assert sightings_of(mdns._service_info(), new) == []


def test_the_announcement_gives_nothing_away() -> None:
    """Broken: the secret, or the address of an unusable bind, is told to everybody."""
    mdns = Mdns(
        announced("n.1 \u00e4", "0.0.0.0:7001"),
        interfaces=["192.168.1.5"],
        secret=SECRET,
        on_sighting=lambda _: None,
    )
    made = mdns._service_info()
    assert made.parsed_addresses() == ["192.168.1.5"]
    assert SECRET not in made.text
    assert made.properties[b"node"] == "n.1 \u00e4".encode()
    assert made.name.startswith("n-1---")
