"""Planted faults of the Raft room: votes, answers, the log, the disk."""

from __future__ import annotations

import hashlib
import sqlite3
from types import SimpleNamespace
from typing import Any

from exkiq.machine import snapshot as machine_snapshot
from exkiq.raft import Journal, Replica, campaign, guard, snapshot_file, transport
from exkiq.raft.guard import NOTHING, Appending, Guard, Verdict
from exkiq.raft.outcomes import Outbox
from exkiq.raft.pieces import Pieces
from exkiq.raft.snapshot import SnapshotStore
from exkiq.raft.standing import Standing
from exkiq.raft.transport import EngineTransport
from tests.sim.disk import SimJournal
from tests.sim.mutant import DEATHS, Mutant, Parts

# ---- what must be on the disk ----------------------------------------------------------------


def _ack_before_sync() -> Parts:
    return [(transport, "_VOUCHING", ())]


def _uncounted_sync() -> Parts:
    def put(self: Any, index: int) -> None:
        self._commit_index = index

    def never(self: Any) -> None:
        self._is_sync_due = False

    return [(Journal, "setRaftCommitIndex", put), (Replica, "_sync_on_loop", never)]


def _unsynced_vote() -> Parts:
    def put(self: Any, term: int, vote: str | None) -> None:
        self._term, self._vote = term, vote

    return [(Journal, "setCurrentTerm", put)]


def _forgotten_vote() -> Parts:
    load = SimJournal._load

    def forget(self: Any) -> None:
        load(self)
        self._vote = None
        self._term = max(0, self._term - 1)

    return [(SimJournal, "_load", forget)]


def _swallowed_disk_error() -> Parts:
    def careless(self: Any) -> None:
        if self.is_clean and not self._hard_state_changed and self._cut_below is None:
            return
        try:
            self._write()
        except sqlite3.Error:
            self._cut_from = self._unwritten_from = None
            self._hard_state_changed = False

    return [(Journal, "commit", careless)]


def _unchecked_entries() -> Parts:
    def trusting(_: Any, rows: Any) -> Any:
        for index, term, body, _crc in rows:
            yield body, index, term

    return [(Journal, "_verified", trusting)]


# ---- votes and terms -------------------------------------------------------------------------


def _votes_twice() -> Parts:
    return [(Guard, "_counts", lambda _, sender, __, view: sender in view.voters)]


def _any_voter() -> Parts:
    """Those who would give such a vote hold it back too."""
    return [
        (Guard, "_counts", lambda *_: True),
        (Standing, "is_member", property(lambda _: True)),
    ]


def _no_pre_vote() -> Parts:
    def shown(self: Any) -> None:
        for name in self._connected - self._shown - self._pieces.full(self._now()):
            self._show(name)

    return [(EngineTransport, "before_tick", shown)]


def _hasty_pre_vote() -> Parts:
    return [(campaign, "LEADER_SECONDS", float("-inf"))]


def _silent_term() -> Parts:
    answer, append = Guard._answer, Guard._append

    def deaf(self: Any, sender: str, message: Any, view: Any) -> Verdict:
        if message["term"] > view.term:
            return NOTHING
        return answer(self, sender, message, view)

    def mute(self: Any, message: Any, view: Any) -> Verdict:
        return NOTHING if message["term"] < view.term else append(self, message, view)

    return [(Guard, "_answer", deaf), (Guard, "_append", mute)]


# ---- appends and answers ---------------------------------------------------------------------


def _any_answer() -> Parts:
    return [(Guard, "_answer", lambda self, sender, message, view: Verdict(message))]


def _no_prefix_trim() -> Parts:
    def whole(message: Any, *_: Any) -> Verdict:
        return Verdict(message, appending=Appending(message["seq"]))

    return [(guard, "_trimmed", whole)]


def _no_rewind_cut() -> Parts:
    answer = Guard._answer

    def forgetful(self: Any, sender: str, message: Any, view: Any) -> Verdict:
        self.rewound_at.clear()
        return answer(self, sender, message, view)

    return [(Guard, "_answer", forgetful)]


def _no_hint() -> Parts:
    return [(guard, "_first_of_its_term", lambda index, _: index)]


def _snapshot_commit() -> Parts:
    append = Guard._append

    def careless(self: Any, message: Any, view: Any) -> Verdict:
        if "prevLogIdx" in message or message["term"] < view.term:
            return append(self, message, view)
        return Verdict(message, None, Appending(message["seq"]))

    return [(Guard, "_append", careless)]


def _forgetful_outbox() -> Parts:
    def forget(self: Any) -> None:
        self._waiting.clear()
        self._unsent = []

    return [(Outbox, "leader_changed", forget)]


def _sent_once() -> Parts:
    tick = Outbox.tick

    def patient(self: Any, now: float) -> None:
        unsent = self._unsent
        tick(self, now)
        self._unsent = [proposal for proposal in unsent if proposal in self._unsent]

    return [(Outbox, "tick", patient)]


def _unpaced_pieces() -> Parts:
    return [(Pieces, "sent_piece", lambda *_: False)]


# ---- snapshots and members -------------------------------------------------------------------


def _no_alignment() -> Parts:
    return [(Journal, "align", lambda *_: None)]


def _unloaded_snapshot() -> Parts:
    return [(SnapshotStore, "must_have_loaded", lambda _: None)]


class _Blind:
    """A digest that is equal to any other."""

    digest_size = 32

    def __init__(self, data: Any = b"") -> None:
        self._sum = hashlib.sha256(data)

    def update(self, data: Any) -> None:
        self._sum.update(data)

    def digest(self) -> bytes:
        return _Equal(self._sum.digest())


class _Equal(bytes):
    __hash__ = bytes.__hash__

    def __eq__(self, _: object) -> bool:
        return True

    def __ne__(self, _: object) -> bool:
        return False


def _unchecked_snapshot() -> Parts:
    blind = SimpleNamespace(sha256=_Blind)
    return [(snapshot_file, "hashlib", blind), (machine_snapshot, "hashlib", blind)]


class _Nothing:
    """Whatever is asked, there is nothing yet."""

    index = -1

    def holds(self, _: object) -> bool:
        return False


def _older_snapshot() -> Parts:
    accept = SnapshotStore._accept

    def gullible(self: Any, *received: Any) -> bool:
        journal, machine = self._journal, self._machine
        self._journal, self._machine = _Nothing(), _Nothing
        try:
            return accept(self, *received)
        finally:
            self._journal, self._machine = journal, machine

    return [(SnapshotStore, "_accept", gullible)]


RAFT_MUTANTS: dict[str, Mutant] = {
    "ack-before-sync": Mutant(
        "answers leave before the commit", "S5", _ack_before_sync, (*DEATHS, "slowdisk")
    ),
    "uncounted-sync": Mutant(
        "a leader counts what is not on its disk", "S5", _uncounted_sync, DEATHS
    ),
    "unsynced-vote": Mutant(
        "a vote leaves before it is on the disk",
        "S5",
        _unsynced_vote,
        schedule="vote-before-a-restart",
    ),
    "forgotten-vote": Mutant(
        "a restart forgets term and vote", "S6", _forgotten_vote, schedule="vote-before-a-restart"
    ),
    "swallowed-disk-error": Mutant(
        "a refused commit is taken for one", "D3", _swallowed_disk_error, ("baddisk", "crash")
    ),
    "unchecked-entries": Mutant(
        "the checksums of entries are not looked at",
        "D2",
        _unchecked_entries,
        schedule="flipped-bit",
    ),
    "votes-twice": Mutant(
        "a vote counts as often as it comes", "S15", _votes_twice, schedule="one-vote-again"
    ),
    "any-voter": Mutant(
        "votes of nodes that are not members count",
        "S15",
        _any_voter,
        schedule="votes-of-strangers",
    ),
    "no-pre-vote": Mutant(
        "a node campaigns without asking first", "L5", _no_pre_vote, schedule="returning-follower"
    ),
    "hasty-pre-vote": Mutant(
        "a campaign is agreed to although the leader is heard",
        "L5",
        _hasty_pre_vote,
        schedule="returning-follower",
    ),
    "silent-term": Mutant(
        "a leader of an older term is not told so", "S26", _silent_term, schedule="newer-term"
    ),
    "any-answer": Mutant(
        "answers of all terms and numbers count", "S4", _any_answer, schedule="late-answers"
    ),
    "no-prefix-trim": Mutant(
        "matching entries are cut", "S3", _no_prefix_trim, schedule="two-heartbeats"
    ),
    "no-rewind-cut": Mutant(
        "refusals of what was sent before a rewind count",
        "L1",
        _no_rewind_cut,
        schedule="flood-of-refusals",
    ),
    "no-hint": Mutant(
        "a refusal does not say how far to go back",
        "L2",
        _no_hint,
        schedule="long-divergent-tail",
    ),
    "snapshot-commit": Mutant(
        "a snapshot's message moves the commit index",
        "S1",
        _snapshot_commit,
        schedule="snapshot-to-a-former-leader",
    ),
    "forgetful-outbox": Mutant("an election drops what waits", "S22", _forgetful_outbox, DEATHS),
    "sent-once": Mutant(
        "what got no answer is not sent again", "L13", _sent_once, schedule="deaf-leader"
    ),
    "unpaced-pieces": Mutant(
        "a peer is sent more of a snapshot than it takes",
        "L10",
        _unpaced_pieces,
        schedule="snapshot-to-a-slow-peer",
    ),
    "no-alignment": Mutant(
        "the log is not aligned to the snapshot",
        "S2",
        _no_alignment,
        schedule="kill-after-rename",
    ),
    "unloaded-snapshot": Mutant(
        "a snapshot that could not be loaded is answered as if it was",
        "S9",
        _unloaded_snapshot,
        schedule="snapshot-that-fails-to-load",
    ),
    "unchecked-snapshot": Mutant(
        "the checksum of a snapshot is not looked at",
        "S8",
        _unchecked_snapshot,
        schedule="snapshot-damaged-on-its-way",
    ),
    "older-snapshot": Mutant(
        "a snapshot older than the state replaces it",
        "S13",
        _older_snapshot,
        schedule="snapshot-sent-again",
    ),
}
