"""What an operator asks of the cluster: remove a member, leave, hand over the lead.

Any node may be asked; the leader is told and the answer is read from the applied log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from exkiq.discovery.admission import Admission
from exkiq.errors import NoQuorum, NotRunning, UnsupportedOperation
from exkiq.peering import Peering
from exkiq.raft import Replica
from exkiq.wire.messages import Kind

PATIENCE_SECONDS = 5.0  # ten elections
LOOK_SECONDS = 0.05
SAY_AGAIN_LOOKS = 20


class Governance:
    """Changes of the cluster that people ask for."""

    def __init__(self, replica: Replica, admission: Admission, peering: Peering) -> None:
        self._replica, self._admission, self._peering = replica, admission, peering

    async def cluster_remove(self, name: str, force: bool) -> None:
        """Take a member out; returns when that is applied here.

        Errors: NotRunning for an unknown name; NoQuorum when no majority took it out.
        """
        if force:
            raise UnsupportedOperation(
                "--force, for a cluster that lost its majority for good, is not built yet: "
                "start the lost voters again"
            )
        self._must_be_member(name)
        if name == self._replica.leader and len(self._replica.voters) > 1:
            await self.cluster_transfer(None)
        await self._until(
            lambda: self._is_gone(name),
            [int(Kind.LEAVE), name],
            f"{name} was not removed: no majority of the voters answered",
        )

    def _is_gone(self, name: str) -> bool:
        if name == self._replica.name and self._peering.is_removed:
            return True  # the log that says so does not reach us any more
        return name not in self._replica.machine.members

    async def cluster_leave(self) -> None:
        """Take this node out of its cluster; returns when that is applied here."""
        await self.cluster_remove(self._replica.name, force=False)

    async def cluster_transfer(self, name: str | None, patience: float = PATIENCE_SECONDS) -> None:
        """Hand the lead to `name`, or to whoever is caught up best."""
        if name is not None:
            self._must_be_member(name)
        before = self._replica.leader

        def is_moved() -> bool:
            leader = self._replica.leader
            if leader == self._replica.name and self._peering.is_alone:
                raise NoQuorum("no other node is there to take over the lead")
            return leader is not None and (leader == name if name else leader != before)

        message = [int(Kind.CALL), 0, "transfer", [name]]
        await self._until(is_moved, message, "nobody took over the lead", patience)

    def _must_be_member(self, name: str) -> None:
        members = self._replica.machine.members
        if name not in members:
            raise NotRunning(f"no member is named {name!r}; there are {', '.join(sorted(members))}")

    async def _until(
        self,
        is_done: Callable[[], bool],
        message: list[Any],
        complaint: str,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """Say `message` to the leader, again and again, until `is_done`."""
        for look in range(round(patience / LOOK_SECONDS)):
            if is_done():
                return
            if look % SAY_AGAIN_LOOKS == 0:
                self._say_to_leader(message)
            await asyncio.sleep(LOOK_SECONDS)
        raise NoQuorum(complaint)

    def _say_to_leader(self, message: list[Any]) -> None:
        leader = self._replica.leader
        if leader is None:
            return
        if leader != self._replica.name:
            self._peering.send(leader, message)
        elif message[0] == Kind.LEAVE:
            self._admission.leave(message[1])
        else:
            self._replica.transfer_leadership(message[3][0])
