"""The command line: parse, call, print.

    entry        `main`: the commands in one tree, errors to one line and an exit code
    start        builds a node from flags, environment and file
    reading      status stats queues jobs
    acting       pause resume retry cancel
    membership   cluster members | remove | leave | transfer
    checking     check: a data folder, offline
    bench...     bench: a cluster of its own, measured
    reach, show  how a node is reached; how answers look

Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

from exkiq.cli.entry import main

__all__ = ["main"]
