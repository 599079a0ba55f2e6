"""Nodes without Raft: one machine in its local house, behind as many doors as a test wants.

They answer the client protocol as real nodes do, and can be told to misbehave.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

from exkiq.clock import SystemClock
from exkiq.errors import ExkiqError, NoSuchJob
from exkiq.links import Link, Listener
from exkiq.machine import Applied, Refused, State, commands
from exkiq.queues import LocalHouse, error_of
from exkiq.queues.views import job_map, jobs_map, outcome_of, queues_map, stats_map
from exkiq.queues.watchers import Told, Watch, Watchers
from exkiq.wire import Hello
from exkiq.wire.codec import encode_value

CLOCK = SystemClock()


class Mood(Enum):
    """How a node treats its clients."""

    HONEST = "does what it is asked"
    MUTE = "hears, and says nothing"
    DEAF = "does what it is asked, and says nothing"
    DYING = "does what it is asked, and hangs up instead of saying so"
    LEADERLESS = "refuses every operation with NoQuorum"
    UNSURE = "does what it is asked, and says that it does not know"
    BEHIND = "knows of no job"
    BUSY = "hangs up at once"


class FakeNode:
    """One door to the house."""

    def __init__(self, cluster: FakeCluster, name: str, secret: bytes | None) -> None:
        self.name = name
        self.mood = Mood.HONEST
        self.asked: list[list[Any]] = []
        self.calls = 0
        self.links: list[Link] = []
        self.watches: dict[tuple[Link, int], Watch] = {}
        self.address = ""
        self.cluster = cluster
        self.listener = Listener(
            self._hello,
            secret,
            clock=CLOCK,
            nonce=os.urandom,
            on_client=self._on_client,
            on_peer=lambda link: link.close("no peers here"),
        )

    def _hello(self) -> Hello:
        return Hello("member", self.name, "run", "life", self.address, self.cluster.name)

    @property
    def url(self) -> str:
        return f"exkiq://{self.address}"

    def verbs(self) -> list[str]:
        """What it was asked so far."""
        return [message[1] for message in self.asked]

    def _on_client(self, link: Link) -> None:
        self.calls += 1
        if self.mood is Mood.BUSY:
            link.close("busy")
            return
        self.links.append(link)
        link.on_message = self._on_message
        link.on_close = self._on_close
        if self.cluster.announced:
            link.send([0, "members", self.cluster.announced])

    def _on_close(self, link: Link, reason: str) -> None:
        self.links.remove(link)
        for watched, rid in list(self.watches):
            if watched is link:
                self._unwatch(link, rid)

    def _on_message(self, link: Link, message: list[Any]) -> None:
        self.asked.append(message)
        rid, verb, *args = message
        mood = self.mood
        if mood is Mood.MUTE:
            return
        if mood is Mood.LEADERLESS and verb == "propose":
            link.send([rid, 1, "NoQuorum", "no leader"])
            return

        def answer(value: Any) -> None:
            if mood is Mood.DYING:
                link.close("dying")
            elif mood is Mood.UNSURE:
                link.send([rid, 1, "OutcomeUnknown", "the leader was lost"])
            elif mood is not Mood.DEAF and isinstance(value, ExkiqError):
                link.send([rid, 1, type(value).__name__, str(value)])
            elif mood is not Mood.DEAF:
                link.send([rid, 0, value])

        if mood is Mood.BEHIND and verb in ("job", "result", "watch"):
            answer(None if verb == "job" else NoSuchJob("not here"))
        elif verb == "watch":
            self._watch(link, rid, *args)
        elif verb == "unwatch":
            self._unwatch(link, *args)
            answer(True)
        else:
            self.cluster.verbs[verb](answer, *args)

    def _watch(self, link: Link, rid: int, job_id: str, seen: int) -> None:
        def tell(_: Watch, told: Told, is_last: bool) -> None:
            if isinstance(told, ExkiqError):
                link.send([rid, 1, type(told).__name__, str(told)])
            elif self.mood is Mood.HONEST:
                link.send([rid, 0 if is_last else 2, told])

        self.watches[link, rid] = self.cluster.watchers.watch(job_id, seen, tell)

    def _unwatch(self, link: Link, rid: int) -> None:
        self.cluster.watchers.drop(self.watches.pop((link, rid)))

    def hang_up(self) -> None:
        for link in list(self.links):
            link.close("hung up")


class FakeCluster:
    """The house, its doors, and the thread they live on."""

    def __init__(self, name: str = "default") -> None:
        self.name = name
        self.announced: list[str] = []
        self.house = LocalHouse(CLOCK)
        self.house.subscribe(self._applied)
        self.watchers = Watchers(lambda: self.house.machine, self._later)
        self.house.subscribe(self.watchers.applied)
        self.progress: dict[str, bytes] = {}
        self.nodes: list[FakeNode] = []
        self.verbs: dict[str, Callable[..., None]] = {
            "propose": self._propose,
            "job": self._job,
            "result": self._result,
            "jobs": self._jobs,
            "stats": lambda answer: answer(stats_map(self.house.machine)),
            "queues": lambda answer: answer(queues_map(self.house.machine, CLOCK.now_ms())),
            "ping": lambda answer: answer(True),
            "progress": lambda answer, job_id: answer(self.progress.get(job_id)),
        }
        self._waiting: dict[str, list[Callable[[Any], None]]] = {}
        self._pids = 0
        self.session = 0
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="fake nodes")
        self._thread.start()

    # ---- for tests, from their thread ----------------------------------------------------------

    def on_loop(self, action: Callable[..., Any], *args: Any) -> Any:
        async def run() -> Any:
            result = action(*args)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(timeout=5)

    def start_node(
        self,
        name: str = "",
        *,
        port: int = 0,
        unix: Path | None = None,
        secret: bytes | None = None,
    ) -> FakeNode:
        async def start() -> FakeNode:
            node = FakeNode(self, name or f"n{len(self.nodes) + 1}", secret)
            if unix is not None:
                node.listener.start_unix(unix)
                node.address = f"unix:{unix}"
            else:
                node.address = await node.listener.start("127.0.0.1", port)
            return node

        node: FakeNode = self.on_loop(start)
        self.nodes.append(node)
        return node

    def stop_node(self, node: FakeNode) -> None:
        """As if its process had been killed."""

        async def stop() -> None:
            await node.listener.stop()
            links = list(node.links)
            node.hang_up()
            for link in links:
                await link.wait_closed()

        self.on_loop(stop)

    def stop(self) -> None:
        for node in self.nodes:
            self.stop_node(node)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    @property
    def jobs(self) -> dict[str, Any]:
        return self.house.machine.jobs

    def begin(self, *job_ids: str) -> None:
        """The worker node starts these jobs."""
        self.on_loop(self._begin, job_ids)

    def finish(self, job_id: str, value: Any) -> None:
        """The worker node runs the job; a pair is (error kind, text) in place of a value."""
        self.on_loop(self.finish_here, job_id, value)

    def fail(self, job_id: str, decision: list[Any], message: str = "broken") -> None:
        """The worker node fails the job with a ValueError."""
        self.begin(job_id)
        self.on_loop(
            self._report,
            job_id,
            lambda fence: commands.fail(
                self._pid(),
                self.session,
                [[job_id, fence, decision, ["ValueError", message, "the traceback"], 1]],
            ),
        )

    def hand_back(self, job_id: str, *, is_lost: bool = False) -> None:
        """The worker node gives a running job back, or its process is lost."""
        self.on_loop(
            self._report,
            job_id,
            lambda fence: commands.hand_back(
                self._pid(), self.session, [job_id], [fence], is_lost=is_lost
            ),
        )

    # ---- on the loop ---------------------------------------------------------------------------

    def finish_here(self, job_id: str, value: Any) -> None:
        if self.jobs[job_id].state is not State.RUNNING:
            self._begin((job_id,))
        kept = value if isinstance(value, tuple) or value is None else encode_value(value)
        self._report(
            job_id,
            lambda fence: commands.complete(self._pid(), self.session, [job_id], [fence], [kept]),
        )

    def _later(self, delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self.loop.call_later(delay, call)

    def _pid(self) -> bytes:
        self._pids += 1
        return b"worker" + self._pids.to_bytes(6, "big")

    def _begin(self, job_ids: tuple[str, ...]) -> None:
        if not self.session:
            self.house.propose_nowait(commands.session_begin(self._pid(), "w1", "r1", "w1:1"))
            self.session = self.house.machine.index
        self.house.propose_nowait(commands.claim(self._pid(), [("w1", self.session, job_ids)]))

    def _report(self, job_id: str, command: Callable[[int], bytes]) -> None:
        self.house.propose_nowait(command(self.jobs[job_id].fence))

    def _propose(self, answer: Callable[[Any], None], op: bytes, timeout_ms: int) -> None:
        assert timeout_ms > 0

        def done(outcome: Any) -> None:
            answer(error_of(outcome) if isinstance(outcome, Refused) else outcome)

        self.house.propose_with(op, timeout_ms / 1000, done)

    def _job(self, answer: Callable[[Any], None], job_id: str) -> None:
        record = self.jobs.get(job_id)
        answer(None if record is None else job_map(record))

    def _jobs(self, answer: Callable[[Any], None], *args: Any) -> None:
        queue, state, limit, offset = args
        state = None if state is None else State(state)
        answer(jobs_map(self.house.machine, queue, state, limit=limit, offset=offset))

    def _result(self, answer: Callable[[Any], None], job_id: str, timeout_ms: int) -> None:
        record = self.jobs.get(job_id)
        if record is None:
            answer(NoSuchJob(f"no job has the id {job_id!r}"))
        elif (outcome := outcome_of(record)) is not None:
            answer(outcome)
        elif timeout_ms == 0:
            answer(["pending"])
        else:
            timer = self.loop.call_later(timeout_ms / 1000, self._out_of_time, job_id, answer)

            def tell(outcome: Any) -> None:
                timer.cancel()
                answer(outcome)

            self._waiting.setdefault(job_id, []).append(tell)

    def _out_of_time(self, job_id: str, answer: Callable[[Any], None]) -> None:
        self._waiting.pop(job_id, None)
        answer(["pending"])

    def _applied(self, applied: Applied) -> None:
        for record in applied.ended:
            for tell in self._waiting.pop(record.id, []):
                tell(outcome_of(record))
