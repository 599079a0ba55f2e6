"""Seeded worlds: whatever the links and crashes do, one cluster is founded and all end in it.

A failing seed is repeated by `World(seed, expects, rates).run(...)`.
"""

from __future__ import annotations

from tests.discovery.founding_world import Rates, World

CALM = Rates()
BROKEN_LINKS = Rates(drop=0.1)
CRASHES = Rates(drop=0.05, crash_at_effect=0.05, crashes_max=6)
MANY_CRASHES = Rates(drop=0.05, crash_at_effect=0.3, crashes_max=10)
GAPS = Rates(slow_link=0.4)
GAPS_AND_CRASHES = Rates(
    slow_link=0.3, drop=0.02, crash_at_effect=0.2, crashes_max=4, down_ms=(100, 25_000)
)
ONE_LOST_DISK = Rates(crash_at_effect=0.1, crashes_max=4, forgets_disk=0.5, forgets_max=1)


def run(seed: int, expects: dict[str, int], rates: Rates) -> World:
    world = World(seed, expects, rates)
    world.run(120_000, stop=lambda: world.all_settled and not (world.is_rough and rates.drop))
    return world


def nodes(count: int, expect: int) -> dict[str, int]:
    return {f"n{number}": expect for number in range(1, count + 1)}


def assert_one_end(world: World, seed: int) -> None:
    """All nodes run in one cluster."""
    states = [(n.name, n.machine and n.machine.waits_for, n.disk) for n in world.nodes.values()]
    assert world.all_settled, f"seed {seed}: {states}"
    assert len({node.started_in for node in world.nodes.values()}) == 1, f"seed {seed}: {states}"


def assert_one_cluster(world: World, seed: int) -> None:
    """All nodes run in one cluster, and there never was another."""
    assert_one_end(world, seed)
    assert len(world.ids) == 1, f"seed {seed}: {world.ids}"
    assert len(world.founders) == 1, f"seed {seed}: {world.founders}"


def test_three_at_the_same_instant() -> None:
    """Broken: two clusters, or none, when links come up in any order and messages are slow."""
    for seed in range(300):
        world = run(seed, nodes(3, expect=3), CALM)
        assert_one_cluster(world, seed)
        assert world.founders == ["n1"], f"seed {seed}"
        assert world.now_ms < 10_000, f"seed {seed}: it took {world.now_ms} ms"


def test_three_with_crashes_and_broken_links() -> None:
    """Broken: a founding that a crash between any two effects tears apart or stops for good."""
    for rates in (BROKEN_LINKS, CRASHES, MANY_CRASHES):
        for seed in range(60):
            assert_one_cluster(run(seed, nodes(3, expect=3), rates), seed)


def test_more_nodes_than_expected() -> None:
    """Broken: two founders at once, each with some of the promises, or both waiting for ever.

    In the gaps a pair does not find each other for up to 25 s, so that several nodes take
    themselves for the smallest.
    """
    for seed in range(100):
        assert_one_cluster(run(seed, nodes(4, expect=3), GAPS), seed)
        assert_one_cluster(run(seed, nodes(5, expect=3), GAPS), seed)


def test_more_nodes_than_expected_and_crashes() -> None:
    """Broken: a crashed candidate comes back to a cluster beside its own, or blocks all."""
    for seed in range(60):
        assert_one_cluster(run(seed, nodes(4, expect=3), GAPS_AND_CRASHES), seed)
        assert_one_cluster(run(seed, nodes(5, expect=3), GAPS_AND_CRASHES), seed)


def test_a_node_that_loses_its_disk_while_founding() -> None:
    """Broken: promises to a founder that forgot everything bind for ever, or nobody."""
    for seed in range(150):
        assert_one_end(run(seed, nodes(4, expect=3), ONE_LOST_DISK), seed)


def test_three_that_would_each_found_alone() -> None:
    """Broken: islands, although the links were up before anybody had waited long enough."""
    calm = Rates(link_ms=(1, 2_500), skew_ms=(0, 400))
    for seed in range(200):
        assert_one_cluster(run(seed, nodes(3, expect=1), calm), seed)


def test_two_whose_link_comes_up_as_both_stop_waiting() -> None:
    """Broken: one sees the link a moment before the other, and both found alone."""
    late = Rates(link_ms=(2_500, 2_990), skew_ms=(0, 600), delay_ms=(1, 300))
    linked = 0
    for seed in range(300):
        world = run(seed, nodes(2, expect=1), late)
        if world.first_up_ms is not None and world.first_up_ms < world.join_wait_ms:
            linked += 1
            assert_one_cluster(world, seed)
    assert linked > 100, "the test looks at nothing"


def test_three_that_would_each_found_alone_with_broken_links() -> None:
    """Broken: a link that breaks in the wrong moment makes an island."""
    for seed in range(150):
        assert_one_cluster(run(seed, nodes(3, expect=1), BROKEN_LINKS), seed)


def test_the_same_seed_makes_the_same_world() -> None:
    """Broken: a failing seed that cannot be repeated."""
    first, again = (run(7, nodes(5, expect=3), CRASHES) for _ in range(2))
    assert (first.now_ms, first.messages, first.ids) == (again.now_ms, again.messages, again.ids)
