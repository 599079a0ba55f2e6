"""The engine's transport: its messages out to the peers, theirs in through the guard.

Rule zero of everything here: an answer that vouches for something - a vote, a success - waits
until the journal has it on the disk. `release` sends what waited; the replica calls it after
the commit. If the commit fails nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pysyncobj.node import Node
from pysyncobj.transport import Transport

from exkiq.raft.guard import Guard, LogView
from exkiq.raft.journal import Journal
from exkiq.raft.messages import Message, from_wire
from exkiq.wire.messages import Kind

_VOUCHING = ("next_node_idx", "response_vote")
_FORWARDED_BY_US = ("apply_command", "apply_command_response")
PIECES_ON_THE_WAY_MAX = 16  # of a snapshot, 4 MiB: a link that has much more to send is closed
PIECE_SECONDS_MAX = 1.0  # without an answer to a piece: it was lost, go on, all is checked at last
_PIECE_TAKEN: Message = {
    "type": "next_node_idx",
    "next_node_idx": 0,
    "reset": False,
    "success": False,
}


@dataclass(frozen=True, slots=True)
class DecidedLog:
    """Our log for the guard: what is applied or committed may never be cut."""

    journal: Journal
    applied: Callable[[], int]

    @property
    def last_index(self) -> int:
        return self.journal.last_index

    @property
    def commit_index(self) -> int:
        return max(self.journal.commit_index, self.applied())

    def term_at(self, index: int) -> int | None:
        return self.journal.term_at(index)


class EngineTransport(Transport):  # type: ignore[misc]  # the engine has no types
    """Carries the engine's messages.

    Duties: hold answers back until they are durable; keep the engine's own forwarding of
    commands off the wire; hand messages in through the guard; tell the engine which peers
    are connected; send no more of a snapshot than the peer takes.

    The engine would write a whole snapshot into a link in one go. Each piece is answered by
    the peer's transport, which also tells the engine that the peer lives, and with too many
    unanswered the peer is hidden from the engine, which then turns to the next.
    """

    def __init__(
        self, send: Callable[[str, list[Any]], bool], log: LogView, now: Callable[[], float]
    ) -> None:
        super().__init__(None, None, None)
        self._send, self._now = send, now
        self._pieces: dict[str, int] = {}  # of a snapshot, on their way to a peer
        self._waits_since: dict[str, float] = {}  # peers hidden until they took their pieces
        self._guard = Guard()
        self._log = log
        self._verified: int | None = None  # of the message that is being delivered
        self._held: list[tuple[str, list[Any]]] = []
        self._resting: set[str] = set()
        self._connected: set[str] = set()

    # ---- what the engine calls ---------------------------------------------------------------

    def addNode(self, node: Node) -> None:  # noqa: N802 - the engine's names
        if node.id in self._connected:
            self._onNodeConnected(node)

    def dropNode(self, node: Node) -> None:  # noqa: N802
        self._onNodeDisconnected(node)

    def send(self, node: Node, message: Message) -> bool:
        kind = message["type"]
        if kind in _FORWARDED_BY_US:
            return False
        if kind == "append_entries" and message.get("serialized", 0) is None:
            # Without a snapshot to send the engine would repeat this for a whole period.
            # It stops at a peer that is gone; the peer is back at the end of the turn.
            self._resting.add(node.id)
            self._onNodeDisconnected(node)
        elif kind == "append_entries" and "serialized" in message:
            self._count_piece(node, is_last=message["serialized"][2])
        if kind == "next_node_idx" and message["success"] and self._verified is not None:
            message = {**message, "next_node_idx": self._verified + 1}
        frame = [int(Kind.RAFT), message]
        if kind in _VOUCHING:
            self._held.append((node.id, frame))
            return True
        return self._send(node.id, frame)

    def _count_piece(self, node: Node, *, is_last: bool) -> None:
        count = self._pieces[node.id] = self._pieces.get(node.id, 0) + 1
        # at the last one the engine has to come to its note of that
        if count >= PIECES_ON_THE_WAY_MAX and not is_last:
            self._waits_since[node.id] = self._now()
            self._onNodeDisconnected(node)

    def _piece_taken(self, name: str) -> None:
        self._pieces[name] = max(0, self._pieces.get(name, 0) - 1)
        if self._waits_since.pop(name, None) is not None and name in self._connected:
            self._onNodeConnected(Node(name))

    def destroy(self) -> None:
        self._held.clear()

    # ---- ours --------------------------------------------------------------------------------

    def release(self) -> None:
        """Send the answers that waited for the disk."""
        held, self._held = self._held, []
        for name, frame in held:
            self._send(name, frame)

    def end_of_turn(self) -> None:
        """Show the engine again the peers that were hidden for the rest of the turn."""
        resting, self._resting = self._resting, set()
        too_long = self._now() - PIECE_SECONDS_MAX
        for name in [name for name, since in self._waits_since.items() if since < too_long]:
            self._forget_pieces(name)
            resting.add(name)
        for name in resting & self._connected:
            self._onNodeConnected(Node(name))

    def _forget_pieces(self, name: str) -> None:
        self._pieces.pop(name, None)
        self._waits_since.pop(name, None)

    def peer_up(self, name: str) -> None:
        """A link to this member is up."""
        self._forget_pieces(name)
        self._connected.add(name)
        self._onNodeConnected(Node(name))

    def peer_down(self, name: str) -> None:
        """The link to this member is gone."""
        self._forget_pieces(name)
        self._connected.discard(name)
        self._onNodeDisconnected(Node(name))

    def is_connected(self, name: str) -> bool:
        return name in self._connected

    def receive(
        self, sender: str, message: object, voters: frozenset[str], *, has_leader: bool
    ) -> None:
        """Check a peer's message and hand it to the engine. Errors: RemoteWireError, DataError."""
        admitted = self._guard.admit(
            sender, from_wire(message), voters, self._log, has_leader=has_leader
        )
        if admitted is not None:
            self._note_piece(sender, admitted.message)
            self._verified = admitted.verified
            try:
                self._onMessageReceived(Node(sender), admitted.message)
            finally:
                self._verified = None

    def _note_piece(self, sender: str, message: Message) -> None:
        if message["type"] == "append_entries" and message.get("serialized") is not None:
            self._send(sender, [int(Kind.RAFT), _PIECE_TAKEN])
        elif message["type"] == "next_node_idx":
            self._piece_taken(sender)
