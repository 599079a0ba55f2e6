"""Who yields when two founded clusters meet."""

from __future__ import annotations

from itertools import product

from exkiq.discovery.island import Island, island_of, should_yield
from exkiq.wire.hello import Hello

ISLANDS = [
    Island(cluster, cluster_id, members, has_held_jobs)
    for cluster, cluster_id, members, has_held_jobs in product(
        ("default", "other"), ("a", "b"), (1, 3), (False, True)
    )
]


def test_only_a_single_node_without_jobs_yields() -> None:
    """Broken: jobs, or the copies of a cluster, are thrown away."""
    yielding = [own for own, other in product(ISLANDS, ISLANDS) if should_yield(own, other)]
    assert yielding
    assert all(own.members == 1 and not own.has_held_jobs for own in yielding)


def test_never_both() -> None:
    """Broken: both drop their log and nothing is left."""
    pairs = product(ISLANDS, ISLANDS)
    assert not [(a, b) for a, b in pairs if should_yield(a, b) and should_yield(b, a)]


def test_of_two_unused_ones_the_larger_id_yields() -> None:
    """Broken: two nodes that each founded alone stay apart for ever."""
    small, large = Island("default", "a", 1, False), Island("default", "b", 1, False)
    assert should_yield(large, small)
    assert not should_yield(small, large)


def test_an_unused_one_yields_to_a_used_one() -> None:
    """Broken: a node that was started a moment too early never finds its cluster."""
    unused = Island("default", "a", 1, False)
    assert should_yield(unused, Island("default", "b", 3, True))
    assert should_yield(unused, Island("default", "b", 1, True))
    assert not should_yield(unused, Island("other", "b", 3, True))


def test_a_hello_tells_who_may_yield() -> None:
    """Broken: of two islands none yields, or one that was used does."""
    for island in ISLANDS:
        told = island_of(Hello(island.role, "n", cluster=island.cluster, cluster_id="x"))
        assert told.may_yield == island.may_yield
        assert (told.cluster, told.cluster_id) == (island.cluster, "x")
