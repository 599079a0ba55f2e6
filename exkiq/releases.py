"""Nodes of different releases side by side: when the operations of a later one may be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from exkiq.links import Link
from exkiq.machine import Machine, commands
from exkiq.machine import schema as schemas
from exkiq.telemetry import log


class Group(Protocol):
    """Of the replica: its name, its state, and whether it leads."""

    name: str
    machine: Machine

    @property
    def is_leader(self) -> bool: ...


class Releases:
    """Raises the cluster's schema, as its leader, once every member said that it can."""

    def __init__(
        self,
        group: Group,
        links: Callable[[], dict[str, Link]],
        propose: Callable[[bytes], None],
        operation_id: Callable[[], bytes],
    ) -> None:
        self._group, self._links = group, links
        self._propose, self._operation_id = propose, operation_id
        self._asked = (0, 0)  # what was proposed last, and in which term: that may be lost with it

    def look(self) -> None:
        """Now and then: whether a later schema can be used."""
        machine = self._group.machine
        if machine.schema >= schemas.SCHEMA or not self._group.is_leader:
            return
        links = self._links()
        others = [links.get(name) for name in machine.members if name != self._group.name]
        known = [None if link is None else link.peer.schema for link in others]
        level = schemas.next_schema(known, machine.schema)
        if level is not None and self._asked != (level, machine.term):
            self._asked = level, machine.term
            log.info("all members can apply schema %d: it is used from now on", level)
            self._propose(commands.schema(self._operation_id(), level))
