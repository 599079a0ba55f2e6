"""A pool whose jobs have less time to end than those of the node."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import exkiq
from exkiq import Worker


class Brief(Worker, queue="brief"):
    async def perform(self) -> None:
        (Path(os.environ["SLOTS_FOLDER"]) / f"runs {self.job.id}").touch()
        await asyncio.sleep(60)


class Long(Worker):
    def perform(self, path: str) -> str:
        (Path(os.environ["SLOTS_FOLDER"]) / f"runs {self.job.id}").touch()
        while not Path(path).exists():
            time.sleep(0.002)
        return "ended"


exkiq.pool("brief", Brief, slots=1, shutdown=0.1)
