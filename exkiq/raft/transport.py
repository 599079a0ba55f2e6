"""The engine's transport: its messages out to the peers, theirs in through the guard.

Rule zero of everything here: an answer that vouches for something - a vote, a success - waits
until the journal has it on the disk. `release` sends what waited; the replica calls it after
the commit. If the commit fails nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pysyncobj.node import Node
from pysyncobj.transport import Transport

from exkiq.raft.guard import Guard, LogView
from exkiq.raft.messages import Message, from_wire
from exkiq.wire.messages import Kind

_VOUCHING = ("next_node_idx", "response_vote")
_FORWARDED_BY_US = ("apply_command", "apply_command_response")


class EngineTransport(Transport):  # type: ignore[misc]  # the engine has no types
    """Carries the engine's messages.

    Duties: hold answers back until they are durable; keep the engine's own forwarding of
    commands off the wire; hand messages in through the guard; tell the engine which peers
    are connected.
    """

    def __init__(self, send: Callable[[str, list[Any]], bool], log: LogView) -> None:
        super().__init__(None, None, None)
        self._send = send
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
        if kind == "next_node_idx" and message["success"] and self._verified is not None:
            message = {**message, "next_node_idx": self._verified + 1}
        frame = [int(Kind.RAFT), message]
        if kind in _VOUCHING:
            self._held.append((node.id, frame))
            return True
        return self._send(node.id, frame)

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
        for name in resting & self._connected:
            self._onNodeConnected(Node(name))

    def peer_up(self, name: str) -> None:
        """A link to this member is up."""
        self._connected.add(name)
        self._onNodeConnected(Node(name))

    def peer_down(self, name: str) -> None:
        """The link to this member is gone."""
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
            self._verified = admitted.verified
            try:
                self._onMessageReceived(Node(sender), admitted.message)
            finally:
                self._verified = None
