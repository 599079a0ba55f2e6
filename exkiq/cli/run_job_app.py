"""The session job of `scripts/run_job`; its nodes are started with `exkiq start` of this module."""

from __future__ import annotations

import asyncio
from typing import Any

from exkiq.session_job import SessionJob

WORK_SECONDS = 0.5


class Kept(SessionJob, queue="run_job"):
    """Keeps its events, as every session job does that says nothing else, and takes its time."""

    async def on_update(self, event: Any) -> list[Any]:
        await asyncio.sleep(WORK_SECONDS)
        state: list[Any] = super().on_update(event)
        return state
