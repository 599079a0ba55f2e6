"""One attempt to found a cluster, as its founder sees it. Pure."""

from __future__ import annotations

from exkiq.discovery.effects import Effect, Send
from exkiq.discovery.facts import Member, rows_of
from exkiq.discovery.roster import Roster
from exkiq.discovery.settled import let_go
from exkiq.wire.messages import Kind

REPEAT_MS = 1_000  # a request or an answer may be lost with its link: say it again
ABSENT_MS = 3_000  # a member that lost its link is given this long before another is picked
LAST_CALL_MS = 1_000  # a linked peer that does not answer for so long is not waited for


class Candidacy:
    """Asks N-1 nodes for their promise and knows when all have given it.

    A grant counts for one cluster id only: a node that was let go and has promised itself to
    somebody else since must not be counted by an answer that was under way.
    """

    def __init__(self, own: Member, cluster_id: str, members: tuple[Member, ...]) -> None:
        self.own = own
        self.cluster_id = cluster_id
        self.members = members
        self._others = {member.name: member for member in members if member.name != own.name}
        self._missing = set(self._others)
        self._asked_ms: dict[str, int] = {}
        self._absent_since_ms: dict[str, int] = {}

    @property
    def is_complete(self) -> bool:
        return not self._missing

    @property
    def missing(self) -> list[str]:
        """Who has not promised yet, by name."""
        return sorted(self._missing)

    def granted(self, name: str, cluster_id: str) -> None:
        """`name` has promised, durably, to help found `cluster_id`."""
        if cluster_id == self.cluster_id:
            self._missing.discard(name)

    def requests(self, roster: Roster, now_ms: int) -> list[Effect]:
        """Ask whoever is linked and has not answered lately."""
        out: list[Effect] = []
        for name in self.missing:
            if name in roster.peers and _is_due(self._asked_ms.get(name), now_ms):
                self._asked_ms[name] = now_ms
                out.append(Send(name, self._request()))
        return out

    def withdrawals(self) -> list[Effect]:
        """Let everybody go who may have promised."""
        return [let_go(self.own, name, self.cluster_id) for name in sorted(self._others)]

    def obstacle(self, roster: Roster, now_ms: int) -> str | None:
        """Why this attempt cannot end well, if so."""
        for name, member in self._others.items():
            peer = roster.peers.get(name)
            if peer is None:
                since_ms = self._absent_since_ms.setdefault(name, now_ms)
                if name in self._missing and now_ms - since_ms >= ABSENT_MS:
                    return f"{name} is gone"
                continue
            self._absent_since_ms.pop(name, None)
            if peer.member.incarnation != member.incarnation:
                return f"{name} came back as a new node"
        return None

    def _request(self) -> list[object]:
        return [int(Kind.PROMISE), self.own.name, self.cluster_id, rows_of(self.members)]


class LastCall:
    """Asks every linked fresh peer once before a node founds alone.

    Two nodes may see their link come up a moment apart; an answer proves that the other one
    sees us too and, having the larger name, will wait. Nobody promises anything.
    """

    def __init__(self, own: Member, cluster_id: str) -> None:
        self.own = own
        self.cluster_id = cluster_id
        self._asked_ms: dict[str, int] = {}
        self._answered: set[str] = set()

    def calls(self, roster: Roster, now_ms: int) -> list[Effect]:
        """Ask whoever has not been asked."""
        out: list[Effect] = []
        for peer in roster.fresh():
            if peer.name not in self._asked_ms:
                self._asked_ms[peer.name] = now_ms
                out.append(Send(peer.name, self._request()))
        return out

    def answered(self, name: str, cluster_id: str) -> None:
        """`name` has heard us."""
        if cluster_id == self.cluster_id:
            self._answered.add(name)

    def is_over(self, roster: Roster, now_ms: int) -> bool:
        """Whether everybody linked has answered or had the time to."""
        waited = [peer.name for peer in roster.fresh() if peer.name not in self._answered]
        return all(now_ms - self._asked_ms.get(name, now_ms) >= LAST_CALL_MS for name in waited)

    def _request(self) -> list[object]:
        return [int(Kind.PROMISE), self.own.name, self.cluster_id, rows_of((self.own,))]


def _is_due(last_ms: int | None, now_ms: int) -> bool:
    return last_ms is None or now_ms - last_ms >= REPEAT_MS
