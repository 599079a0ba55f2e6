"""The checked values a node is built from, and the defaults that depend on the machine."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exkiq.config.certificates import Certificates


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a node is told. Built by `from_command_line` or `from_keywords`, which check it."""

    app: tuple[str, ...] = ()
    name: str
    cluster: str = "default"
    data_dir: Path | None = None
    memory: bool = False
    bind: str = "127.0.0.1:0"
    interfaces: tuple[str, ...] = ("127.0.0.1",)
    peers: tuple[str, ...] = ()
    mdns: bool = True
    bootstrap_expect: int = 1
    queues: Mapping[str, int] = field(default_factory=dict)
    queue_tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    processes: int = 1
    concurrency: int = 10
    secret: bytes | None = field(default=None, repr=False)
    insecure: bool = False
    tls: Certificates | None = field(default=None, repr=False)
    drain_timeout: float = 10.0
    node_timeout: float = 2.0
    claim_timeout: float = 1.0
    replace_after: float = 300.0
    join_wait: float = 3.0
    leave_on_stop: bool = False
    log_level: str = "INFO"

    @property
    def folder(self) -> Path | None:
        """Where the node keeps its data; None when it writes nothing."""
        if self.memory:
            return None
        return self.data_dir or default_data_dir(self.cluster, self.name, os.environ)


def default_name(host: str | None = None) -> str:
    """The first label of the host's name, in letters that a node's name may have."""
    label = (socket.gethostname() if host is None else host).partition(".")[0]
    cleaned = re.sub(r"[^a-z0-9-]+", "-", label.lower()).strip("-")
    return cleaned[:63].rstrip("-") or "node"


def default_data_dir(cluster: str, name: str, environ: Mapping[str, str]) -> Path:
    """One folder for each cluster and node below the platform's state folder."""
    given = environ.get("XDG_STATE_HOME", "")
    # a relative path there is to be ignored: XDG Base Directory Specification
    state = Path(given) if Path(given).is_absolute() else Path.home() / ".local" / "state"
    return state / "exkiq" / cluster / name


def default_processes() -> int:
    """The cores this process may use, which on a shared machine is fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
