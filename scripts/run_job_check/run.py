"""Start session jobs, update each, finish each, and look whether its state came through.

Says nothing but one line of progress, on stderr. Exit codes: 0 all is well; 1 a session job has
another state than it should, and is named; 2 a number that is none, or fewer than three nodes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

import exkiq
from exkiq.cli.run_job_app import WORK_SECONDS, Kept
from exkiq.errors import ConfigError, ExkiqError
from exkiq.machine.limits import SESSION_JOBS_MAX

NODES_MIN = 3
AT_ONCE = 200
# An election, and the work of the node that is lost once more.
TROUBLE_SECONDS = 30.0


class WrongUseError(Exception):
    """What the caller has to put right first."""


class Check:
    """One run over all session jobs; `faults` are its findings, one line each."""

    def __init__(self, count: int) -> None:
        self._ids = [f"start{number}" for number in range(1, count + 1)]
        # with one slot in the whole cluster one waits for all the others
        self._timeout = TROUBLE_SECONDS + count * WORK_SECONDS
        self._places = asyncio.Semaphore(AT_ONCE)
        self.faults: list[str] = []

    async def run(self) -> None:
        await self._each(self._start)
        count = len(self._ids)
        print(f"{count} session jobs started, now they are updated and finished", file=sys.stderr)
        await self._each(self._update)
        await self._each(self._finish)

    async def _each(self, phase: Any) -> None:
        await asyncio.gather(*(self._one(phase, session_id) for session_id in self._ids))

    async def _one(self, phase: Any, session_id: str) -> None:
        try:
            async with self._places:
                await phase(session_id)
        except (ExkiqError, TimeoutError) as error:
            self.faults.append(f"{session_id}: {type(error).__name__}: {error}")

    async def _start(self, session_id: str) -> None:
        await Kept.astart(session_id, timeout=self._timeout)

    async def _update(self, session_id: str) -> None:
        await Kept.aupdate(session_id, _event(session_id), timeout=self._timeout)

    async def _finish(self, session_id: str) -> None:
        state = await Kept.afinish(session_id, timeout=self._timeout)
        expected = [_event(session_id), session_id]
        if state != expected:
            self.faults.append(f"{session_id}: its state is {state!r}, not {expected!r}")


def _event(session_id: str) -> str:
    return f"update of {session_id}"


def _nodes(client: exkiq.Client) -> None:
    """Refuse to begin with fewer than three living nodes."""
    try:
        members = client.request("status", timeout=5.0)["cluster"]["members"]
    except (ExkiqError, TimeoutError) as error:
        raise WrongUseError(f"{NODES_MIN} nodes are needed: {error}") from error
    alive = sum(member["state"] == "alive" for member in members)
    if alive < NODES_MIN:
        raise WrongUseError(f"{NODES_MIN} nodes are needed, {alive} are there")


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= SESSION_JOBS_MAX:
        raise argparse.ArgumentTypeError(
            f"N must be a number from 1 to {SESSION_JOBS_MAX}, not {text!r}"
        )
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/run_job", description=__doc__)
    parser.add_argument("count", metavar="N", type=_count, help="how many session jobs")
    parser.add_argument(
        "--url", help="exkiq://HOST:PORT,... (default: EXKIQ_URL, else the nodes of EXKIQ_CLUSTER)"
    )
    options = parser.parse_args()
    try:
        client = exkiq.connect(options.url, enqueue_timeout=TROUBLE_SECONDS)
        _nodes(client)
    except (WrongUseError, ConfigError) as error:
        print(f"scripts/run_job: {error}", file=sys.stderr)
        return 2
    check = Check(options.count)
    asyncio.run(check.run())
    for fault in check.faults:
        print(fault)
    return 1 if check.faults else 0


if __name__ == "__main__":
    sys.exit(main())
