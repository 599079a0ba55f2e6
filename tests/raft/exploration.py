"""Every interleaving of a few steps of three members, to a bounded depth.

States are searched breadth first; one that was seen before, up to the numbers on messages that
make no difference, is not searched again. After each step the rules of `explored_rules` are
looked at, and what breaks one is told with the steps that lead there.

    deliver   the oldest message of a link, and the receiver's turn
    die       the same, but the power fails at the receiver's first journal commit
    repeat    the same, but the message comes again
    campaign  a member's patience is over and its round of asking is won: at any time, which is
              more than pre-vote allows
    beat      a leader's heartbeat is due
    propose   a leader takes an operation in
    crash     a member loses what is not on its disk and starts again
    reset     a link loses what is on its way and comes back
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgpack

from tests.raft.explored_member import Disk, ExploredMember, Lifted, PowerFailure, Sent
from tests.raft.explored_rules import Broken, Past, acknowledged, judged

Step = tuple[str, ...]  # what, and to whom or from whom to whom


class Frame(NamedTuple):
    """A message on its way; None closes the link of the sender's former life."""

    data: bytes | None
    seq: int | None = None


CLOSED = Frame(None)


@dataclass(frozen=True, slots=True)
class State:
    members: dict[str, Lifted]
    links: dict[tuple[str, str], tuple[Frame, ...]]
    past: Past
    used: tuple[str, ...] = ()  # what was taken from the budget

    def key(self) -> int:
        """Numbers on messages count only as far as the guard still asks for them."""
        links = tuple(
            (link, tuple(self._frame_key(link, frame) for frame in frames))
            for link, frames in sorted(self.links.items())
            if frames
        )
        members = tuple(member.key for member in self.members.values())
        return hash((members, links, self.past, self.used))

    def _frame_key(self, link: tuple[str, str], frame: Frame) -> tuple[Any, ...]:
        if frame.seq is None or frame.data is None:
            return frame
        sender, receiver = link
        is_answer = b"next_node_idx" in frame.data
        leader, follower = (receiver, sender) if is_answer else (sender, receiver)
        return frame.data, frame.seq <= self.members[leader].rewound_at.get(follower, 0)


@dataclass
class Explorer:
    """Members that are shared by all branches, and the steps between their states."""

    names: tuple[str, ...] = ("n1", "n2", "n3")
    budget: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.members = {name: ExploredMember(name, self.names) for name in self.names}

    def start(self) -> State:
        """Nobody has heard of anybody, all links are up."""
        lifted = {name: member.started(Disk()) for name, member in self.members.items()}
        links = {(a, b): () for a in self.names for b in self.names if a != b}
        state = State(lifted, dict(links), Past())
        for name in self.names:
            for other in self.names:
                if name != other:
                    state = self._on(state, name, lambda m, o=other: m.replica.peer_up(o))
        return state

    # ---- which steps there are -----------------------------------------------------------------

    def steps(self, state: State) -> Iterator[Step]:
        used = Counter(state.used)
        for (a, b), frames in state.links.items():
            if frames:
                yield ("deliver", a, b)
                if frames[0].data is not None and used["repeat"] < self.budget.get("repeat", 0):
                    yield ("repeat", a, b)
                can_die = frames[0].data is not None and state.members[b].can_restart
                if can_die and used["die"] < self.budget.get("die", 0):
                    yield ("die", a, b)
        leaders = {name for name, member in state.members.items() if member.is_leader}
        mortal = {name for name, member in state.members.items() if member.can_restart}
        who = {"campaign": set(self.names) - leaders, "crash": mortal}
        who |= dict.fromkeys(("beat", "propose"), leaders)
        for kind, names in who.items():
            if used[kind] < self.budget.get(kind, 0):
                yield from ((kind, name) for name in sorted(names))
        if used["reset"] < self.budget.get("reset", 0):
            for a, b in state.links:
                if a < b and (state.links[a, b] or state.links[b, a]):
                    yield ("reset", a, b)

    # ---- taking one ----------------------------------------------------------------------------

    def take(self, state: State, step: Step) -> State:
        """The state after this step. Errors: Broken."""
        kind = step[0]
        after = getattr(self, f"_{kind}")(state, *step[1:])
        used = tuple(sorted((*state.used, kind))) if kind in self.budget else state.used
        restarted = {"die": step[-1], "crash": step[-1]}.get(kind)
        past = judged(after.past, after.members, state.members, restarted)
        return State(after.members, after.links, past, used)

    def run(self, state: State, script: Iterable[Step]) -> State:
        """The state after all these steps."""
        for step in script:
            state = self.take(state, step)
        return State(state.members, state.links, state.past)

    def quiet(self, state: State) -> State:
        """The state when everything on its way has arrived."""
        while any(state.links.values()):
            link = next(link for link, frames in state.links.items() if frames)
            state = self.take(state, ("deliver", *link))
        return State(state.members, state.links, state.past)

    def _on(self, state: State, name: str, do: Callable[[ExploredMember], None]) -> State:
        lifted, sent = self.members[name].step(state.members[name], do)
        return State(
            {**state.members, name: lifted}, _with(state.links, name, sent), state.past, state.used
        )

    def _deliver(self, state: State, a: str, b: str) -> State:
        frame, *rest = state.links[a, b]
        state = State(state.members, {**state.links, (a, b): tuple(rest)}, state.past, state.used)
        if frame.data is not None:
            data, seq = frame.data, frame.seq
            return self._on(state, b, lambda m: m.receive(a, data, seq))
        state = self._on(state, b, lambda m: m.replica.peer_down(a))
        return self._connected(state, a, b)

    def _repeat(self, state: State, a: str, b: str) -> State:
        frames = state.links[a, b]
        state = self._deliver(state, a, b)
        links = {**state.links, (a, b): frames[:1] + state.links[a, b]}
        return State(state.members, links, state.past, state.used)

    def _connected(self, state: State, a: str, b: str) -> State:
        state = self._on(state, b, lambda m: m.replica.peer_up(a))
        return self._on(state, a, lambda m: m.replica.peer_up(b))

    def _die(self, state: State, a: str, b: str) -> State:
        frame, *rest = state.links[a, b]
        state = State(state.members, {**state.links, (a, b): tuple(rest)}, state.past, state.used)
        member = self.members[b]

        def receive(m: ExploredMember) -> None:
            m.journal.power_fails = True
            m.receive(a, frame.data or b"", frame.seq)

        past = state.past
        try:
            _, sent = member.step(state.members[b], receive)
        except PowerFailure:
            sent = member.sent
            past = acknowledged(past, member.lift())
        links = _with(state.links, b, sent)
        return self._crash(State(state.members, links, past, state.used), b)

    def _crash(self, state: State, name: str) -> State:
        """What it sent still arrives; then its peers see the link closed."""
        links = dict(state.links)
        for other in self.names:
            if other != name:
                was_open = CLOSED not in links[name, other] + links[other, name]
                links[other, name] = ()
                links[name, other] += (CLOSED,) if was_open else ()
                if not was_open and CLOSED not in links[name, other]:
                    links[name, other] += (CLOSED,)
        fresh = self.members[name].started(state.members[name].disk)
        return State({**state.members, name: fresh}, links, state.past, state.used)

    def _reset(self, state: State, a: str, b: str) -> State:
        links = {**state.links, (a, b): (), (b, a): ()}
        state = State(state.members, links, state.past, state.used)
        state = self._on(state, a, lambda m: m.replica.peer_down(b))
        state = self._on(state, b, lambda m: m.replica.peer_down(a))
        return self._connected(state, a, b)

    def _campaign(self, state: State, name: str) -> State:
        return self._on(state, name, ExploredMember.campaign)

    def _beat(self, state: State, name: str) -> State:
        return self._on(state, name, ExploredMember.beat)

    def _compact(self, state: State, name: str) -> State:
        return self._on(state, name, ExploredMember.compact)

    def _propose(self, state: State, name: str) -> State:
        member = state.members[name]
        body = bytes([0, member.term, member.log[-1][1]])
        return self._on(state, name, lambda m: m.engine.append(body))


def _with(
    links: dict[tuple[str, str], tuple[Frame, ...]], sender: str, sent: Sent
) -> dict[tuple[str, str], tuple[Frame, ...]]:
    links = dict(links)
    for to, message in sent:
        if CLOSED in links[sender, to] or CLOSED in links[to, sender]:
            continue  # the link is down until that is read
        seq = message.get("seq")
        data = msgpack.packb({k: v for k, v in message.items() if k != "seq"})
        links[sender, to] += (Frame(data, seq),)
    return links


@dataclass
class Found:
    """How far a search came."""

    states: int = 1
    steps: int = 0
    depth: int = 0
    broken: str | None = None
    trace: tuple[Step, ...] = ()


def explore(explorer: Explorer, root: State, depth: int, states_max: int = 10**9) -> Found:
    """Search everything within `depth` steps of `root`; ends at the first rule that breaks."""
    found = Found()
    seen = {root.key()}
    level: list[tuple[State, tuple[Step, ...]]] = [(root, ())]
    for found.depth in range(1, depth + 1):
        after: list[tuple[State, tuple[Step, ...]]] = []
        for state, trace in level:
            for step in explorer.steps(state):
                found.steps += 1
                try:
                    next_state = explorer.take(state, step)
                except Broken as broken:
                    found.broken, found.trace = str(broken), (*trace, step)
                    return found
                key = next_state.key()
                if key not in seen:
                    seen.add(key)
                    after.append((next_state, (*trace, step)))
            found.states = len(seen)
            if found.states >= states_max:
                return found
        level = after
    return found
