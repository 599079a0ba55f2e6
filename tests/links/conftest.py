"""Every test of links runs on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest
import uvloop

from tests.links.loopback import and_stop_all

Run = Callable[[Coroutine[object, object, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on the plain loop, then on uvloop; stops what it left running."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def start(work: Coroutine[object, object, None]) -> None:
        with asyncio.Runner(loop_factory=factory, debug=request.param == "asyncio") as runner:
            runner.run(and_stop_all(work))

    return start
