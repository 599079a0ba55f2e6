"""What a planted fault is: a rule of the product switched off at run time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Parts = list[tuple[Any, str, Any]]  # owner, attribute, what stands there instead

DEATHS = ("crash", "power", "majority", "cutcommit")
CUTS = ("isolate", "halves", "oneway", "flap", "reset", "slowlink", "pause")


@dataclass(frozen=True)
class Mutant:
    """`hazard` is the promise or the known danger of the engine that it is about."""

    what: str
    hazard: str
    parts: Callable[[], Parts]
    faults: tuple[str, ...] = ()
    nodes: int = 3
    schedule: str = ""  # of the directed ones, where chance would take long
