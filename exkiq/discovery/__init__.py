"""Finding the other nodes and settling, once and for all, which cluster a node belongs to.

Seeing, deciding and doing are three places: `mdns` and `static` yield sightings, `roster` and
`founding` decide and are pure, `discovery` carries out.
"""

from exkiq.discovery.discovery import Discovery, Search
from exkiq.discovery.facts import Facts, FoundingStore, Member, Membership, Promise
from exkiq.discovery.island import Island, island_of, should_yield
from exkiq.discovery.sighting import Sighting
from exkiq.discovery.store import FileFoundingStore, MemoryFoundingStore

__all__ = [
    "Discovery",
    "Search",
    "Member",
    "Membership",
    "Facts",
    "Promise",
    "FoundingStore",
    "FileFoundingStore",
    "MemoryFoundingStore",
    "Island",
    "island_of",
    "should_yield",
    "Sighting",
]
