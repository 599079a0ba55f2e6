"""`python -m exkiq.cli.attended start ...`: a node that dies with whoever started it.

For benches and demonstrations, which start nodes of their own and must leave none behind,
even when they are killed themselves.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from exkiq.cli import main

PR_SET_PDEATHSIG = 1  # prctl(2); Linux only


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent ends."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was told
        raise SystemExit(1)


if __name__ == "__main__":
    die_with_parent()
    sys.exit(main())
