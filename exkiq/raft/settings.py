"""What a member of the Raft group begins with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """Who we are and where our files are. `folder` None keeps everything in memory.

    `members` are the voters that the log begins with; a node that joins is not among them.
    """

    name: str
    cluster_id: str
    members: tuple[str, ...]
    folder: Path | None
    incarnation: str = ""
