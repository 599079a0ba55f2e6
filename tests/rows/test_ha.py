"""Rows HA: session jobs, and jobs that outlive the server they run on."""

from __future__ import annotations

import asyncio
import os
import re
import runpy
import signal
import subprocess
import sys
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import exkiq
from exkiq import client as clients
from exkiq import errors
from tests.cluster.harness import ROOT, Cluster, cluster, until
from tests.rows.jobs import (
    Account,
    Block,
    Climb,
    Diary,
    Kept,
    Linger,
    Quick,
    ledger,
)
from tests.rows.nodes import make_node
from tests.rows.session_app import saves_of, starts_of, stop_of

DRAIN_SECONDS = 0.5
# More than two node timeouts; EXKIQ_TEST_LINGER_SECONDS=60 for as long as it is meant.
LINGER_SECONDS = float(os.environ.get("EXKIQ_TEST_LINGER_SECONDS", "5"))
NODE_TIMEOUT_SECONDS = 2.0


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three processes that drain for half a second; a test starts again what it has stopped."""
    folder = tmp_path_factory.mktemp("three")
    options = ("--concurrency", "4", "--drain-timeout", str(DRAIN_SECONDS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEDGER", str(folder / "ledger"))
        with cluster(folder, 3, *options, app="tests.rows.jobs") as made:
            yield made


@pytest.fixture(scope="module")
def unreached(surroundings: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of scripts/run_job where no node is; it looks for some seconds."""
    with run_job("1", "--url", "exkiq://127.0.0.1:1") as run:
        yield run


# ---- HA-01: long jobs; they are begun first, and the other rows pass meanwhile -----------------


class Lingering(NamedTuple):
    """200 jobs that run at once, since that moment, on that node."""

    node: exkiq.Node
    client: exkiq.Client
    jobs: list[exkiq.Job]
    since: float


@pytest.fixture(scope="module")
def lingering(three: Cluster, unreached: subprocess.Popen[str]) -> Iterator[Lingering]:
    node = make_node(
        "lone", cluster="rows-lone", concurrency=200, node_timeout=NODE_TIMEOUT_SECONDS
    )
    client = exkiq.Client(f"exkiq://{node.start().wait_ready().address}")
    before = clients.use(client)
    jobs = Linger.perform_bulk([(LINGER_SECONDS,)] * 200)
    clients.use(before)
    yield Lingering(node, client, jobs, time.monotonic())
    client.close()
    node.stop(drain=0.0)


@pytest.fixture
def c(three: Cluster, lingering: Lingering) -> Iterator[Cluster]:
    """The three, all of them running, as the cluster of this process."""
    gone = [name for name in three.names if name not in three.alive]
    if gone:
        three.start(*gone)
        three.wait_ready()
    three.client()
    yield three
    clients.use(None)


# ---- HA-07: session jobs -----------------------------------------------------------------------


def diary(session_id: str) -> list[list[str]]:
    """What its handlers wrote down: begins or ends, the event's number, the attempt."""
    return [row[2:] for row in ledger() if row[:2] == ["diary", session_id]]


def test_HA_07_events_newest_first_and_the_id_last(c: Cluster) -> None:
    """The state that everyone has who writes no handler, asked for over each of the nodes."""
    assert Quick.start("quick") == ["quick"]
    for number, name in enumerate(c.names):
        c.client(name)
        Quick.update("quick", {"number": number})
    events = [{"number": number} for number in (2, 1, 0)]
    assert Quick.finish("quick") == [*events, "quick"]


def test_HA_07_an_id_is_taken_until_it_is_finished(c: Cluster) -> None:
    for _ in range(2):
        for verb in (Quick.finish, lambda name: Quick.update(name, 1)):
            with pytest.raises(errors.NoSuchJob, match="no session job 'twice'"):
                verb("twice")
        Quick.start("twice")
        with pytest.raises(errors.JobAlreadyExists, match="'twice' exists"):
            Quick.start("twice")
        assert Quick.finish("twice") == ["twice"]


def test_HA_07_of_two_that_start_at_once_one_wins(c: Cluster) -> None:
    def start(_: int) -> str:
        try:
            return str(Quick.start("race"))
        except errors.JobAlreadyExists:
            return "taken"

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(start, range(4))) == ["['race']", *["taken"] * 3]
    Quick.finish("race")


def test_HA_07_a_handler_that_fails_raises_at_the_caller_and_the_state_stays(c: Cluster) -> None:
    assert Account.start("sum") == 0
    assert Account.update("sum", -5) == -5
    with pytest.raises(errors.JobFailed, match="no such bank"):
        Account.update("sum", ["fail", "no such bank"])
    with pytest.raises(errors.JobFailed, match="SerializationError"):
        Account.update("sum", ["give", "a set"])
    with pytest.raises(errors.JobFailed, match="at most 262144 bytes"):
        Account.update("sum", ["give", 262_144])
    with pytest.raises(errors.JobFailed, match="keeps what its handlers return"):
        Account.update("sum", ["save", 1])
    with pytest.raises(errors.JobFailed, match="still in debt"):
        Account.finish("sum")
    assert Account.update("sum", 7) == 2
    assert Account.finish("sum") == 2
    assert exkiq.stats()["failed"] == 0


def test_HA_07_a_start_that_fails_leaves_nothing(c: Cluster) -> None:
    for _ in range(2):
        with pytest.raises(errors.JobFailed, match="no account for you"):
            Account.start("refused")
    with pytest.raises(errors.NoSuchJob):
        Account.update("refused", 1)


def test_HA_07_one_at_a_time_and_in_order_and_tried_again_in_its_turn(
    c: Cluster, tmp_path: Path
) -> None:
    """All slots are free, and still the second event waits until the first has its state."""
    gate = tmp_path / "gate"

    async def story() -> Any:
        await Diary.astart("diary")
        first = asyncio.create_task(Diary.aupdate("diary", [1, str(gate)]))
        await asyncio.to_thread(until, lambda: diary("diary"), 5.0, "the first event")
        second = asyncio.create_task(Diary.aupdate("diary", [2, "once"]))
        assert await Diary.astart("beside") == []
        assert await Diary.aupdate("beside", [1, None]) == [1]
        assert diary("diary") == [["begins", "1", "1"]]
        gate.touch()
        assert [await first, await second] == [[1], [1, 2]]
        await Diary.afinish("beside")
        return await Diary.afinish("diary")

    assert asyncio.run(story()) == [1, 2]
    assert diary("diary") == [
        *(["begins", "1", "1"], ["ends", "1", "1"]),
        *(["begins", "2", "1"], ["begins", "2", "2"], ["ends", "2", "2"]),
    ]


def test_HA_07_what_waits_behind_the_finish_is_told(c: Cluster, tmp_path: Path) -> None:
    """Its caller would wait until its time is over, for a session job that is gone."""
    gate = tmp_path / "gate"

    async def post(verb: Any, *args: Any) -> exkiq.Job:
        with pytest.raises(TimeoutError) as late:
            await verb("over", *args, timeout=0)
        return late.value.job

    async def story() -> None:
        await Diary.astart("over")
        await post(Diary.aupdate, [1, str(gate)])
        last = await post(Diary.afinish)
        behind = asyncio.create_task(Diary.aupdate("over", [2, None]))
        later = await post(Diary.aupdate, [3, None])  # then the one before is in the log, too
        gate.touch()
        assert await last.aresult() == [1]
        with pytest.raises(errors.NoSuchJob, match="'over' ended before this step"):
            await behind
        with pytest.raises(errors.JobCancelled):
            await later.aresult()

    asyncio.run(story())


def test_HA_07_wrong_use_is_told_at_once() -> None:
    for wrong in ("", "x" * 101, 7):
        with pytest.raises(ValueError, match="id must be a str of 1 to 100 characters"):
            Quick.start(wrong)  # type: ignore[arg-type]
    with pytest.raises(errors.SerializationError, match="event"):
        Quick.update("quick", {1, 2})
    with pytest.raises(TypeError, match="make a subclass of it"):
        exkiq.SessionJob.start("x")
    with pytest.raises(TypeError, match="on_update must be a method, not 5"):
        type("Odd", (exkiq.SessionJob,), {"on_update": 5})
    with pytest.raises(ValueError, match="Near: a session job is in the log, not in"):
        types.new_class("Near", (exkiq.SessionJob,), {"queue": exkiq.Local("near")})
    with pytest.raises(AttributeError, match="has no method perform"):
        Quick.perform_async()


# ---- HA-06: scripts/run_job --------------------------------------------------------------------

RUN_JOB = ROOT / "scripts" / "run_job_check" / "run.py"


def run_job(*words: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(RUN_JOB), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ},
    )


def url_of(c: Cluster) -> str:
    return "exkiq://" + ",".join(f"127.0.0.1:{c.ports[name]}" for name in c.names)


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """The script in this process: its exit code for the words after its name."""

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["run_job", *words])
        try:
            code = runpy.run_path(str(RUN_JOB))["main"]()
        except SystemExit as end:
            code = end.code
        return int(code)

    yield run
    clients.use(None)


def test_HA_06_a_state_that_is_wrong_is_named(
    c: Cluster,
    main: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Somebody else updates one of them between the phases."""
    started = Kept.astart

    async def start(session_id: str, timeout: float) -> None:
        await started(session_id, timeout=timeout)
        if session_id == "start2":
            await Kept.aupdate(session_id, "odd")

    monkeypatch.setattr(Kept, "astart", staticmethod(start))
    assert main("3", "--url", url_of(c)) == 1
    out, told = capsys.readouterr()
    assert out == (
        "start2: its state is ['update of start2', 'odd', 'start2'], "
        "not ['update of start2', 'start2']\n"
    )
    assert told == "3 session jobs started, now they are updated and finished\n"


@pytest.mark.parametrize("word", ["0", "-1", "many", "1.5", "10001"])
def test_HA_06_a_bad_number_is_told(
    word: str, main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("--", word) == 2
    out, told = capsys.readouterr()
    assert out == ""
    assert f"N must be a number from 1 to 10000, not '{word}'" in told


def test_HA_06_fewer_than_three_nodes_are_told(
    lingering: Lingering,
    unreached: subprocess.Popen[str],
    main: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main("1", "--url", f"exkiq://{lingering.node.address}") == 2
    assert capsys.readouterr() == ("", "scripts/run_job: 3 nodes are needed, 1 are there\n")
    _, told = unreached.communicate(timeout=30)
    assert unreached.returncode == 2
    assert told.startswith("scripts/run_job: 3 nodes are needed: ")


# ---- HA-08: hand-over --------------------------------------------------------------------------


def climbing(c: Cluster, gate: Path) -> tuple[str, list[exkiq.Job], list[exkiq.Job]]:
    """Four jobs with some steps behind them: a node that runs some, those, and the others."""
    jobs = Climb.perform_bulk([(str(gate),)] * 4)
    until(lambda: all(len(saves_of(job)) >= 8 for job in jobs), what="some steps of each")
    node = starts_of(jobs[0])[0].node
    (name,) = [name for name in c.names if c.processes[name].pid == node]
    theirs = [job for job in jobs if starts_of(job)[0].node == node]
    return name, theirs, [job for job in jobs if job not in theirs]


def test_HA_08_SIGTERM_hands_jobs_over_with_their_checkpoints(c: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    name, theirs, others = climbing(c, gate)
    told = time.monotonic()
    c.kill(name, how=signal.SIGTERM)
    assert (c.processes[name].returncode, time.monotonic() - told < 15) == (0, True)
    until(lambda: all(len(starts_of(job)) == 2 for job in theirs), 5.0, "their second start")
    for job in theirs:
        (first, second), (step, stopped) = starts_of(job), stop_of(job)
        assert (second.step, second.attempt, second.lost) == (step, 1, 0)
        assert second.node != first.node
        assert second.at - stopped < 1
    gate.touch()
    for job in theirs + others:
        assert job.result(timeout=10) >= 8
    assert [len(starts_of(job)) for job in others] == [1] * len(others)


def test_HA_06_HA_08_a_killed_node_costs_neither_the_run_nor_the_checkpoints(
    c: Cluster, tmp_path: Path
) -> None:
    """The node dies between the phases; the tests after this one find two."""
    gate = tmp_path / "gate"
    name, theirs, others = climbing(c, gate)
    with run_job("6", EXKIQ_URL=url_of(c)) as run:
        assert run.stderr is not None
        progress = run.stderr.readline()
        c.kill(name)
        until(lambda: all(len(starts_of(job)) == 2 for job in theirs), 10.0, "their second start")
        out, rest = run.communicate(timeout=30)
    assert "6 session jobs started" in progress
    assert (run.returncode, out, rest) == (0, "", "")
    for job in theirs:
        first, second = starts_of(job)
        assert 1 <= second.step <= max(saves_of(job))
        assert (first.step, second.attempt, second.lost) == (0, 1, 1)
    gate.touch()
    for job in theirs + others:
        assert job.result(timeout=10) >= 8


# ---- HA-01: long network jobs ------------------------------------------------------------------


def test_HA_01_200_jobs_at_once_start_once_and_their_node_is_never_called_lost(
    lingering: Lingering,
) -> None:
    """Their lease would run out while they wait, and every one of them would run twice."""
    assert LINGER_SECONDS > 2 * NODE_TIMEOUT_SECONDS
    for job in lingering.jobs:
        job.result(timeout=LINGER_SECONDS + 10)
    assert time.monotonic() - lingering.since >= LINGER_SECONDS
    starts = Counter(row[1] for row in ledger() if row[0] == "linger")
    assert starts == {job.id: 1 for job in lingering.jobs}
    assert lingering.client.stats()["succeeded"] == 200
    assert lingering.client.request("queues")["lingers"]["lost_total"] == 0


def test_HA_01_code_that_blocks_the_loop_is_named_and_not_started_twice(three: Cluster) -> None:
    three.client(*three.alive)
    job = Block.perform_async()
    job.result(timeout=10)
    clients.use(None)
    (told,) = re.findall(r"loop stands still for 1.\d s in (.*):Block", three.logs())
    assert told.endswith("tests.rows.session_app")
    assert [row for row in ledger() if row[0] == "block"] == [["block", job.id]]
