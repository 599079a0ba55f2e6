"""How this member stands: what guard and campaign read of its engine and its journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from exkiq.raft.journal import Journal

if TYPE_CHECKING:
    from exkiq.raft.engine import Engine


class Standing:
    """A view of one member; `engine` is set once it is built, before the first message."""

    engine: Engine
    heard_at: float | None = None  # when a leader last spoke, in monotonic seconds

    def __init__(
        self,
        journal: Journal,
        now: Callable[[], float],
        *,
        applied: Callable[[], int],
        has_leader: Callable[[], bool],
        votes_as_applied: Callable[[], bool],
    ) -> None:
        self._journal, self._now = journal, now
        self._applied, self._has_leader = applied, has_leader
        self._votes_as_applied = votes_as_applied

    @property
    def term(self) -> int:
        return int(self.engine.raftCurrentTerm)

    @property
    def voters(self) -> frozenset[str]:
        """The other voters, as of the newest entry."""
        return self.engine.others

    @property
    def followers(self) -> frozenset[str]:
        """The other members, as of the newest entry: whoever is sent the log."""
        return self.engine.others | self.engine.roles.non_voters - {self.engine.name}

    @property
    def is_member(self) -> bool:
        """Whether this node, and no former one of its name, is a member as of the newest entry."""
        return self.engine.roles.role(self.engine.name) is not None

    @property
    def is_voter(self) -> bool:
        """Whether this member votes, as of the newest entry."""
        return self.engine.name in self.engine.roles.voters

    @property
    def may_campaign(self) -> bool:
        """Whether this member may ask the voters to elect it.

        Its own removal counts once it is committed: until then it may be the only one that has
        the entry, and who alone can have it committed.
        """
        return self.is_voter or self._votes_as_applied()

    @property
    def has_leader(self) -> bool:
        return self._has_leader()

    @property
    def leader(self) -> str | None:
        """Who leads, as far as the engine has heard."""
        return self.engine.leader

    def note_lead(self) -> None:
        """Once a turn: who leads, and has applied all of earlier terms, hears itself."""
        if self.engine.is_leader_ready:
            self.heard_at = self._now()

    @property
    def age_ms(self) -> int | None:
        """How old what is applied here may be: since when no leader was heard, None for ever.

        A leader that is cut off believes itself up to date until it notices, for most of a second.
        """
        return None if self.heard_at is None else round((self._now() - self.heard_at) * 1000)

    @property
    def is_leader(self) -> bool:
        return self.engine.is_leader

    @property
    def is_candidate(self) -> bool:
        return self.engine.is_candidate

    @property
    def is_patience_over(self) -> bool:
        """Whether the time to wait for a leader has passed."""
        return self.engine.election_in <= 0

    @property
    def last_index(self) -> int:
        return self._journal.last_index

    @property
    def commit_index(self) -> int:
        """What is applied or committed may never be cut."""
        return max(self._journal.commit_index, self._applied())

    def term_at(self, index: int) -> int | None:
        """Term of the entry there, None when we have none."""
        return self._journal.term_at(index)
