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
from exkiq.raft.chunks import Chunk
from exkiq.raft.guard import Appending, Guard, step_down
from exkiq.raft.messages import Message, from_wire
from exkiq.raft.pieces import Pieces
from exkiq.raft.snapshot import SnapshotStore
from exkiq.raft.standing import Standing
from exkiq.wire.messages import Kind

_VOUCHING = ("next_node_idx", "response_vote")
_ASKING = ("pre_vote", "request_vote")
_FORWARDED_BY_US = ("apply_command", "apply_command_response")


class EngineTransport(Transport):  # type: ignore[misc]  # the engine has no types
    """Carries the engine's messages.

    Duties: hold answers back until they are durable; keep the engine's own forwarding of
    commands off the wire; hand messages in through the guard; show the engine its peers only
    when it may campaign or leads, and send no more of a snapshot than a peer takes.
    """

    def __init__(
        self,
        send: Callable[[str, list[Any]], bool],
        now: Callable[[], float],
        view: Standing,
        snapshots: SnapshotStore,
    ) -> None:
        super().__init__(None, None, None)
        self._snapshots = snapshots
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
            message = self._guard.stamp_append(node.id, message)
            if self._is_enough(node.id, message):
                # the engine stops at a peer that is gone; it is shown again in a later turn
                self._hide(node.id)
        elif kind == "next_node_idx":
            self._has_answered = True
            message = self._guard.stamp_answer(message, self._appending, self._view)
        return self._post(node.id, message)

    def _is_enough(self, name: str, append: Message) -> bool:
        """Whether the engine should stop after this append."""
        number, now = append["seq"], self._now()
        if "serialized" not in append:
            size = sum([len(body) for body, _, _ in append["entries"]])
            return self._pieces.sent_entries(name, number, size, now)
        if append["serialized"] is None:
            return True  # without a snapshot to send it would repeat this for a whole period
        # at the last piece it has to come to its note of that
        return self._pieces.sent_piece(name, number, now) and not append["serialized"][2]

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
        if self._snapshots.is_read:
            self._load_read()
        view, campaign, now = self._view, self._campaign, self._now()
        if view.is_leader or campaign.is_open or (view.is_candidate and not view.is_patience_over):
            hidden = self._connected - self._shown
            for name in hidden and hidden - self._pieces.full(now):
                self._show(name)
            return
        for name in list(self._shown):
            self._hide(name)
        if not view.may_campaign or not view.voters:
            return
        if view.is_patience_over and campaign.may_ask(now):
            question = campaign.ask(view, now)
            for name in sorted(view.voters & self._connected):
                self._post(name, question)

    def after_tick(self) -> None:
        """A won round leads to one campaign and no more."""
        if self._view.is_candidate or self._view.is_leader:
            self._campaign.close()
        self._view.note_lead()

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
        if kind in _ASKING and not self._view.is_member:
            pass  # who counts on us means a former node of our name, which knew more
        elif kind == "pre_vote":
            view = self._view
            self._post(sender, self._campaign.judge(checked, view, view.is_leader, self._now()))
        elif kind == "pre_vote_answer":
            self._pre_vote_answered(sender, checked)
        elif kind == "timeout_now" and not self._view.may_campaign:
            pass  # the engine would campaign, and count itself
        else:
            self._admit(sender, checked)

    def _pre_vote_answered(self, sender: str, answer: Message) -> None:
        if answer["term"] > self._view.term:
            self._onMessageReceived(Node(sender), step_down(answer["term"]))
        else:
            view = self._view
            self._campaign.count(sender, answer, view.voters, we_vote=view.is_voter)

    def _admit(self, sender: str, message: Message) -> None:
        if message["type"] == "next_node_idx":
            self._pieces.taken(sender, message["seq"])
            if message["success"]:
                self._snapshots.follows(Node(sender), message["next_node_idx"])
        if message["type"] == "append_entries" and self._snapshots.is_reading:
            message = _set_aside(message)  # what is not in our log is in the snapshot, or comes
        verdict = self._guard.admit(sender, message, self._view)
        if verdict.deliver is not None:
            self._deliver(sender, verdict.deliver, verdict.appending)
        if verdict.answer is not None and not self._has_answered:
            self._post(sender, verdict.answer)
        self._has_answered = False

    def _load_read(self) -> None:
        """Have the engine load a received snapshot, on a word of whoever leads now."""
        leader, view = self._view.leader, self._view
        if view.is_leader:
            self._snapshots.give_up_reading()
        elif leader is not None:
            word = _set_aside({"term": view.term, "seq": 0}, (b"", 0, True, b""))
            self._deliver(leader, word, Appending(0))

    def _deliver(self, sender: str, message: Message, appending: Appending | None) -> None:
        if message["type"] == "append_entries":
            self._view.heard_at = now = self._now()
            self._campaign.heard_leader(now)
        elif message["type"] == "timeout_now":
            self._campaign.called()
        self._appending, self._has_answered = appending, False
        try:
            self._onMessageReceived(Node(sender), message)
        finally:
            self._appending = None


def _set_aside(message: Message, serialized: Chunk | None = None) -> Message:
    """An append without its place in the log: the engine hears that somebody leads."""
    at = {"type": "append_entries", "commit_index": 0, "serialized": serialized}
    return {"term": message["term"], "seq": message["seq"], **at}
