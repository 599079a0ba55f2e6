"""The replicated log: Raft by pysyncobj, used as an engine for opaque bytes.

    replica      one member: the turn, group commit, what the node asks
    settings     what it begins with
    listener     what it tells the node above
    engine       the only file that touches the engine's private names
    transport    the engine's messages out and in; answers wait for the disk
    guard        which messages may reach the engine, and in which form (pure)
    campaign     who may campaign: pre-vote (pure)
    standing     what those two read of this member
    messages     the engine's messages on the wire, checked
    journal      entries, term, vote and identity in SQLite (journal_file)
    high_water   how far the journal reached, outside of it
    pieces       how much of log or snapshot is on its way to a peer
    chunks       a snapshot on its way, cut and put together (pure)
    snapshot     when one is written, sent and taken in; its bytes (snapshot_file)
    gathering    operations that become one entry
    handover     giving the lead away
    membership   who votes; changes of members: entries without pickle, one at a time
    outcomes     what was proposed here and is not applied yet
    log_clock    the time that a leader stamps on entries
    folder       a data folder: its lock, its identity, its check

Nothing outside this room imports pysyncobj.
"""

from exkiq.raft.folder import DataFolder, FolderReport, check, unused_folder
from exkiq.raft.journal import Journal
from exkiq.raft.journal_file import JournalError
from exkiq.raft.listener import Listener
from exkiq.raft.replica import Replica
from exkiq.raft.settings import ReplicaSettings

__all__ = [
    "DataFolder",
    "FolderReport",
    "Journal",
    "JournalError",
    "Listener",
    "Replica",
    "ReplicaSettings",
    "check",
    "unused_folder",
]
