"""A sighting: somebody says that a node can be reached somewhere. A hint, never a proof."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sighting:
    """A node may listen at `address` ("host:port"); `name` is "" when nobody said."""

    name: str
    address: str
    cluster: str


def is_near(host: str) -> bool:
    """Whether an announced host may be dialled: this machine or a private network, no name.

    Anybody on the network can announce anything; a node that dialled what it hears would let
    a stranger point a whole cluster at a victim elsewhere.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if address.is_unspecified or address.is_multicast:
        return False
    return address.is_loopback or address.is_private or address.is_link_local
