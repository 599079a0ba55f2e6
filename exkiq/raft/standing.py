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

    def __init__(
        self,
        journal: Journal,
        now: Callable[[], float],
        *,
        applied: Callable[[], int],
        has_leader: Callable[[], bool],
    ) -> None:
        self._journal, self._now = journal, now
        self._applied, self._has_leader = applied, has_leader

    @property
    def term(self) -> int:
        return int(self.engine.raftCurrentTerm)

    @property
    def voters(self) -> frozenset[str]:
        """The other voters, as of the newest entry."""
        return self.engine.others

    @property
    def has_leader(self) -> bool:
        return self._has_leader()

    @property
    def is_leader(self) -> bool:
        return self.engine.is_leader

    @property
    def is_candidate(self) -> bool:
        return self.engine.is_candidate

    @property
    def is_patience_over(self) -> bool:
        """Whether the time to wait for a leader has passed."""
        return self._now() >= self.engine.election_at

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
