"""Authenticated connections: between nodes (`Mesh`), and between clients and nodes."""

from exkiq.links.dialer import dial
from exkiq.links.link import Link, Message
from exkiq.links.listener import Listener
from exkiq.links.mesh import Mesh
from exkiq.links.strangers import StrangerLimits
from exkiq.links.timings import Timings

__all__ = ["Link", "Message", "dial", "Listener", "StrangerLimits", "Mesh", "Timings"]
