"""The one logger, and how a node's lines look.

Product code logs here and nowhere else; nothing prints.
"""

from __future__ import annotations

import logging

log = logging.getLogger("exkiq")

LINE = "%(asctime)s %(levelname)-7s %(message)s"


def log_to_stderr(level: str, node: str) -> None:
    """Send log lines of `level` and above to stderr, each with the node's name."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(LINE.replace("%(message)s", f"{node}: %(message)s")))
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False
