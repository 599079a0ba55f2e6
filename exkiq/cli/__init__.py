"""The command line: parse, call, print.

    entry        `main`: the commands in one tree, errors to one line and an exit code
    start        builds a node from flags, environment and file
    reading      status stats queues jobs
    acting       pause resume retry cancel
    membership   cluster members | remove | leave | transfer
    checking     check: a data folder, offline
    certs        certs init | node | client; authority makes them
    bench...     bench: a cluster of its own, measured
    reach, show  how a node is reached; how answers look

Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["INTERRUPTED", "main"]

INTERRUPTED = 130  # what shells expect after SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; see `exkiq.cli.entry.main`."""
    try:
        # imported late: Ctrl-C while the modules load is no fault of ours to show
        from exkiq.cli import entry

        return entry.main(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
