"""Static peers: addresses that the operator gave, worth dialling for ever."""

from __future__ import annotations

from collections.abc import Iterable

from exkiq.discovery.sighting import Sighting


def static_sightings(peers: Iterable[str], cluster: str) -> tuple[Sighting, ...]:
    """One sighting for each "host:port", in the order given, each once."""
    return tuple(Sighting("", address, cluster) for address in dict.fromkeys(peers))
