"""How one value is read: from text (flags, environment) or as TOML and Python have it.

A kind says in `allowed` what it takes; `read` raises ValueError for anything else. Who asks
adds the setting, the value and where it came from.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from exkiq.config.addresses import join_address, split_address
from exkiq.machine.limits import QUEUE_NAME_BYTES_MAX, RESERVED_QUEUE_NAMES

WEIGHT_MAX = 1_000  # beyond this a share is not a share but a way to starve the rest
LIST_ITEMS_MAX = 1_000  # peers, interfaces, modules: far above any use, below any harm

SWITCHES = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


class Kind(Protocol):
    """One sort of value."""

    @property
    def allowed(self) -> str:
        """What is taken, as the end of a sentence."""

    def read(self, raw: object) -> object:
        """The checked value; ValueError when it is none."""


@dataclass(frozen=True, slots=True)
class Text:
    """Text that matches a pattern as a whole."""

    pattern: str
    allowed: str

    def read(self, raw: object) -> str:
        if not isinstance(raw, str) or re.fullmatch(self.pattern, raw) is None:
            raise ValueError
        return raw


@dataclass(frozen=True, slots=True)
class Count:
    """A whole number between two bounds."""

    low: int
    high: int

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def read(self, raw: object) -> int:
        if isinstance(raw, str) and re.fullmatch(r"[0-9]{1,12}", raw):
            raw = int(raw)
        if not isinstance(raw, int) or isinstance(raw, bool):
            raise ValueError
        if not self.low <= raw <= self.high:
            raise ValueError
        return raw


@dataclass(frozen=True, slots=True)
class Seconds:
    """A duration in seconds between two bounds."""

    low: float
    high: float

    @property
    def allowed(self) -> str:
        return f"a number of seconds from {self.low:g} to {self.high:g}"

    def read(self, raw: object) -> float:
        if isinstance(raw, bool) or not isinstance(raw, str | int | float):
            raise ValueError
        try:
            seconds = float(raw)
        except OverflowError as error:
            raise ValueError from error
        if not math.isfinite(seconds) or not self.low <= seconds <= self.high:
            raise ValueError
        return seconds


@dataclass(frozen=True, slots=True)
class Switch:
    """Yes or no."""

    allowed: str = "true or false"

    def read(self, raw: object) -> bool:
        if isinstance(raw, str):
            raw = SWITCHES.get(raw.lower())
        if not isinstance(raw, bool):
            raise ValueError
        return raw


@dataclass(frozen=True, slots=True)
class Choice:
    """One word of a few, in any case."""

    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return "one of " + ", ".join(self.words)

    def read(self, raw: object) -> str:
        if not isinstance(raw, str) or raw.upper() not in self.words:
            raise ValueError
        return raw.upper()


@dataclass(frozen=True, slots=True)
class Address:
    """`host:port`; a port of 0, or none, lets the system choose where that makes sense."""

    port_low: int

    @property
    def allowed(self) -> str:
        return f"HOST:PORT with a port from {self.port_low} to 65535"

    def read(self, raw: object) -> str:
        if not isinstance(raw, str):
            raise ValueError
        host, port = split_address(raw)
        if port < self.port_low:
            raise ValueError
        return join_address(host, port)


@dataclass(frozen=True, slots=True)
class Interface:
    """The IP address that an interface of this machine has."""

    allowed: str = "an IP address such as 192.168.1.10"

    def read(self, raw: object) -> str:
        if not isinstance(raw, str):
            raise ValueError
        return str(ipaddress.ip_address(raw))


@dataclass(frozen=True, slots=True)
class Folder:
    """A path; `~` is the home folder."""

    allowed: str = "a path"

    def read(self, raw: object) -> Path:
        if not isinstance(raw, str | Path) or not str(raw) or "\0" in str(raw):
            raise ValueError
        try:
            return Path(raw).expanduser()
        except RuntimeError as error:  # `~somebody` who is not there
            raise ValueError from error


@dataclass(frozen=True, slots=True)
class Secret:
    """Bytes, or text that is taken as UTF-8; its length is judged by the loader."""

    allowed: str = "text or bytes"

    def read(self, raw: object) -> bytes:
        if isinstance(raw, str):
            return raw.encode()
        if not isinstance(raw, bytes):
            raise ValueError
        return raw


@dataclass(frozen=True, slots=True)
class Several:
    """A list of one kind; as text with commas between. Written twice counts once."""

    item: Kind

    @property
    def allowed(self) -> str:
        return f"a list, each {self.item.allowed}"

    def read(self, raw: object) -> tuple[object, ...]:
        if isinstance(raw, str):
            raw = [part.strip() for part in raw.split(",") if part.strip()]
        if not isinstance(raw, list | tuple) or len(raw) > LIST_ITEMS_MAX:
            raise ValueError
        return tuple(dict.fromkeys(self.item.read(part) for part in raw))


@dataclass(frozen=True, slots=True)
class Weights:
    """Queue names with their shares: `emails:3,default:1`, a table, or a list of names."""

    @property
    def allowed(self) -> str:
        return (
            f"queue names with weights from 1 to {WEIGHT_MAX} such as emails:3,default:1"
            f" (a name has at most {QUEUE_NAME_BYTES_MAX} bytes and is no state name:"
            f" {', '.join(sorted(RESERVED_QUEUE_NAMES))})"
        )

    def read(self, raw: object) -> dict[str, int]:
        if isinstance(raw, str):
            raw = [part.strip() for part in raw.split(",") if part.strip()]
        if isinstance(raw, list | tuple):
            raw = dict(_name_and_weight(part) for part in raw)
        if not isinstance(raw, Mapping):
            raise ValueError
        return {_queue_name(name): WEIGHT.read(weight) for name, weight in raw.items()}


WEIGHT = Count(1, WEIGHT_MAX)


def _name_and_weight(part: object) -> tuple[str, object]:
    if not isinstance(part, str):
        raise ValueError
    name, colon, weight = part.rpartition(":")
    return (name, weight) if colon else (part, 1)


def _queue_name(raw: object) -> str:
    if not isinstance(raw, str) or not raw.isprintable() or raw != raw.strip():
        raise ValueError
    if not 1 <= len(raw.encode()) <= QUEUE_NAME_BYTES_MAX or raw in RESERVED_QUEUE_NAMES:
        raise ValueError
    return raw
