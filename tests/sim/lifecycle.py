"""Nodes come, go and lose their disks: one at a time, so that the others are a majority."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from exkiq.errors import DataError
from tests.sim.disk import Disk
from tests.sim.violation import Violation

if TYPE_CHECKING:
    from tests.sim.node import SimNode
    from tests.sim.world import World

NODES_MAX = 7
VOTERS = 5  # of more nodes the others only follow
AGAIN_SECONDS = 0.4
TRIES = 20


class Lifecycle:
    """Membership of the world's nodes, as an operator sees to it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._is_removing = False
        self._unsettled = ""  # who is on its way in or out, or has nothing on its disk

    @property
    def is_settled(self) -> bool:
        """Whether all run and are members, enough vote, and no log changes that."""
        world, name = self._world, self._unsettled
        model = world.watch.model
        if self._is_removing or set(model.members) != set(world.names):
            return False
        if len(model.voters) < min(VOTERS, len(world.names)):
            return False
        if any(n not in world.nodes for n in world.names):
            return False
        if any(set(node.replica.voters) != model.voters for node in world.nodes.values()):
            return False
        if name:
            node, disk = world.nodes[name], world.disks[name]
            if model.members[name][1] != disk.incarnation:
                return False
            if node.replica.applied_index < world.watch.last:
                return False
        self._unsettled = ""
        return True

    # ---- damage ------------------------------------------------------------------------------

    def damage(self, name: str, *, is_told: bool) -> None:
        """A node dies, and a bit of its disk changes."""
        world, is_settled = self._world, self.is_settled
        world.kill(name, is_told=is_told)
        if is_settled and name not in world.nodes:
            what = world.disks[name].flip(world.chance)
            self._unsettled = name
            world.watch.note(name, "is damaged", what)

    def refused(self, disk: Disk, error: DataError) -> None:
        """A node does not start on what it finds: its folder is moved away."""
        world = self._world
        world.watch.note(disk.name, "refuses", str(error).removeprefix(str(world.folder)))
        if not disk.is_damaged:
            raise world.found(Violation("refusal", f"{disk.name} on a sound disk: {error}"))
        world.scheduler.after(world.chance.uniform(0.1, 1.0), self._wipe_and_start, disk.name)

    def accepted(self, disk: Disk) -> None:
        """A node starts. Of a file it may be that no byte in use was changed."""
        is_damaged, disk.is_damaged = disk.is_damaged and not disk.is_real, False
        if is_damaged:
            text = f"{disk.name} starts on a disk where a bit was changed"
            raise self._world.found(Violation("damage", text))

    def wipe(self, name: str) -> None:
        """Another disk in place of the old one, with nothing on it."""
        world, old = self._world, self._world.disks[name]
        shutil.rmtree(old.folder)
        old.folder.mkdir()
        incarnation = str(int(old.incarnation) + 1)
        world.disks[name] = Disk(name, old.folder, incarnation=incarnation, former=old)
        self._unsettled = name
        world.watch.note(name, "has an empty disk")

    def _wipe_and_start(self, name: str) -> None:
        self.wipe(name)
        self._world.start(name)

    def lose_disk(self, name: str) -> bool:
        """A node dies and its disk with it; False when another one is not settled yet."""
        if not self.is_settled:
            return False
        self._world.kill(name, is_told=False)
        if name not in self._world.nodes:
            self.wipe(name)
        return True

    # ---- joining, leaving --------------------------------------------------------------------

    def join(self) -> None:
        """One more node."""
        world = self._world
        if len(world.names) >= NODES_MAX or not self.is_settled:
            return
        name = f"n{len(world.names) + 1}"
        disk = world.disks[name] = Disk(name, world.folder / name)
        disk.folder.mkdir()
        world.names.append(name)
        self._unsettled = name
        world.start(name)

    def remove(self, name: str) -> None:
        """An operator takes a member out."""
        if self.is_settled and len(self._world.watch.model.members) > 2:
            self._unsettled, self._is_removing = name, True
            self._remove(name, TRIES)

    def _remove(self, name: str, tries: int) -> None:
        world = self._world
        if name not in world.watch.model.members or not tries or world.is_healed:
            self._is_removing = False
            return
        world.scheduler.after(AGAIN_SECONDS, self._remove, name, tries - 1)
        leaders = [node for node in world.nodes.values() if node.replica.is_leader]
        for node in leaders:
            world.scheduler.at(world.scheduler.now, node.host, _ask_to_remove, node, name)

    def left(self, node: SimNode) -> None:
        """A node was told that it is no member any more, and stops; later it is started again."""
        world = self._world
        if world.nodes.get(node.name) is not node:
            return
        world.kill(node.name)
        if node.name in world.nodes:
            return
        if world.chance.random() < 0.5:
            self.wipe(node.name)
        world.scheduler.after(world.chance.uniform(0.2, 2.0), world.start, node.name)


def _ask_to_remove(node: SimNode, name: str) -> None:
    if node.name == name:
        node.replica.transfer_leadership(None)
    elif node.rooms is not None:
        node.rooms._admission.leave(name)
