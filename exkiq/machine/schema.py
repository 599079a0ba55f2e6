"""Which release's operations a cluster uses, so that old and new nodes can run side by side.

Each release can apply everything up to its own `SCHEMA`. A cluster has a schema of its own, in
its state: the leader raises it once every member said that it can apply more. Until then an
operation that is newer than the cluster's schema is answered by everyone as one that nobody
knows, also by those who know it: so replicas of different releases stay equal.

A release that adds an operation, or gives an old one another meaning, raises `SCHEMA` by one
and says here since when the operation is there.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from exkiq.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCHEMA = 1
"""The newest schema that this release can apply."""

FIRST = 1
"""What a cluster begins with, and a node can that says nothing of it."""

SINCE: Mapping[int, int] = MappingProxyType({})
"""The schema that brought an operation, by its code; the first, where none is named."""


def is_used(code: int, schema: int) -> bool:
    """Whether a cluster of that schema knows an operation."""
    return SINCE.get(code, FIRST) <= schema


def next_schema(members: Iterable[int | None], present: int) -> int | None:
    """What the leader may raise the schema to; None while it has to stay.

    Shapes: `members` says what each one can apply, None for who cannot be asked now.
    """
    known = list(members)
    if None in known:
        return None
    lowest = min([SCHEMA, *(schema for schema in known if schema is not None)])
    return lowest if lowest > present else None


def check_schema(schema: int) -> None:
    """Refuse to go on with a state that this release cannot apply. Errors: DataError."""
    if schema > SCHEMA:
        raise DataError(
            f"the cluster uses schema {schema} and this release of exkiq knows {SCHEMA}: "
            "install the release that its other nodes run"
        )
