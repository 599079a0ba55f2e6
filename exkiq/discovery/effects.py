"""What the pure parts of this room ask the shell to do.

The order matters: a `Save` must be durable before the effects behind it are carried out, and
a crash between two effects is one of the cases that the parts are built for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from exkiq.discovery.facts import Facts, Membership


@dataclass(frozen=True, slots=True)
class Send:
    """Give `message` to the link to `name`; lost when there is none, whoever sent it repeats."""

    name: str
    message: list[object]


@dataclass(frozen=True, slots=True)
class Save:
    """Make `facts` durable."""

    facts: Facts


@dataclass(frozen=True, slots=True)
class Start:
    """Raft may start."""

    membership: Membership


@dataclass(frozen=True, slots=True)
class Sight:
    """An address worth dialling."""

    address: str


@dataclass(frozen=True, slots=True)
class Forget:
    """An address no longer worth dialling."""

    address: str


@dataclass(frozen=True, slots=True)
class Log:
    """A line for whoever watches the start."""

    text: str


@dataclass(frozen=True, slots=True)
class Warn:
    """A line for whoever has to do something."""

    text: str


Effect: TypeAlias = Send | Save | Start | Sight | Forget | Log | Warn
