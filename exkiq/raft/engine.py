"""pysyncobj as an engine: a replicated log of opaque bytes, and nothing else of it.

The only file that touches the engine's private names. Each is covered by a contract test that
turns red when the pinned package changes:

    replaced while it is built   createJournal, Serializer, createPoller, PIPE_NOTIFIER_ENABLED
    overridden                   __doApplyCommand, __parseChangeClusterRequest,
                                 __doChangeCluster, __updateClusterConfiguration,
                                 __connectedToAnyone, __applyLogEntries, __tryLogCompaction,
                                 _checkCommandsToApply
    read                         __raftLog, __commandsQueue and its __queue, __noopIDx,
                                 __otherNodes, __raftState
    read and set                 __raftElectionDeadline, __raftCommitIndex, __readonlyNodes,
                                 __raftNextIndex, __raftMatchIndex
    set                          __changeClusterIDx
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from pysyncobj import SyncObj, SyncObjConf, syncobj
from pysyncobj.node import Node

from exkiq.errors import LocalWireError
from exkiq.machine import MemberChange
from exkiq.raft.journal import Journal
from exkiq.raft.membership import Roles, decode_change
from exkiq.raft.snapshot import SnapshotStore
from exkiq.raft.transport import EngineTransport

HEARTBEAT_SECONDS = 0.05
ELECTION_SECONDS_MIN = 0.25
ELECTION_SECONDS_MAX = 0.5
FALLBACK_SECONDS = 0.75  # a leader without a majority stops believing in itself
BATCH_BYTES = 4 * 1024 * 1024  # above the largest entry: the engine miscounts what it must cut
APPLY_BYTES_A_TURN = 1024 * 1024  # some ten thousand jobs, 0.1 s: heartbeats leave between turns
COMPACT_ENTRIES = 100_000  # small ones; of large ones the bytes count, see snapshot.py
_CANDIDATE = 1
_DEADLINE = "_SyncObj__raftElectionDeadline"
_NOBODY = Node("")  # outweighs the vote of a member that is no voter
NEVER_SECONDS = 10 * 365 * 24 * 3600.0
NEVER_ENTRIES = 2**62


def _counted(voters: frozenset[str], name: str) -> list[Node]:
    """Whom the engine counts a majority of, beside itself.

    It always counts itself. Who is no voter by its newest entry would need half of the others
    only, where their number is even; so there is one more that never answers.
    """
    others = [Node(other) for other in sorted(voters - {name})]
    return others if name in voters else [*others, _NOBODY]


class _NullPoller:
    """The sockets are the loop's, not the engine's."""

    def subscribe(self, *_: Any) -> None: ...
    def unsubscribe(self, *_: Any) -> None: ...
    def poll(self, _: float) -> None: ...


# Nodes of one process are built on threads of their own: one would be given another's journal.
_building = Lock()


@contextmanager
def _our_parts(journal: Journal, snapshots: SnapshotStore) -> Iterator[None]:
    """Let the engine be built with our parts, then leave the package as it was."""
    with _building:
        yield from _swapped(journal, snapshots)


def _swapped(journal: Journal, snapshots: SnapshotStore) -> Iterator[None]:
    ours = {
        "createJournal": lambda _: journal,
        "Serializer": lambda *_: snapshots,
        "createPoller": lambda _: _NullPoller(),
        "PIPE_NOTIFIER_ENABLED": False,
    }
    theirs = {name: getattr(syncobj, name) for name in ours}
    for name, part in ours.items():
        setattr(syncobj, name, part)
    try:
        yield
    finally:
        for name, part in theirs.items():
            setattr(syncobj, name, part)


class Engine(SyncObj):  # type: ignore[misc]  # the package has no types
    """One member's Raft, ticked by its owner.

    Duties: hand each committed entry to `apply(index, command)`, once and in order; ask
    `gather()` for what is to be proposed, after everything committed is applied; keep `roles`
    as of the newest entry, and the non-voters where the engine sends to and does not count.
    """

    def __init__(
        self,
        name: str,
        roles: Roles,
        journal: Journal,
        snapshots: SnapshotStore,
        transport: EngineTransport,
        apply: Callable[[int, bytes], None],
        gather: Callable[[], None],
    ) -> None:
        self.name, self.roles, self._exkiq_snapshots = name, roles, snapshots
        self._exkiq_apply = apply
        self._exkiq_gather = gather
        path = snapshots.path
        conf = SyncObjConf(
            autoTick=False,
            appendEntriesUseBatch=False,
            appendEntriesPeriod=HEARTBEAT_SECONDS,
            raftMinTimeout=ELECTION_SECONDS_MIN,
            raftMaxTimeout=ELECTION_SECONDS_MAX,
            leaderFallbackTimeout=FALLBACK_SECONDS,
            commandsWaitLeader=False,
            dynamicMembershipChange=True,
            useFork=False,
            appendEntriesBatchSizeBytes=BATCH_BYTES,
            logCompactionMinEntries=NEVER_ENTRIES,
            logCompactionMinTime=NEVER_SECONDS,
            journalFile=str(journal.path),
            fullDumpFile=None if path is None else str(path),
        )
        with _our_parts(journal, snapshots):
            super().__init__(
                Node(name),
                _counted(roles.voters, name),
                conf,
                nodeClass=Node,
                transport=transport,
            )
        self._SyncObj__readonlyNodes |= {Node(other) for other in roles.non_voters - {name}}

    # ---- overridden: the engine looks these up by their mangled names ------------------------

    def _SyncObj__doApplyCommand(self, command: bytes) -> None:  # noqa: N802
        self._exkiq_apply(self.raftLastApplied + 1, command)

    def _SyncObj__parseChangeClusterRequest(self, command: bytes) -> list[Any] | None:  # noqa: N802
        change = decode_change(command)
        if change is None:
            return None
        return [change]

    def _SyncObj__doChangeCluster(self, request: list[Any], reverse: bool = False) -> bool:  # noqa: N802
        change: MemberChange = request[0]
        roles = self.roles.before(change) if reverse else self.roles.after(change)
        if self.is_leader and not reverse and self.name not in roles.voters:
            return False  # it would go on counting itself
        # the engine denies a second change until this one is applied, but never sets it
        self._SyncObj__changeClusterIDx = self.last_index + 1 if self.is_leader else None
        self._follow(roles)
        return True

    def _SyncObj__updateClusterConfiguration(self, _: list[Node]) -> None:  # noqa: N802
        self._SyncObj__changeClusterIDx = None
        self._follow(self._exkiq_snapshots.roles)

    def _SyncObj__connectedToAnyone(self) -> bool:  # noqa: N802
        # with no other voter to ask it would elect itself, voter or not
        may_be_alone = bool(self.others) or self.name in self.roles.voters
        return may_be_alone and bool(super()._SyncObj__connectedToAnyone())

    def _follow(self, roles: Roles) -> None:
        """Let the engine's lists of nodes be these."""
        before, self.roles = self.roles, roles
        counted_before, counted = (_counted(each.voters, self.name) for each in (before, roles))
        for node in counted_before:
            if node not in counted:
                super()._SyncObj__doChangeCluster(["rem", node.id, node])
        for name in sorted(before.non_voters - roles.non_voters - {self.name}):
            self._drop_non_voter(Node(name))
        for node in counted:
            if node not in counted_before:
                super()._SyncObj__doChangeCluster(["add", node.id, node])
        for name in sorted(roles.non_voters - before.non_voters - {self.name}):
            self._take_non_voter(Node(name))

    def _take_non_voter(self, node: Node) -> None:
        self._SyncObj__readonlyNodes.add(node)
        self._SyncObj__raftNextIndex[node] = self.last_index + 1
        self._SyncObj__raftMatchIndex[node] = 0
        self._SyncObj__transport.addNode(node)

    def _drop_non_voter(self, node: Node) -> None:
        self._SyncObj__readonlyNodes.discard(node)
        self._SyncObj__raftNextIndex.pop(node, None)
        self._SyncObj__raftMatchIndex.pop(node, None)
        self._SyncObj__transport.dropNode(node)

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        """Apply some of what is committed; the rest in the next turns."""
        name = "_SyncObj__raftCommitIndex"
        commit_index = getattr(self, name)
        if commit_index <= self.raftLastApplied:
            return False
        setattr(self, name, self._apply_until(commit_index))
        try:
            return bool(super()._SyncObj__applyLogEntries())
        finally:
            setattr(self, name, commit_index)

    def _apply_until(self, commit_index: int) -> int:
        """The last index of about `APPLY_BYTES_A_TURN`, of one entry at least."""
        log = self._SyncObj__raftLog
        place, room = self.raftLastApplied + 1 - log[0][1], APPLY_BYTES_A_TURN
        count = commit_index - self.raftLastApplied
        entries = log[place : place + count] if place >= 0 else []
        for body, index, _ in entries:
            room -= len(body)
            if room <= 0:
                return int(index)
        return int(commit_index)

    def _checkCommandsToApply(self) -> None:  # noqa: N802
        self._exkiq_gather()
        # the engine finds its queue empty by way of an exception, in nearly every turn
        if self._SyncObj__commandsQueue._FastQueue__queue:
            super()._checkCommandsToApply()

    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802
        if self._exkiq_snapshots.is_due(COMPACT_ENTRIES):
            self.forceLogCompaction()
        super()._SyncObj__tryLogCompaction()

    # ---- what the replica asks ---------------------------------------------------------------

    def append(self, command: bytes, on_denied: Callable[[Any, Any], None] | None = None) -> None:
        """Have `command`, its type byte in front, appended in this turn if we lead."""
        if len(command) >= BATCH_BYTES:
            raise LocalWireError(f"an entry of {len(command)} bytes would never be replicated")
        self._SyncObj__commandsQueue.put_nowait((command, on_denied))

    @property
    def is_behind(self) -> bool:
        """Whether something is committed that a next turn has to apply."""
        return bool(self.raftLastApplied < self.raftCommitIndex)

    @property
    def is_leader(self) -> bool:
        return bool(self._isLeader())

    @property
    def leader(self) -> str | None:
        leader = self._getLeader()
        return None if leader is None else str(leader.id)

    @property
    def is_leader_ready(self) -> bool:
        """Leader, and everything of earlier terms is applied here."""
        return self.is_leader and self.raftLastApplied >= self._SyncObj__noopIDx

    @property
    def last_index(self) -> int:
        return int(self._SyncObj__raftLog[-1][1])

    @property
    def others(self) -> frozenset[str]:
        """The other voters, as of the newest entry in the log."""
        return frozenset(node.id for node in self._SyncObj__otherNodes - {_NOBODY})

    def matched(self, name: str) -> int:
        """Leader only: up to which entry this member is known to have the log."""
        return int(self._SyncObj__raftMatchIndex.get(Node(name), 0))

    @property
    def is_candidate(self) -> bool:
        return int(self._SyncObj__raftState) == _CANDIDATE

    @property
    def election_in(self) -> float:
        """Seconds until patience with a leader that is not heard ends.

        The engine reads the raw monotonic clock, which is seconds away from everybody else's on
        a machine whose clock has been steered for a while: a moment of one means nothing to the
        other.
        """
        return float(getattr(self, _DEADLINE)) - float(syncobj.monotonicTime())

    def set_election_in(self, seconds: float) -> None:
        """Let it end then."""
        setattr(self, _DEADLINE, syncobj.monotonicTime() + seconds)
