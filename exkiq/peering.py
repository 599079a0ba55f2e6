"""What nodes say to each other, and who in this node is told.

Before Raft runs only the founding hears; from then on messages of the log are taken from
members of our own cluster alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exkiq.aggregator import Aggregator
from exkiq.discovery import Discovery
from exkiq.discovery.admission import Admission
from exkiq.links import Link, Message
from exkiq.raft import Replica
from exkiq.telemetry import log
from exkiq.wire.messages import Kind

ProgressRows = list[Any]  # as a PROGRESS message has them

NO_MEMBER = "no member of this cluster any more"

_OF_THE_LOG = frozenset({int(Kind.RAFT), int(Kind.PROPOSE)})


def _nothing(*_: object) -> None:
    """Nobody wants to know."""


class Peering:
    """Routes links and messages between this node's rooms.

    Duties: feed discovery every link; feed Raft the links to members of our cluster; keep what
    peers tell of themselves for `status`.
    """

    def __init__(self, links: Callable[[], dict[str, Link]]) -> None:
        self._links = links
        self.discovery: Discovery | None = None
        self.applied: dict[str, int] = {}  # by node, what it said last
        self._refusal = ""  # why we are not taken in, as it was told last
        self.is_removed = False  # the leader says that we are no member any more
        self.on_removed: Callable[[], None] = _nothing
        self.on_told_to_leave: Callable[[], None] = _nothing
        self.on_progress: Callable[[str, ProgressRows], None] = _nothing
        self.on_member_up: Callable[[str], None] = _nothing
        self.on_local_call: Callable[[str, Message], None] = _nothing  # for a queue of this node
        self.on_local_answer: Callable[[str, Message], None] = _nothing
        self.on_member_down: Callable[[str], None] = _nothing
        self._replica: Replica | None = None
        self._aggregator: Aggregator | None = None
        self._admission: Admission | None = None
        self._cluster_id = ""
        self._own: tuple[str, str, str] | None = None  # name, incarnation, address
        self.is_member = False  # in this run
        self._up: set[str] = set()  # links that Raft was told of

    def join(
        self,
        own: tuple[str, str, str],
        cluster_id: str,
        replica: Replica,
        aggregator: Aggregator,
        admission: Admission,
    ) -> None:
        """Raft runs: tell it of the links that are up already.

        Shapes: own is what a JOIN says of us: name, incarnation, address.
        """
        self._own, self._cluster_id = own, cluster_id
        self._replica, self._aggregator, self._admission = replica, aggregator, admission
        for link in list(self._links().values()):
            self._show(link)

    # ---- the mesh's callbacks ----------------------------------------------------------------

    def link_up(self, link: Link) -> None:
        if self.discovery is not None:
            self.discovery.link_up(link)
        self._show(link)

    def link_changed(self, link: Link) -> None:
        if self.discovery is not None:
            self.discovery.link_changed(link)
        self._show(link)

    def link_down(self, link: Link, _: str) -> None:
        name = link.peer.name
        if name in self._up and self._replica is not None:
            self._up.discard(name)
            self._replica.peer_down(name)
            self.on_member_down(name)
        self.applied.pop(name, None)
        if self.discovery is not None:
            self.discovery.link_down(link)

    def message(self, link: Link, message: Message) -> None:
        """Errors: RemoteWireError, which closes the link."""
        kind = message[0]
        if kind in _OF_THE_LOG:
            if self._replica is not None and link.peer.name in self._up:
                self._replica.receive(link.peer.name, message)
        elif kind == Kind.DEMAND:
            self._demand(link, message)
        elif kind == Kind.PROGRESS:
            if link.peer.name in self._up:
                self.on_progress(link.peer.name, message[1])
        elif self._is_from_removed(link, message) or not (
            self.discovery is not None and self.discovery.message(link, message)
        ):
            self._ask(link, message)

    def _is_from_removed(self, link: Link, message: Message) -> bool:
        """Whether a node asks to join that was a member once: the founding is no answer to it."""
        if self._replica is None or message[0] != Kind.JOIN:
            return False
        machine = self._replica.machine
        return bool(machine.cluster_id) and link.peer.name not in machine.members

    def _show(self, link: Link) -> None:
        """Tell Raft of a link to a member of our cluster, once."""
        name, is_ours = link.peer.name, link.peer.cluster_id == self._cluster_id
        if self._replica is not None and is_ours and name not in self._up:
            self._up.add(name)
            self._replica.peer_up(name)
            self.on_member_up(name)

    def _demand(self, link: Link, message: Message) -> None:
        if self._aggregator is not None and self._replica is not None:
            self._aggregator.demand(link.peer.name, message)
            self._replica.wake()

    def _ask(self, link: Link, message: Message) -> None:
        if self._admission is None or self._replica is None:
            return
        match message:
            case [Kind.JOIN, *_] if link.peer.schema < self._replica.machine.schema:
                self._refuse_older(link)
            case [Kind.JOIN, str(), str(incarnation), str(address)]:
                self._admission.join(link.peer.name, incarnation, address)
            case [Kind.LEAVE, str(name)] if link.peer.name not in self._up:
                pass  # a stranger's
            case [Kind.LEAVE, str(name)] if name == self._replica.name:
                self.on_told_to_leave()
            case [Kind.LEAVE, str(name)]:
                self._admission.leave(name)
            case [Kind.CALL, int(), "transfer", [to]] if to is None or isinstance(to, str):
                self._replica.transfer_leadership(to)
            case [Kind.CALL, int(), "applied", [int(index)]]:
                self.applied[link.peer.name] = index
            case [Kind.CALL, int(), "local", list()] if link.peer.name in self._up:
                self.on_local_call(link.peer.name, message)
            case [Kind.ANSWER, *_] if link.peer.name in self._up:
                self.on_local_answer(link.peer.name, message)
            case [Kind.DENIED, str(text)] if self._replica.leader in (None, link.peer.name):
                self._denied(link, text)

    def _refuse_older(self, link: Link) -> None:
        """A release that cannot apply what the log holds: as a member it would only be missed."""
        if self._replica is not None:
            schema, own = self._replica.machine.schema, link.peer.schema
            text = f"the cluster uses schema {schema}, the release of {link.peer.name} knows {own}"
            link.send([int(Kind.DENIED), text])

    def _denied(self, link: Link, text: str) -> None:
        """The leader does not count us any more: nobody else would ever tell us."""
        if text != NO_MEMBER:  # the answer to our JOIN; to ask at once would go on for ever
            if text != self._refusal:
                self._refusal = text
                log.error("%s refuses to take this node in: %s", link.peer.name, text)
        elif self.is_member:
            self.is_removed = True
            self.on_removed()
        elif self._own is not None:
            link.send([int(Kind.JOIN), *self._own])  # removed in an earlier run: ask again

    # ---- out ---------------------------------------------------------------------------------

    @property
    def is_alone(self) -> bool:
        """Whether no node is linked with this one."""
        return not self._links()

    def is_linked(self, name: str) -> bool:
        """Whether this node has a link to that one."""
        return name in self._links()

    def send(self, name: str, message: list[Any]) -> bool:
        """Give `message` to the link to `name`; False when there is none."""
        link = self._links().get(name)
        return link is not None and link.send(message)

    def tell_leader(self, message: list[Any]) -> None:
        """A plain message to the leader, who may be this node; lost when there is none."""
        if self._replica is None or self._aggregator is None:
            return
        leader = self._replica.leader
        if leader == self._replica.name:
            self._aggregator.demand(leader, message)
            self._replica.wake()
        elif leader is not None:
            self.send(leader, message)

    def tell_peers(self, message: list[Any]) -> None:
        """A plain message to every member that is linked; one that is not has it later."""
        for name in sorted(self._up):
            self.send(name, message)

    def beat(self) -> None:
        """Now and then: tell every peer how far we are, and the aggregator who was heard."""
        if self._replica is None or self._aggregator is None:
            return
        applied = [int(Kind.CALL), 0, "applied", [self._replica.applied_index]]
        for name, link in list(self._links().items()):
            link.send(applied)
            if self._aggregator.is_active:
                self._aggregator.heard(name, link.last_heard)
                self._tell_removed(name, link)

    def _tell_removed(self, name: str, link: Link) -> None:
        replica = self._replica
        if replica is None or name not in self._up:
            return
        if name not in {*replica.machine.members, *replica.voters, *replica.non_voters}:
            link.send([int(Kind.DENIED), NO_MEMBER])
