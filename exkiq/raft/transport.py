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

from exkiq.raft.campaign import Campaign
from exkiq.raft.guard import Appending, Guard, step_down
from exkiq.raft.messages import Message, from_wire
from exkiq.raft.pieces import Pieces
from exkiq.raft.standing import Standing
from exkiq.wire.messages import Kind

_VOUCHING = ("next_node_idx", "response_vote")
_FORWARDED_BY_US = ("apply_command", "apply_command_response")


class EngineTransport(Transport):  # type: ignore[misc]  # the engine has no types
    """Carries the engine's messages.

    Duties: hold answers back until they are durable; keep the engine's own forwarding of
    commands off the wire; hand messages in through the guard; show the engine its peers only
    when it may campaign or leads, and send no more of a snapshot than a peer takes.
    """

    def __init__(
        self, send: Callable[[str, list[Any]], bool], now: Callable[[], float], view: Standing
    ) -> None:
        super().__init__(None, None, None)
        self._send, self._now, self._view = send, now, view
        self._guard = Guard()
        self._campaign = Campaign()
        self._pieces = Pieces()
        self._appending: Appending | None = None
        self._has_answered = False
        self._held: list[tuple[str, list[Any]]] = []
        self._connected: set[str] = set()
        self._shown: set[str] = set()

    # ---- what the engine calls ---------------------------------------------------------------

    def addNode(self, node: Node) -> None:  # noqa: N802 - the engine's names
        if self._view.is_leader and node.id in self._connected:
            self._show(node.id)

    def dropNode(self, node: Node) -> None:  # noqa: N802
        self._hide(node.id)

    def send(self, node: Node, message: Message) -> bool:
        kind = message["type"]
        if kind in _FORWARDED_BY_US:
            return False
        if kind == "append_entries":
            if message.get("serialized", 0) is None:
                # Without a snapshot to send the engine would repeat this for a whole period.
                # It stops at a peer that is gone; the peer is shown again in the next turn.
                self._hide(node.id)
            elif "serialized" in message:
                self._count_piece(node.id, is_last=message["serialized"][2])
            message = self._guard.stamp_append(node.id, message)
        elif kind == "next_node_idx":
            self._has_answered = True
            message = self._guard.stamp_answer(message, self._appending, self._view)
        return self._post(node.id, message)

    def _count_piece(self, name: str, *, is_last: bool) -> None:
        # at the last one the engine has to come to its note of that
        if self._pieces.sent(name, self._now()) and not is_last:
            self._hide(name)

    def destroy(self) -> None:
        self._held.clear()

    def _post(self, name: str, message: Message) -> bool:
        frame = [int(Kind.RAFT), message]
        if message["type"] in _VOUCHING:
            self._held.append((name, frame))
            return True
        return self._send(name, frame)

    # ---- the turn ----------------------------------------------------------------------------

    def before_tick(self) -> None:
        """Show the engine its peers, or hide them; ask for pre-votes when patience is over."""
        view, campaign, now = self._view, self._campaign, self._now()
        if view.is_leader or campaign.is_open or (view.is_candidate and not view.is_patience_over):
            for name in self._connected - self._shown - self._pieces.full(now):
                self._show(name)
            return
        for name in list(self._shown):
            self._hide(name)
        if view.voters and view.is_patience_over and campaign.may_ask(now):
            question = campaign.ask(view, now)
            for name in sorted(view.voters & self._connected):
                self._post(name, question)

    def after_tick(self) -> None:
        """A won round leads to one campaign and no more."""
        if self._view.is_candidate or self._view.is_leader:
            self._campaign.close()

    def release(self) -> None:
        """Send the answers that waited for the disk."""
        held, self._held = self._held, []
        for name, frame in held:
            self._send(name, frame)

    # ---- links -------------------------------------------------------------------------------

    def peer_up(self, name: str) -> None:
        """A link to this member is up; the engine sees it when it may."""
        self._pieces.forget(name)
        self._connected.add(name)

    def peer_down(self, name: str, was_leader: bool) -> None:
        """The link to this member is gone."""
        self._pieces.forget(name)
        self._connected.discard(name)
        self._hide(name)
        if was_leader:
            self._campaign.lost_leader()

    def is_connected(self, name: str) -> bool:
        return name in self._connected

    def _show(self, name: str) -> None:
        self._shown.add(name)
        self._onNodeConnected(Node(name))

    def _hide(self, name: str) -> None:
        self._shown.discard(name)
        self._onNodeDisconnected(Node(name))

    # ---- in ----------------------------------------------------------------------------------

    def receive(self, sender: str, message: object) -> None:
        """Check a peer's message and hand it on. Errors: RemoteWireError, DataError."""
        checked = from_wire(message)
        kind = checked["type"]
        if kind == "pre_vote":
            view = self._view
            self._post(sender, self._campaign.judge(checked, view, view.is_leader, self._now()))
        elif kind == "pre_vote_answer":
            self._pre_vote_answered(sender, checked)
        else:
            self._admit(sender, checked)

    def _pre_vote_answered(self, sender: str, answer: Message) -> None:
        if answer["term"] > self._view.term:
            self._onMessageReceived(Node(sender), step_down(answer["term"]))
        else:
            self._campaign.count(sender, answer, self._view.voters)

    def _admit(self, sender: str, message: Message) -> None:
        if message["type"] == "next_node_idx":
            self._pieces.taken(sender)
        verdict = self._guard.admit(sender, message, self._view)
        if verdict.deliver is not None:
            self._deliver(sender, verdict.deliver, verdict.appending)
        if verdict.answer is not None and not self._has_answered:
            self._post(sender, verdict.answer)
        self._has_answered = False

    def _deliver(self, sender: str, message: Message, appending: Appending | None) -> None:
        if message["type"] == "append_entries":
            self._campaign.heard_leader(self._now())
        elif message["type"] == "timeout_now":
            self._campaign.called()
        self._appending, self._has_answered = appending, False
        try:
            self._onMessageReceived(Node(sender), message)
        finally:
            self._appending = None
