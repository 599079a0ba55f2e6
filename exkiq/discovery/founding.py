"""Which cluster a node belongs to: found one, join one, or start the one it has. Pure.

The rules of this file:

- A node that has a cluster never founds or joins another one.
- A founded cluster in sight is joined, whatever else was going on; founding is for when there
  is none. Having seen one counts for a while after its link is lost.
- To be founded, a cluster of N needs the durable promise of all N nodes on its list. A node
  gives its promise to one founder at a time, the smallest name it sees. Of any N nodes at most
  one list can thus be complete, and where there are fewer than 2N nodes at most one cluster
  can be founded.
- A promise is never released because time has passed: the founder may have completed the list
  the moment before it died. It ends when the founder says that it will never found that
  cluster id, when the founder asks for another list, or when it is proved void: the founder
  lost its disk, and everybody else on the list is there and without a cluster.
- The founder writes down that the cluster exists before it tells anybody. Whoever misses the
  news says its promise again and is told by any founded node of that cluster.
- Every message may be lost, so whoever waits repeats; every message may come late, so each
  carries the cluster id that it is about.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from exkiq.discovery.candidacy import Candidacy, LastCall
from exkiq.discovery.effects import Effect, Log, Save, Send, Start
from exkiq.discovery.facts import Facts, Member, Membership, Promise, listed, members_of
from exkiq.discovery.joining import Joining, cluster_to_join
from exkiq.discovery.pledge import Reminders, is_made_to, is_void
from exkiq.discovery.roster import Peer, Roster
from exkiq.discovery.settled import answer, let_go, tell
from exkiq.discovery.waiting import waits_for
from exkiq.wire.messages import Kind

LOOK_MS = 1_000  # even N fresh nodes look this long for a founded cluster, which they would join
FOUNDED_SEEN_MS = 10_000  # a founded node that went away may be restarting: do not found beside it
FOUNDER_GONE_MS = 10_000  # then a promised node may join another cluster, if there is one
FRESH_LOST_MS = 3_000  # a fresh peer whose link broke may be founding: hear of it first
HOLD_OFF_MS = 1_000  # between two attempts of one founder: they cost disk writes everywhere
SAY_MS = 10_000  # how often a node that waits says for what


class Phase(StrEnum):
    """What a node is about."""

    LOOKING = "looking"
    STANDING = "standing"  # asks for promises
    PROMISED = "promised"
    SETTLED = "settled"


class Founding:
    """Decides which cluster this node belongs to.

    Duties: found a cluster, alone or with others; help the founder with the smallest name;
    join a founded cluster; once settled, heal those who missed that the cluster was founded.

    Every method with `now_ms` returns effects, to be carried out in their order. `now_ms` is
    time from any start that never goes back. `new_id` makes cluster ids that are never made twice.
    """

    def __init__(
        self,
        roster: Roster,
        facts: Facts,
        *,
        expect: int,
        join_wait_ms: int,
        new_id: Callable[[], str],
    ) -> None:
        self.own = roster.own
        self.facts = facts
        self._roster = roster
        self._expect = expect
        self._look_ms = join_wait_ms if expect == 1 else min(join_wait_ms, LOOK_MS)
        self._new_id = new_id
        self._joining = Joining(self.own)
        self._candidacy: Candidacy | None = None
        self._last_call: LastCall | None = None
        self._out: list[Effect] = []
        self._has_begun = False
        self._not_before_ms = 0
        self._founded_seen_ms: int | None = None
        self._founder_seen_ms = 0
        self._reminders = Reminders()
        self._fresh_lost_ms: dict[str, int] = {}
        self._said_ms = 0

    @property
    def phase(self) -> Phase:
        if self.facts.cluster_id:
            return Phase.SETTLED
        if self._candidacy is not None:
            return Phase.STANDING
        return Phase.LOOKING if self.facts.promise is None else Phase.PROMISED

    @property
    def waits_for(self) -> str:
        """Why this node has no cluster yet, for people."""
        return waits_for(self._roster, self.facts, self._candidacy, self._expect)

    # ---- events ------------------------------------------------------------------------------

    def begin(self, now_ms: int) -> list[Effect]:
        """Start deciding; links may be up already."""
        self._has_begun = True
        self._not_before_ms = now_ms + self._look_ms
        self._founder_seen_ms = self._said_ms = now_ms
        promise = self.facts.promise
        if self.facts.cluster_id:
            self._start()
        elif promise is not None and promise.founder == self.own.name:
            # an attempt of an earlier run: its list has our old address, and those who had
            # promised will say so again and be let go
            self._save(Facts())
        return self._done(now_ms)

    def link_up(self, peer: Peer, now_ms: int) -> list[Effect]:
        """A link is up; also when its peer's hello has changed."""
        self._roster.link_up(peer)
        self._reminders.relinked(peer.name)
        self._fresh_lost_ms.pop(peer.name, None)
        return self._done(now_ms)

    def link_down(self, name: str, now_ms: int) -> list[Effect]:
        """The link to `name` is gone."""
        peer = self._roster.peers.get(name)
        if peer is not None and peer.is_fresh and self.phase is not Phase.SETTLED:
            self._fresh_lost_ms[name] = now_ms
        self._roster.link_down(name)
        return self._done(now_ms)

    def tick(self, now_ms: int) -> list[Effect]:
        """Time has passed; wanted some ten times a second until the node is settled."""
        return self._done(now_ms)

    def received(self, name: str, message: list[object], now_ms: int) -> list[Effect] | None:
        """A message of the linked peer `name`; None when it is not for this room."""
        peer = self._roster.peers.get(name)
        if peer is None or not self._has_begun:
            return None
        if self.phase is Phase.SETTLED:
            return answer(self.facts, self.own, peer, message)
        if not self._take(peer, message, now_ms):
            return None
        return self._done(now_ms)

    def _done(self, now_ms: int) -> list[Effect]:
        if self._has_begun and self.phase is not Phase.SETTLED:
            self._decide(now_ms)
        out, self._out = self._out, []
        return out

    # ---- messages ----------------------------------------------------------------------------

    def _take(self, peer: Peer, message: list[object], now_ms: int) -> bool:
        match message:
            case [Kind.PROMISE, str(founder), str(cluster_id), rows]:
                members = members_of(rows)
                if founder == peer.name and cluster_id and members is not None:
                    self._asked_to_promise(peer, Promise(founder, cluster_id, members), now_ms)
            case [Kind.PROMISED, str(founder), bool(is_granted), str(to)]:
                if founder == self.own.name:
                    self._promised(peer, is_granted, to, now_ms)
            case [Kind.FOUNDED, str(cluster_id), rows]:
                members = members_of(rows)
                if cluster_id and members is not None:
                    self._told_founded(peer, cluster_id, members)
            case [Kind.JOIN, *_]:
                self._send(peer.name, Kind.NOT_LEADER, None, None)
            case [Kind.WELCOME | Kind.DENIED | Kind.NOT_LEADER, *_]:
                self._take_answer(peer, message, now_ms)
            case _:
                return False
        return True

    def _take_answer(self, peer: Peer, message: list[object], now_ms: int) -> None:
        match message:
            case [Kind.WELCOME, str(cluster_id), rows]:
                members = members_of(rows)
                if self._joining.has_asked and cluster_id and members and listed(members, self.own):
                    self._settle(cluster_id, members, founder="")
            case [Kind.NOT_LEADER, str(leader), str(address)]:
                self._out += self._joining.pointed_to(leader, address, now_ms)
            case [Kind.DENIED, str(text)]:
                self._out += self._joining.denied(peer.name, text, now_ms)

    # ---- promising ---------------------------------------------------------------------------

    def _asked_to_promise(self, peer: Peer, wanted: Promise, now_ms: int) -> None:
        if not wanted.members:
            self._let_go(peer, wanted.cluster_id)
        elif (holder := self._bound_to(peer, now_ms)) is not None:
            self._send(peer.name, Kind.PROMISED, wanted.founder, False, holder)
        else:
            # a last call does not list us and binds nobody
            if listed(wanted.members, self.own):
                self._bind(wanted, f"{wanted.founder} comes first", now_ms)
                self._reminders.said(peer.name, now_ms)
            self._send(peer.name, Kind.PROMISED, wanted.founder, True, wanted.cluster_id)

    def _bound_to(self, peer: Peer, now_ms: int) -> str | None:
        """Who stands between us and `peer` as founder; None when nobody does."""
        if founded := self._roster.founded():
            shown = founded[0].member
            self._send(peer.name, Kind.NOT_LEADER, shown.name, shown.address)
            return shown.name
        promise = self.facts.promise
        if promise is not None and promise.founder not in (peer.name, self.own.name):
            return promise.founder
        if promise is not None and promise.founder == peer.name:
            return (
                None if is_made_to(promise, peer) or is_void(promise, self._roster) else peer.name
            )
        if promise is not None and self.own.name < peer.name:
            return self.own.name
        smaller = self._roster.smaller_fresh(peer.name)
        if smaller is not None and smaller.name != self.own.name:
            return smaller.name
        return "" if self._seen_founded_lately(now_ms) else None

    def _let_go(self, peer: Peer, cluster_id: str) -> None:
        promise = self.facts.promise
        if promise is None or promise.cluster_id != cluster_id:
            return
        # a founder without its old disk does not know what it has founded
        if is_made_to(promise, peer) or is_void(promise, self._roster):
            self._release(f"{peer.name} does not found {cluster_id}")

    def _release(self, why: str) -> None:
        self._out.append(Log(f"is free to take part in another founding: {why}"))
        self._save(Facts())

    # ---- founding ----------------------------------------------------------------------------

    def _promised(self, peer: Peer, is_granted: bool, to: str, now_ms: int) -> None:
        if is_granted and self._last_call is not None:
            self._last_call.answered(peer.name, to)
        if is_granted and self._candidacy is not None:
            self._candidacy.granted(peer.name, to)
        current = self._candidacy or self._last_call
        if is_granted and (current is None or current.cluster_id != to):
            self._out.append(let_go(self.own, peer.name, to))
        if not is_granted and self._candidacy is not None and "" < to < self.own.name:
            self._bind(None, f"{peer.name} waits for {to}", now_ms)

    def _found(self, cluster_id: str, members: tuple[Member, ...]) -> None:
        names = ", ".join(member.name for member in members)
        self._out.append(Log(f"founds cluster {cluster_id} with {names}"))
        self._settle(cluster_id, members, founder=self.own.name)
        self._out += [tell(self.facts, peer.name) for peer in self._roster.fresh()]

    def _bind(self, promise: Promise | None, why: str, now_ms: int) -> None:
        """Be bound to `promise` alone; an attempt of our own ends, for the reason `why`."""
        candidacy, self._candidacy, self._last_call = self._candidacy, None, None
        self._save(Facts(promise=promise))
        if candidacy is not None:
            self._out.append(Log(f"gives up founding {candidacy.cluster_id}: {why}"))
            self._out += candidacy.withdrawals()
            self._not_before_ms = now_ms + HOLD_OFF_MS

    # ---- being founded -----------------------------------------------------------------------

    def _told_founded(self, peer: Peer, cluster_id: str, members: tuple[Member, ...]) -> None:
        self._roster.note_founded(peer.name, cluster_id)
        if listed(members, self.own) and listed(members, peer.member):
            self._settle(cluster_id, members, founder=members[0].name)

    def _settle(self, cluster_id: str, members: tuple[Member, ...], founder: str) -> None:
        candidacy, self._candidacy, self._last_call = self._candidacy, None, None
        self._save(Facts(cluster_id, members, founder))
        if candidacy is not None and candidacy.cluster_id != cluster_id:
            self._out += candidacy.withdrawals()
        self._start()

    def _start(self) -> None:
        facts = self.facts
        is_founder = facts.founder == self.own.name
        has_joined = not facts.founder
        self._out.append(Start(Membership(facts.cluster_id, facts.members, is_founder, has_joined)))

    # ---- deciding ----------------------------------------------------------------------------

    def _decide(self, now_ms: int) -> None:
        if self._roster.founded():
            self._founded_seen_ms = now_ms
        if self.phase is Phase.STANDING:
            self._stand(now_ms)
        if self.phase is Phase.PROMISED:
            self._keep_promise(now_ms)
        if self.phase is Phase.LOOKING:
            self._look(now_ms)
        if self.phase is not Phase.SETTLED and now_ms - self._said_ms >= SAY_MS:
            self._said_ms = now_ms
            self._out.append(Log(self.waits_for))

    def _look(self, now_ms: int) -> None:
        if founded := cluster_to_join(self._roster):
            self._last_call = None
            self._out += self._joining.ask(founded, now_ms)
        elif now_ms < self._not_before_ms or self._seen_founded_lately(now_ms):
            return
        elif self._roster.smaller_fresh(self.own.name) is not None:
            self._last_call = None
        elif self._expect == 1:
            self._found_alone(now_ms)
        elif len(self._roster.fresh()) + 1 >= self._expect:
            self._begin_to_stand(now_ms)

    def _found_alone(self, now_ms: int) -> None:
        if any(now_ms - lost_ms < FRESH_LOST_MS for lost_ms in self._fresh_lost_ms.values()):
            return
        if self._last_call is None:
            self._last_call = LastCall(self.own, self._new_id())
        self._out += self._last_call.calls(self._roster, now_ms)
        if self._last_call.is_over(self._roster, now_ms):
            self._found(self._last_call.cluster_id, (self.own,))

    def _begin_to_stand(self, now_ms: int) -> None:
        picked = self._roster.fresh()[: self._expect - 1]
        members = (self.own, *(peer.member for peer in picked))
        self._candidacy = Candidacy(self.own, self._new_id(), members)
        self._save(Facts(promise=Promise(self.own.name, self._candidacy.cluster_id, members)))
        self._stand(now_ms)

    def _stand(self, now_ms: int) -> None:
        candidacy = self._candidacy
        if candidacy is None:
            return
        obstacle = self._obstacle(candidacy, now_ms)
        if obstacle is not None:
            self._bind(None, obstacle, now_ms)
        elif candidacy.is_complete:
            self._found(candidacy.cluster_id, candidacy.members)
        else:
            self._out += candidacy.requests(self._roster, now_ms)

    def _obstacle(self, candidacy: Candidacy, now_ms: int) -> str | None:
        if founded := self._roster.founded():
            return f"{founded[0].name} has a cluster"
        smaller = self._roster.smaller_fresh(self.own.name)
        if smaller is not None:
            return f"{smaller.name} comes first"
        return candidacy.obstacle(self._roster, now_ms)

    def _keep_promise(self, now_ms: int) -> None:
        promise = self.facts.promise
        if promise is None:
            return
        if is_void(promise, self._roster):
            self._release(f"{promise.founder} lost its data")
            return
        founder = self._roster.peers.get(promise.founder)
        if founder is not None and is_made_to(promise, founder):
            self._founder_seen_ms = now_ms
        self._out += self._reminders.due(promise, self._roster, now_ms)
        if now_ms - self._founder_seen_ms >= FOUNDER_GONE_MS:
            self._join_elsewhere(promise, now_ms)

    def _join_elsewhere(self, promise: Promise, now_ms: int) -> None:
        # joining breaks no promise: it makes no other cluster possible, and should ours have
        # been founded after all, it has a member that never came
        founded = cluster_to_join(self._roster)
        if founded and founded[0].cluster_id != promise.cluster_id:
            self._out += self._joining.ask(founded, now_ms)

    def _seen_founded_lately(self, now_ms: int) -> bool:
        seen_ms = self._founded_seen_ms
        return seen_ms is not None and now_ms - seen_ms < FOUNDED_SEEN_MS

    # ---- effects -----------------------------------------------------------------------------

    def _save(self, facts: Facts) -> None:
        if facts != self.facts:
            self.facts = facts
            self._out.append(Save(facts))

    def _send(self, name: str, kind: Kind, *fields: object) -> None:
        self._out.append(Send(name, [int(kind), *fields]))
