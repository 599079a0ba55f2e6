"""What an operator asks of the cluster: remove a member, leave, hand over the lead.

Any node may be asked; the leader is told and the answer is read from the applied log. A member
that is there is asked to go: it ends or hands back its jobs first, so that none counts as lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from exkiq.discovery.admission import Admission
from exkiq.errors import NoQuorum, NotRunning, OutcomeUnknown, Refused, UnsupportedOperation
from exkiq.peering import Peering
from exkiq.raft import Replica
from exkiq.wire.messages import Kind

PATIENCE_SECONDS = 5.0  # ten elections
ORDERLY_SECONDS = 30.0  # three times what a node's jobs have to end by default
LOOK_SECONDS = 0.05
SAY_AGAIN_LOOKS = 20


class Governance:
    """Changes of the cluster that people ask for."""

    def __init__(
        self,
        replica: Replica,
        admission: Admission,
        peering: Peering,
        leave: Callable[[], None],
    ) -> None:
        self._replica, self._admission, self._peering = replica, admission, peering
        self._leave = leave

    async def cluster_remove(self, name: str, force: bool) -> None:
        """Take a member out, in good order when it is there; returns when that is applied here.

        Errors: NotRunning for an unknown name; Refused where no majority would be left;
                NoQuorum when no majority took it out; OutcomeUnknown while its jobs go on.
        """
        if force:
            raise UnsupportedOperation(
                "a member is never removed without a majority: what was acknowledged could be "
                "lost. Start a lost voter again with its data folder; if its disk is gone for "
                "good, list the jobs with `exkiq jobs --json` and enqueue them in a new cluster"
            )
        self._must_be_removable(name)
        if name != self._replica.name and not self._peering.is_linked(name):
            await self.take_out(name)
            return

        def ask() -> None:
            if name == self._replica.name:
                self._leave()
            elif not self._peering.send(name, [int(Kind.LEAVE), name]):
                self._say_to_leader([int(Kind.LEAVE), name])  # it is gone meanwhile

        try:
            await self._until(lambda: self._is_gone(name), ask, "", ORDERLY_SECONDS)
        except NoQuorum as error:
            raise OutcomeUnknown(
                f"{name} was told to leave and is still there: it goes when its jobs have ended "
                "or their time is up"
            ) from error

    async def take_out(self, name: str) -> None:
        """Have the leader remove a member that is lost, or that is ready to go."""
        if not self._is_gone(name):
            self._must_be_removable(name)
        await self._until(
            lambda: self._is_gone(name),
            lambda: self._say_to_leader([int(Kind.LEAVE), name]),
            f"{name} was not removed: no majority of the voters answered",
        )

    def _must_be_removable(self, name: str) -> None:
        self._must_be_member(name)
        if len(self._replica.machine.members) == 1:
            raise Refused(f"{name} is the only member; stop it instead")
        if self._replica.leader is None:
            raise NoQuorum(
                f"{name} was not removed: no majority of the voters answers; start the lost ones"
            )
        rest = self._replica.voters - {name}
        lost = {voter for voter in rest if not self._is_there(voter)}
        if name in self._replica.voters and len(rest) - len(lost) <= len(rest) / 2:
            raise Refused(
                f"without {name} no majority would be left: of {', '.join(sorted(rest))}, "
                f"{', '.join(sorted(lost)) or 'nobody'} is lost; start or remove that first"
            )

    def _is_there(self, name: str) -> bool:
        return name == self._replica.name or self._peering.is_linked(name)

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
            self._must_be_able_to_lead(name)
        before = self._replica.leader

        def is_moved() -> bool:
            leader = self._replica.leader
            if leader == self._replica.name and self._peering.is_alone:
                raise NoQuorum("no other node is there to take over the lead")
            return leader is not None and (leader == name if name else leader != before)

        message = [int(Kind.CALL), 0, "transfer", [name]]
        complaint = f"{name} did not take over the lead" if name else "nobody took over the lead"
        await self._until(
            is_moved,
            lambda: self._say_to_leader(message),
            f"{complaint}: {before or 'nobody'} goes on",
            patience,
        )

    def _must_be_able_to_lead(self, name: str) -> None:
        self._must_be_member(name)
        if name not in self._replica.voters:
            raise Refused(f"{name} does not vote, so it cannot lead")
        if not self._is_there(name):
            raise Refused(f"{name} is lost, so it cannot lead")

    def _must_be_member(self, name: str) -> None:
        members = self._replica.machine.members
        if name not in members:
            raise NotRunning(f"no member is named {name!r}; there are {', '.join(sorted(members))}")

    async def _until(
        self,
        is_done: Callable[[], bool],
        say: Callable[[], None],
        complaint: str,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """Say it again and again, until `is_done`."""
        for look in range(round(patience / LOOK_SECONDS)):
            if is_done():
                return
            if look % SAY_AGAIN_LOOKS == 0:
                say()
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
