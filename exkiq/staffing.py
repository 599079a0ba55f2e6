"""The children of a node: which APP they load, and what they find around them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from exkiq.clock import Clock
from exkiq.config import Settings
from exkiq.config.certificates import FILES
from exkiq.pool import Pool, Report
from exkiq.rendezvous import socket_path

LOADER = "exkiq.task:load_app"


def make_pool(
    settings: Settings,
    report: Callable[[Report], None],
    clock: Clock,
    *,
    processes: int,
    concurrency: int,
) -> Pool:
    """A pool for the APP of these settings, not started yet."""
    return Pool(
        settings.app,
        LOADER,
        processes,
        concurrency,
        report,
        clock,
        tuple(sys.path),
        os.getcwd(),  # noqa: PTH109 - a plain string for the children
        environ_of_jobs(settings),
        settings.queue_tables,
        claim_timeout=settings.claim_timeout,
    )


def environ_of_jobs(settings: Settings) -> dict[str, str]:
    """How a job that enqueues another one finds this node, and proves that it may."""
    path = socket_path(settings.cluster, settings.name)
    environ = {"EXKIQ_URL": f"exkiq+unix://{path}", "EXKIQ_CLUSTER": settings.cluster}
    if settings.secret is not None:
        secret = os.fsdecode(settings.secret)
        environ |= {"EXKIQ_SECRET": secret, "EXKIQ_SECRET_FILE": ""}  # a file would come first
    if settings.tls is not None:
        files = zip(FILES, settings.tls.files, strict=True)
        environ |= {f"EXKIQ_{name.upper()}": str(path) for name, path in files}
    return environ
