"""Tests of sockets run on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest
import uvloop

from tests.links.loopback import and_stop_all

Run = Callable[[Coroutine[object, object, None]], None]


def runner_on(new_loop: Callable[[], asyncio.AbstractEventLoop], *, is_debug: bool) -> Run:
    def start(work: Coroutine[object, object, None]) -> None:
        with asyncio.Runner(loop_factory=new_loop, debug=is_debug) as runner:
            runner.run(and_stop_all(work))

    return start


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on the plain loop, then on uvloop; stops what it left running."""
    if request.param == "uvloop":
        return runner_on(uvloop.new_event_loop, is_debug=False)
    return runner_on(asyncio.new_event_loop, is_debug=True)


@pytest.fixture
def run_once() -> Run:
    """For what does not depend on the loop: runs a coroutine on uvloop, as nodes do."""
    return runner_on(uvloop.new_event_loop, is_debug=False)
