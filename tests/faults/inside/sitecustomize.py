"""Read by each Python process of a node under test, before anything else.

FAULTS_CLOCK   a file of 8 bytes: milliseconds by which this node's wall clock is wrong
FAULTS_ROUTES  JSON, "host:port" to the port of the proxy that stands before it
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any


def set_clock(path: str) -> None:
    """Wall time follows the file from now on; monotonic time stays as it is."""
    with Path(path).open("rb") as file:
        offset = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    real_ns = time.time_ns

    def time_ns() -> int:
        ms: int = struct.unpack("<q", offset[:8])[0]
        return real_ns() + ms * 1_000_000

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9


def dial_through(loop_class: Any, routes: dict[str, int]) -> None:
    """Connections to these addresses go to the proxy."""
    plain = loop_class.create_connection

    async def create_connection(
        self: Any, factory: Any, host: Any = None, port: Any = None, **rest: Any
    ) -> Any:
        return await plain(self, factory, host, routes.get(f"{host}:{port}", port), **rest)

    loop_class.create_connection = create_connection


if os.environ.get("FAULTS_CLOCK"):
    set_clock(os.environ["FAULTS_CLOCK"])
if os.environ.get("FAULTS_ROUTES") and "exkiq" in sys.orig_argv:  # the node, not its children
    try:
        from uvloop import Loop
    except ImportError:
        from asyncio import SelectorEventLoop as Loop
    dial_through(Loop, json.loads(os.environ["FAULTS_ROUTES"]))
